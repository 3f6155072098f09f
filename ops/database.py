"""The database under a brokerage: openbell's own PostgreSQL, or another one by URL; the services' schemas in it."""

import os
from pathlib import Path

import asyncpg

from ops import postgres, secret_files
from ops.failure import Failure
from runtime import db
from runtime.settings import Settings

QUERIES = db.Queries(Path(__file__).parent / "sql" / "queries.sql")
ROOT = Path(__file__).parent.parent
EXTERNAL = "database_url"  # in DATA/secrets: the PostgreSQL that the user named
VARIABLE = "OPENBELL_DATABASE_URL"
CONNECT_SECONDS = 5


def is_external(data: Path) -> bool:
    return (data / "secrets" / EXTERNAL).exists()


def choose(data: Path) -> None:
    """Own or external is decided at the first start, and remembered: nobody wants to find an empty database."""
    given = os.environ.get(VARIABLE)
    if not given:
        return
    if (data / "pg").exists():
        raise Failure(f"{data} has its own PostgreSQL: unset {VARIABLE}, or start another brokerage there with --data")
    secret_files.write(data, EXTERNAL, given)


async def prepare(settings: Settings) -> None:
    """The database, its schemas and roles, and the URLs in DATA/secrets. The server must run."""
    data = settings.data
    admin_url = await _external(data) if is_external(data) else await _own(settings)
    for schema in secret_files.SCHEMAS:
        await _migrate(admin_url, schema, secret_files.password(data, schema))
    connection = await asyncpg.connect(admin_url, timeout=CONNECT_SECONDS)
    try:
        names = {schema: (await db.roles(connection, schema))[1] for schema in secret_files.SCHEMAS}
    finally:
        await connection.close()
    secret_files.write_database_urls(data, admin_url, names)


async def _migrate(admin_url: str, schema: str, password: str) -> None:
    try:
        await db.migrate(admin_url, schema, password, migrations(schema))
    except (asyncpg.PostgresError, ValueError) as problem:  # no right to make roles; a file that was edited
        raise Failure(f"cannot bring the schema {schema} up to date: {problem}") from None


def migrations(schema: str) -> list[Path]:
    """Where the files of a schema are: those of every schema first."""
    return [ROOT / room / "sql" / "migrations" for room in ("runtime", schema)]


async def _external(data: Path) -> str:
    url = (data / "secrets" / EXTERNAL).read_text().strip()
    try:
        connection = await asyncpg.connect(url, timeout=CONNECT_SECONDS)
    except (*db.UNREACHABLE, asyncpg.PostgresError, ValueError) as problem:
        raise Failure(f"cannot use the PostgreSQL of {VARIABLE}: {problem or type(problem).__name__}") from None
    await connection.close()
    return url


async def _own(settings: Settings) -> str:
    password = secret_files.password(settings.data, "admin")
    port = settings.port("postgres")
    server = postgres.url(port, password, "postgres")
    connection = await db.patiently(lambda: asyncpg.connect(server, timeout=CONNECT_SECONDS), "start")
    try:
        if not await connection.fetchval(QUERIES.database_exists):
            await connection.execute(QUERIES.create_database)
    finally:
        await connection.close()
    return postgres.url(port, password, "openbell")


async def answers(settings: Settings) -> bool:
    """Whether PostgreSQL lets somebody in."""
    try:
        connection = await asyncpg.connect(settings.secret("database_admin"), timeout=1)
    except db.UNREACHABLE:
        return False
    await connection.close()
    return True
