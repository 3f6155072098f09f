"""What a brokerage consists of: the table of its processes."""

import ems.config
from ops import database, leftover, postgres, supervise
from ops.supervise import PYTHON, Program
from runtime.settings import Settings

SERVICES = ("ledger", "ems", "marketdata", "oms")


def programs(settings: Settings) -> list[Program]:
    """In the order in which `status` shows them."""
    data = str(settings.data)
    venue = Program("venue", [PYTHON, "-m", "exchange", "--config", f"{data}/venue/venue.toml"])
    services = [Program(name, [PYTHON, "-m", name, "--data", data]) for name in SERVICES]
    engines = [
        Program(name, [PYTHON, "-m", "ems.engine", "--data", data, "--venue", venue_name])
        for name, venue_name in engine_names(settings).items()
    ]
    tracer = Program("tracer", [PYTHON, "-m", "ops.tracer", "--data", data])
    return [*_own_postgres(settings), venue, *services, *engines, tracer]


def _own_postgres(settings: Settings) -> list[Program]:
    if database.is_external(settings.data):
        return []
    command = postgres.command(settings.data / "pg", settings.port("postgres"))
    return [Program("postgres", command, postgres.system_user(), stop_signal="INT", priority=1)]


def engine_names(settings: Settings) -> dict[str, str]:
    """Program -> venue: `engine` for the first venue, `engine_NAME` for each further one."""
    names = [venue.name for venue in settings.section("ems", ems.config.Config).venues]
    return {"engine" if number == 0 else f"engine_{name}": name for number, name in enumerate(names)}


def leftovers(settings: Settings) -> list[int]:
    """Pids of this brokerage's processes, whoever started them and whether or not a supervisor watches them."""
    return leftover.find([supervise.command(settings.data), *(program.command for program in programs(settings))])
