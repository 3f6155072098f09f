"""PostgreSQL: named queries from .sql files, pools, migrations."""

import asyncio
import hashlib
import random
import re
from pathlib import Path
from typing import Any

import asyncpg
import structlog

log = structlog.get_logger()

Connection = asyncpg.pool.PoolConnectionProxy | asyncpg.Connection
Pool = asyncpg.Pool
Row = asyncpg.Record

ACQUIRE_SECONDS = 5.0

# What a dying or absent server raises. Whether a commit under way was done is then unknown.
LOST = (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
RESTARTING = (asyncpg.CannotConnectNowError, asyncpg.AdminShutdownError, asyncpg.CrashShutdownError)
UNREACHABLE = (*LOST, *RESTARTING, asyncpg.TooManyConnectionsError)


class Queries:
    """The statements of one .sql file, each after a line `-- name: NAME`, as attributes."""

    def __init__(self, path: Path) -> None:
        parts = re.split(r"^-- name: (\w+)\n", path.read_text(), flags=re.MULTILINE)
        self._statements = dict(zip(parts[1::2], (text.strip() for text in parts[2::2]), strict=True))

    def __getattr__(self, name: str) -> str:
        try:
            return str(self._statements[name])
        except KeyError:
            raise AttributeError(name) from None


def with_role(url: str, user: str, password: str) -> str:
    """The same server and database, as another role."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{user}:{password}@{rest.rpartition('@')[2]}"


async def patiently(connect: Any, what: str) -> Any:
    """`connect()` once the server answers: it may start after us, or be restarted beside us."""
    for attempt in range(1_000_000):
        try:
            return await connect()
        except UNREACHABLE as problem:
            if attempt % 20 == 0:
                log.warning("waiting for PostgreSQL", what=what, problem=repr(problem))
            await asyncio.sleep(random.uniform(0.05, 0.25))
    raise AssertionError("unreachable")


async def _leave(_: Connection) -> None:
    """No session state is ever set, so there is none to reset: that would be a round trip a use."""


async def pool(url: str, schema: str, *, size: int = 8) -> Pool:
    """A pool whose connections see `schema` only. Waits for the server."""
    settings = {"search_path": schema, "application_name": f"openbell {schema}", "timezone": "UTC"}
    return await patiently(  # type: ignore[no-any-return]
        lambda: asyncpg.create_pool(url, min_size=1, max_size=size, server_settings=settings, timeout=5, reset=_leave),
        schema,
    )


# Given out once with another text, under which databases exist; the migration after it makes both the same.
REISSUED = {"0002_ledger.sql": "0070305103d5bab7898c2cdea06b56e914fce676d473f50e979081438d874e99"}


async def migrate(url: str, schema: str, service_password: str, directories: list[Path]) -> None:
    """Brings `schema` up to date with the .sql files of `directories`, each file once, in order of its name.

    The schema belongs to a role that cannot log in; the service's role gets what the files grant to `:service`. Roles
    are named after the database, so that several brokerages share a server. An edited file is a ValueError.
    """
    connection = await patiently(lambda: asyncpg.connect(url, timeout=5), "migrations")
    try:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext('openbell migrations'))")
            await _prepare(connection, schema, service_password)
            done = dict(await connection.fetch(f"SELECT name, sha256 FROM {schema}.migrations"))
            files = [path for directory in directories for path in sorted(directory.glob("*.sql"))]
            for path in files:
                await _apply(connection, schema, path, done)
    finally:
        await connection.close()


async def roles(connection: Connection, schema: str) -> tuple[str, str]:
    """(owner, service) role names of a schema in this database."""
    database = await connection.fetchval("SELECT current_database()")
    return f"{database}_{schema}_owner", f"{database}_{schema}"


async def _prepare(connection: Connection, schema: str, service_password: str) -> None:
    owner, service = await roles(connection, schema)
    known = {row["rolname"] for row in await connection.fetch("SELECT rolname FROM pg_roles")}
    if owner not in known:
        await connection.execute(f'CREATE ROLE "{owner}" NOLOGIN; GRANT "{owner}" TO CURRENT_USER')
    if service not in known:
        await connection.execute(f'CREATE ROLE "{service}" LOGIN')
    quoted = await connection.fetchval("SELECT quote_literal($1)", service_password)
    await connection.execute(
        f"""ALTER ROLE "{service}" PASSWORD {quoted};
            CREATE SCHEMA IF NOT EXISTS {schema} AUTHORIZATION "{owner}";
            GRANT USAGE ON SCHEMA {schema} TO "{service}";
            CREATE TABLE IF NOT EXISTS {schema}.migrations (name text PRIMARY KEY, sha256 text NOT NULL)"""
    )


async def _apply(connection: Connection, schema: str, path: Path, done: dict[str, str]) -> None:
    text = path.read_text()
    digest = hashlib.sha256(text.encode()).hexdigest()
    if path.name in done:
        if done[path.name] not in (digest, REISSUED.get(path.name)):
            raise ValueError(f"{path} was edited after it was applied; add a new migration instead")
        return
    owner, service = await roles(connection, schema)
    await connection.execute(f'SET LOCAL ROLE "{owner}"; SET LOCAL search_path = {schema}')
    await connection.execute(text.replace(":service", f'"{service}"'))
    await connection.execute("RESET ROLE; RESET search_path")
    await connection.execute(f"INSERT INTO {schema}.migrations VALUES ($1, $2)", path.name, digest)
    log.info("migrated", schema=schema, file=path.name)
