"""A bare PostgreSQL for tests of one service, and fresh databases in it."""

import itertools
import shutil
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from ops import postgres
from ops.database import migrations
from ops.secret_files import SCHEMAS
from runtime import db
from tests.brokerage import new_directory, until

PASSWORD = "test"
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Database:
    """`admin_url` may do all; `urls[schema]` is what that schema's service may."""

    name: str
    admin_url: str
    urls: dict[str, str]


class Cluster:
    """One server; `stop` ends it and removes its directory."""

    def __init__(self) -> None:
        self.directory = new_directory()
        self.port = free_port()
        pg = self.directory / "pg"
        postgres.initialise(pg, PASSWORD)
        user = postgres.system_user()
        self._log = (self.directory / "log").open("w")
        self._server = subprocess.Popen(
            postgres.command(pg, self.port),
            user=user,
            group=user,
            extra_groups=[] if user else None,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            cwd="/",
        )
        until(self._answers, f"PostgreSQL listens; see {self.directory}/log")

    def _answers(self) -> bool:
        command = [str(postgres.binary("pg_isready")), "--host=127.0.0.1", f"--port={self.port}"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def url(self, database: str) -> str:
        return postgres.url(self.port, PASSWORD, database)

    def stop(self) -> None:
        self._server.terminate()
        try:
            self._server.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()
        self._log.close()
        shutil.rmtree(self.directory)

    async def empty_database(self) -> str:
        """Name of a new one."""
        name = f"test_{next(_numbers)}"
        connection = await asyncpg.connect(self.url("postgres"))
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()
        return name

    async def database(self, schemas: Sequence[str] = SCHEMAS) -> Database:
        """A new database with these schemas, migrated."""
        name = await self.empty_database()
        for schema in schemas:
            await db.migrate(self.url(name), schema, PASSWORD, migrations(schema))
        urls = {schema: db.with_role(self.url(name), f"{name}_{schema}", PASSWORD) for schema in schemas}
        return Database(name, self.url(name), urls)

    def dump(self, name: str, schema: str) -> str:
        """Its definition, as pg_dump writes it."""
        command = [str(postgres.binary("pg_dump")), "--schema-only", f"--schema={schema}", self.url(name)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def schema_file(schema: str) -> Path:
    return migrations(schema)[1].parent / "schema.sql"
