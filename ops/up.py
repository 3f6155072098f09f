"""`openbell up`: from a directory, which may be empty, to a brokerage that answers."""

import asyncio
import os
import time
from pathlib import Path
from typing import Annotated

import typer

from ops import config, database, directory, health, ports, postgres, secret_files, supervise, venue_file
from ops.failure import Failure
from ops.options import DEFAULT_DATA, Data
from ops.programs import leftovers, programs
from ops.show import command
from runtime import crash
from runtime.settings import Settings, load

QUIET_SECONDS = 2.0
POLL_SECONDS = 0.2

ConfigFile = Annotated[Path | None, typer.Option("--config", help="openbell.toml, if not the one here.")]
PortBase = Annotated[int | None, typer.Option("--port-base", help="First of the ports to use; 7400 by default.")]


def up(config_file: ConfigFile = None, data: Data = DEFAULT_DATA, port_base: PortBase = None) -> None:
    """Start the brokerage, and wait until it answers."""
    _check_crash_point()
    before = _last_start(data.resolve())
    settings = Settings(data.resolve(), config.resolve(config_file, port_base, before.sections if before else None))
    directory.prepare(settings.data)
    with directory.locked(settings.data):
        if before and supervise.is_running(settings.data):
            asyncio.run(_until_up(before, before.section("ops", config.Ops).start_seconds))
            typer.echo(f"The brokerage in {data} already runs; look with: {command('status', data)}")
            if before.sections != settings.sections:
                typer.echo(f"It runs with other settings; for these, first: {command('down', data)}")
            return
        started = time.monotonic()
        _start(settings)
        asyncio.run(_until_up(settings, settings.section("ops", config.Ops).start_seconds))
    seconds = time.monotonic() - started
    typer.echo(f"The brokerage in {data} is up ({seconds:.0f} s); stop it with: {command('down', data)}")


def _last_start(data: Path) -> Settings | None:
    return load(data) if (data / "settings.json").exists() else None


def _check_crash_point() -> None:
    """The processes inherit it; one that does not exist would end each of them at its start."""
    name = os.environ.get("OPENBELL_CRASH")
    if name and not name.startswith("@") and name not in crash.POINTS:
        raise Failure(f"OPENBELL_CRASH={name}: no such point; there are {', '.join(sorted(crash.POINTS))}")


def _start(settings: Settings) -> None:
    data = settings.data
    database.choose(data)
    _refuse_leftovers(settings)
    ports.require_free(settings.port_base)
    directory.write_settings(data, settings.sections)
    secret_files.make_all(data)
    venue_file.write(settings)
    if not database.is_external(data):
        _make_cluster(settings)
    supervise.write_config(data, programs(settings))
    supervise.launch(data)
    try:
        _start_programs(settings)
    except BaseException:  # half a brokerage would pass for one that runs
        supervise.stop(data, settings.section("ops", config.Ops).stop_seconds)
        raise


def _start_programs(settings: Settings) -> None:
    """The database first, alone until its schemas are there; then all others at once."""
    if not database.is_external(settings.data):
        supervise.start(settings.data, "postgres")
    asyncio.run(_prepare_database(settings))
    supervise.start_all(settings.data)


def _refuse_leftovers(settings: Settings) -> None:
    """Looks for those of the last start: this one may have other ports."""
    if leftovers(_last_start(settings.data) or settings):
        raise Failure(
            f"processes of the brokerage in {settings.data} still run without their supervisor:"
            f" end them with: {command('down', settings.data)}"
        )


def _make_cluster(settings: Settings) -> None:
    pg = settings.data / "pg"
    if not pg.exists():
        typer.echo(f"Making a PostgreSQL database in {pg}")
    postgres.initialise(pg, secret_files.password(settings.data, "admin"))


async def _prepare_database(settings: Settings) -> None:
    try:
        async with asyncio.timeout(settings.section("ops", config.Ops).start_seconds):
            await database.prepare(settings)
    except TimeoutError:
        raise Failure(f"PostgreSQL does not answer; see {settings.data}/log/postgres.log") from None


async def _until_up(settings: Settings, seconds_max: float) -> None:
    """Waits for every process, and says every two seconds for which."""
    started = said = time.monotonic()
    while True:
        rows = await health.rows(settings)
        missing = [row for row in rows if not row.is_up]
        if rows and not missing:
            return
        now = time.monotonic()
        if now - started > seconds_max:
            raise Failure(_not_up(settings, missing, seconds_max))
        if now - said > QUIET_SECONDS:
            said = now
            typer.echo(f"{now - started:.0f} s, waiting for " + ", ".join(row.name for row in missing))
        await asyncio.sleep(POLL_SECONDS)


def _not_up(settings: Settings, missing: list[health.Row], seconds_max: float) -> str:
    what = ", ".join(f"{row.name}: {row.health}, see {settings.data}/log/{row.name}.log" for row in missing)
    return f"not up after {seconds_max:.0f} s: {what}; the rest runs; stop it with: {command('down', settings.data)}"
