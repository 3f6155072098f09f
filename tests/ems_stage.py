"""The EMS as it runs, on a stage of its own: service, engine and venue as processes, a database, a client."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Self

import asyncpg
import grpc

from openbell.ems.v1 import ems_pb2, ems_pb2_grpc
from openbell.fix.v1 import fix_pb2
from ops import postgres
from runtime import auth, connect
from runtime.connect import metadata
from runtime.settings import Settings
from tests.brokerage import free_port_base, new_directory
from tests.cluster import Cluster, Database
from tests.exchange_process import VenueProcess

CHECKOUT = Path(__file__).parent.parent
WAIT_SECONDS = 20.0
ACCOUNT = "acc_1"
# Popen's own way to another user forks, and a fork beside gRPC's threads can crash.
AS_USER = """
import os, pwd, sys
owner = pwd.getpwuid(int(os.environ["OWNER"]))
if os.getuid() == 0:
    os.initgroups(owner.pw_name, owner.pw_gid)
    os.setgid(owner.pw_gid)
    os.setuid(owner.pw_uid)
os.execv(sys.argv[1], sys.argv[1:])
"""
HEALTHY = 'openbell_fix_session_healthy{venue="XSIM"} 1.0'


async def until(condition: Callable[[], Awaitable[Any]], what: str, seconds: float = WAIT_SECONDS) -> Any:
    """The condition's first true value. AssertionError naming `what` if it does not come in time."""
    deadline = time.monotonic() + seconds
    while not (found := await condition()):
        assert time.monotonic() < deadline, f"after {seconds} s still not: {what}"
        await asyncio.sleep(0.02)
    return found


def buy(cl_ord_id: str, quantity: int = 10, *, position: int = 1, seconds: float = 60, **fields: Any) -> Any:
    """A market order for AAPL, to be sent within `seconds`; `fields` are those of NewOrder."""
    given: dict[str, Any] = {
        "symbol": "AAPL",
        "side": fix_pb2.SIDE_BUY,
        "ord_type": fix_pb2.ORD_TYPE_MARKET,
        "time_in_force": fix_pb2.TIME_IN_FORCE_DAY,
        "quantity": quantity,
    }
    return ems_pb2.Command(
        position=position,
        cl_ord_id=cl_ord_id,
        order_id=f"ord_{cl_ord_id}",
        account_id=ACCOUNT,
        send_by_ns=time.time_ns() + int(seconds * 1_000_000_000),
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        new_order=ems_pb2.NewOrder(**given | fields),
    )


class MortalCluster(Cluster):
    """A PostgreSQL that a test may kill and start again."""

    def kill(self) -> None:
        """kill -9."""
        self._server.kill()
        self._server.wait(10)

    def start(self) -> None:
        """Again and again, as a supervisor: it may refuse while the killed one's shared memory is in use."""
        while True:
            command = [sys.executable, "-c", AS_USER, *postgres.command(self.directory / "pg", self.port)]
            owner = (self.directory / "pg").stat().st_uid
            environment = os.environ | {"OWNER": str(owner)}
            self._server = subprocess.Popen(command, stdout=self._log, stderr=self._log, cwd="/", env=environment)
            while self._server.poll() is None:
                if self._answers():
                    return
                time.sleep(0.05)


class Process:
    """A Python module as a process; its output goes to a file."""

    def __init__(self, *arguments: str, output: Path, **environment: str) -> None:
        self.output = output
        with output.open("ab") as out:
            command = [sys.executable, "-m", *arguments]
            self._popen = subprocess.Popen(command, stdout=out, stderr=out, cwd=CHECKOUT, env=os.environ | environment)

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    def signal(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def kill(self) -> None:
        """kill -9."""
        self._popen.kill()
        self._popen.wait(10)

    async def ended(self) -> int:
        """The exit code; negative for a signal."""

        async def over() -> bool:
            return not self.running

        await until(over, f"the process has ended: {self.output}")
        return int(self._popen.returncode)


class Stage:
    """`async with Stage(database) as stage:` everything is ended at the end. Nothing is started by itself."""

    def __init__(self, database: Database, venue_port: int | None = None, **ems: Any) -> None:
        self.directory = new_directory()
        self.database = database
        self.venue = VenueProcess(self.directory / "venue")
        port = venue_port or self.venue.fix_port
        sections = {"port_base": free_port_base(), "ems": {"venues": [{"name": "XSIM", "port": port}], **ems}}
        self.settings = Settings(self.directory, sections)
        private, public = auth.new_keys()
        self._token = auth.mint(private, "service:oms", ["route", "log"], 3600)
        secrets = self.directory / "secrets"
        secrets.mkdir()
        (self.directory / "settings.json").write_text(json.dumps(sections))
        (secrets / "token_public.pem").write_text(public)
        (secrets / "database_ems").write_text(database.urls["ems"])
        self.processes: list[Process] = []

    async def __aenter__(self) -> Self:
        self.channel = connect.channel(self.settings.address("ems"))
        self.client = ems_pb2_grpc.EmsServiceStub(self.channel)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close()
        for process in self.processes:
            process.kill()
        self.venue.kill()
        shutil.rmtree(self.directory)

    def start(self, *arguments: str, **environment: str) -> Process:
        output = self.directory / f"{arguments[0]}.log"
        process = Process(*arguments, "--data", str(self.directory), output=output, **environment)
        self.processes.append(process)
        return process

    async def start_service(self, **environment: str) -> Process:
        process = self.start("ems", **environment)
        await asyncio.wait_for(self.channel.channel_ready(), WAIT_SECONDS)
        return process

    def start_engine(self, **environment: str) -> Process:
        return self.start("ems.engine", "--venue", "XSIM", **environment)

    async def start_all(self) -> Process:
        """Venue, service and engine; the engine's process, once its session is healthy."""
        self.venue.start()
        engine = self.start_engine()
        await self.start_service()
        await self.healthy()
        return engine

    async def metrics(self) -> str:
        """The engine's; '' while it does not answer."""
        url = f"http://127.0.0.1:{self.settings.metrics_port('engine')}/metrics"
        try:
            answer = await asyncio.to_thread(urllib.request.urlopen, url, None, 2)
            return str(answer.read().decode())
        except OSError:
            return ""

    async def healthy(self) -> None:
        async def is_healthy() -> bool:
            return HEALTHY in await self.metrics()

        await until(is_healthy, f"the session is healthy: {self.log('ems.engine')}")

    def log(self, name: str) -> str:
        path = self.directory / f"{name}.log"
        return path.read_text()[-3000:] if path.exists() else ""

    async def send(self, *commands: Any) -> int:
        """One batch; the position up to which it is durable."""

        async def batches() -> AsyncIterator[Any]:
            yield ems_pb2.SendRequest(partition=0, commands=commands)

        call = self.client.Send(batches(), metadata=metadata(self._token), timeout=WAIT_SECONDS)
        return int((await anext(aiter(call))).position)

    async def send_until_answered(self, *commands: Any) -> int:
        """As the OMS does it: by the same keys until it is answered."""

        async def answered() -> int:
            try:
                return await self.send(*commands)
            except grpc.aio.AioRpcError:
                return 0

        return int(await until(answered, "the batch is answered"))

    async def subscribe(self, partition: int, count: int, after: int = 0) -> list[Any]:
        """The first `count` executions after `after`."""
        request = ems_pb2.SubscribeRequest(partition=partition, after=after)
        call = self.client.Subscribe(request, metadata=metadata(self._token), timeout=WAIT_SECONDS)
        found: list[Any] = []
        async for response in call:
            found.extend(response.executions)
            if len(found) >= count:
                break
        call.cancel()
        return found

    async def query(self, statement: str, *arguments: Any) -> list[Any]:
        """As the owner of everything; [] while the server does not answer."""
        try:
            connection = await asyncpg.connect(self.database.admin_url, timeout=5)
        except (OSError, asyncpg.PostgresError, TimeoutError):
            return []
        try:
            return list(await connection.fetch(statement, *arguments))
        finally:
            await connection.close()

    async def rows(self, *cl_ord_ids: str) -> list[asyncpg.Record]:
        """The venue's partition of the execution log, all of it or that of some orders."""
        statement = "SELECT * FROM ems.executions WHERE log_partition = 1 ORDER BY position"
        rows = await self.query(statement)
        return [row for row in rows if not cl_ord_ids or row["cl_ord_id"] in cl_ord_ids]

    async def done(self, *cl_ord_ids: str) -> None:
        """Waits until all these routes are done."""

        async def are_done() -> bool:
            rows = await self.query("SELECT cl_ord_id FROM ems.routes WHERE done")
            return set(cl_ord_ids) <= {row["cl_ord_id"] for row in rows}

        await until(are_done, f"{cl_ord_ids} are done: {self.log('ems.engine')}")

    async def dead_letters(self) -> list[asyncpg.Record]:
        return await self.query("SELECT * FROM ems.dead_letters ORDER BY number")

    async def assert_sound(self, **shares: int) -> None:
        """Each order executed once at the venue, each of its executions once in the log, positions dense. `shares` says
        of each order how many it was to get."""
        rows = await self.rows()
        assert [row["position"] for row in rows] == list(range(1, len(rows) + 1))
        fills = [row for row in rows if row["kind"] == "FILL"]
        ours = [row for row in self.venue.executions() if row["comp_id"] == "OPENBELL"]
        theirs = [row for row in ours if row["last_shares"]]
        assert sorted(_fill(row) for row in fills) == sorted(_fill(row) for row in theirs)
        for cl_ord_id, quantity in shares.items():
            assert sum(row["last_shares"] for row in fills if row["cl_ord_id"] == cl_ord_id) == quantity
            assert [row["exec_type"] for row in ours if row["cl_ord_id"] == cl_ord_id].count("0") == (quantity > 0)


def _fill(row: Any) -> tuple[Any, ...]:
    return (str(row["trade_date"]), row["exec_id"], row["cl_ord_id"], row["last_shares"], row["last_px"])


def kinds(rows: Sequence[Any]) -> list[str]:
    return [row["kind"] for row in rows]
