"""What a reviewer would otherwise have to look for, file by file."""

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from ops.database import migrations
from ops.secret_files import SCHEMAS
from runtime import crash, db
from tests.cluster import PASSWORD, Cluster, schema_file

ROOT = Path(__file__).parent.parent
ROOMS = ("oms", "ems", "ledger", "marketdata", "exchange", "runtime", "ops")
SERVICES = ("oms", "ems", "ledger", "marketdata")
DOORS = ("__init__.py", "__main__.py", "config.py", "service.py", "reasons.py", "README.md")

# Rules without I/O, clock or environment; prices and quantities in integers.
CORES = (
    "oms/orders.py",
    "ledger/accounts.py",
    "ledger/book.py",
    "ledger/bookings.py",
    "ledger/commands.py",
    "ledger/compare.py",
    "ledger/recompute.py",
    "ledger/trades.py",
    "ems/fix.py",
    "ems/plan.py",
    "ems/routes.py",
    "exchange/auction.py",
    "exchange/book.py",
    "exchange/checks.py",
    "exchange/dictionary.py",
    "exchange/market.py",
    "exchange/operations.py",
    "exchange/orders.py",
    "exchange/phases.py",
    "exchange/requests.py",
    "exchange/rules.py",
    "exchange/sequence.py",
    "exchange/session.py",
    "exchange/stops.py",
    "exchange/trading.py",
    "exchange/wire.py",
    "marketdata/book.py",
    "runtime/fees.py",
    "runtime/units.py",
)
OUTSIDE_WORLD = frozenset(
    {"asyncio", "asyncpg", "grpc", "os", "quickfix", "random", "socket", "subprocess", "threading", "time"}
)
CLOCKS = frozenset({"now", "today", "utcnow"})

FUNCTION_LINES_MAX = 45
MODULE_LINES_MAX = 400
GENERATED = {"runtime/calendar_table.py"}

SQL = re.compile(
    r"\b(SELECT\s.+\sFROM|INSERT\s+INTO|UPDATE\s+\w+\s+SET|DELETE\s+FROM|(CREATE|ALTER|DROP)\s+(TABLE|ROLE|SCHEMA|DATABASE))\b",
    re.DOTALL,
)
WITH_SQL = {"runtime/db.py"}  # roles and schemas have no place in a service's own files


@cache
def sources() -> dict[str, str]:
    """Path from the root -> text of each module in the rooms, committed or about to be."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *(f"{room}/*.py" for room in ROOMS)]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return {name: (ROOT / name).read_text() for name in sorted(set(names)) if (ROOT / name).exists()}


@cache
def trees() -> dict[str, ast.Module]:
    return {name: ast.parse(text) for name, text in sources().items()}


def nodes(names: Iterator[str] | tuple[str, ...]) -> Iterator[tuple[str, ast.AST]]:
    for name in names:
        for node in ast.walk(trees()[name]):
            yield name, node


def everywhere() -> Iterator[tuple[str, ast.AST]]:
    return nodes(tuple(trees()))


def test_there_are_modules_in_every_room() -> None:
    assert {name.split("/")[0] for name in sources()} == set(ROOMS)
    assert set(CORES) <= set(sources())


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_the_same_doors(service: str) -> None:
    assert [door for door in DOORS if not (ROOT / service / door).exists()] == []


def test_functions_fit_on_a_screen() -> None:
    long = [
        f"{name}:{node.lineno} {node.name}"
        for name, node in everywhere()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > FUNCTION_LINES_MAX
    ]
    assert long == []


def test_modules_stay_small() -> None:
    counts = {name: text.count("\n") for name, text in sources().items() if name not in GENERATED}
    assert {name: count for name, count in counts.items() if count > MODULE_LINES_MAX} == {}


def test_no_float_comes_near_money() -> None:
    floats = [
        f"{name}:{node.lineno}"
        for name, node in nodes(CORES)
        if (isinstance(node, ast.Constant) and isinstance(node.value, float))
        or (isinstance(node, ast.Name) and node.id == "float")
        or (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div))
    ]
    assert floats == []


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


def test_the_cores_see_no_clock_and_no_outside_world() -> None:
    outside = [
        f"{name}:{getattr(node, 'lineno', 0)}"
        for name, node in nodes(CORES)
        if OUTSIDE_WORLD & {module.split(".")[0] for module in imported(node)}
        or (isinstance(node, ast.Attribute) and node.attr in CLOCKS)
    ]
    assert outside == []


def test_sql_stands_in_sql_files() -> None:
    found = [
        f"{name}:{node.lineno}"
        for name, node in everywhere()
        if name not in WITH_SQL and isinstance(node, ast.Constant) and isinstance(node.value, str)
        if SQL.search(node.value)
    ]
    assert found == []


def is_broad(handler: ast.ExceptHandler) -> bool:
    names = {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)} if handler.type else set()
    return handler.type is None or bool(names & {"Exception", "BaseException"})


def ends_in_raise(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def test_a_broad_except_says_why() -> None:
    """By a reason after `noqa: BLE001`; one that raises the same again hides nothing."""
    silent = [
        f"{name}:{node.lineno}"
        for name, node in everywhere()
        if isinstance(node, ast.ExceptHandler) and is_broad(node) and not ends_in_raise(node)
        if not re.search(r"# noqa: BLE001\s+\S+", sources()[name].splitlines()[node.lineno - 1])
    ]
    assert silent == []


def test_every_crash_point_is_in_the_code_once_and_every_one_in_the_code_is_listed() -> None:
    found = [match for text in sources().values() for match in re.findall(r'\bpoint\("([^"]+)"\)', text)]
    assert sorted(found) == sorted(crash.POINTS)


def normal(dump: str, database: str) -> list[str]:
    """A dump without what depends on the database's name, on the order of columns, or on pg_dump's mood."""
    lines = (line.strip().rstrip(",").replace(database, "DATABASE") for line in dump.splitlines())
    return sorted(line for line in lines if line and not line.startswith(("--", "\\")))


@pytest.mark.parametrize("schema", SCHEMAS)
async def test_the_migrations_add_up_to_the_schema_file(cluster: Cluster, tmp_path: Path, schema: str) -> None:
    migrated = await cluster.database([schema])
    (tmp_path / "9999_schema.sql").write_text(schema_file(schema).read_text())
    at_once = await cluster.empty_database()
    await db.migrate(cluster.url(at_once), schema, PASSWORD, [migrations(schema)[0], tmp_path])
    dumps = [normal(cluster.dump(name, schema), name) for name in (migrated.name, at_once)]
    assert len(dumps[0]) > 10
    assert dumps[0] == dumps[1]


def test_uv_is_installed_in_the_version_that_is_locked() -> None:
    lock = (ROOT / "uv.lock").read_text()
    package = lock[lock.index('[[package]]\nname = "uv"\n') :].split("[[package]]")[1]
    pinned = (ROOT / "deploy" / "uv.txt").read_text()
    versions = re.findall(r'^version = "(.+)"', package, re.MULTILINE)
    assert re.findall(r"^uv==(\S+)", pinned, re.MULTILINE) == versions
    assert set(re.findall(r"sha256:\w+", pinned)) == set(re.findall(r"sha256:\w+", package))
