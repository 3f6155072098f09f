"""PostgreSQL and the ledger alone, supervised as by `openbell up`, and clients with connections of their own."""

import asyncio
import itertools
import os
from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Any, Self
from unittest.mock import patch

import asyncpg
import grpc

from openbell.fix.v1 import fix_pb2
from openbell.ledger.v1 import ledger_pb2 as pb
from openbell.ledger.v1.ledger_pb2_grpc import LedgerServiceStub
from ops import config, database, directory, health, postgres, secret_files, supervise
from ops.programs import programs
from runtime import auth, connect
from runtime.errors import Refusal, from_rpc
from runtime.settings import Settings
from runtime.units import CASH
from tests.brokerage import UP_SECONDS, Brokerage, until

DOLLAR = 10_000
NAMES = ("postgres", "ledger")
CALL_SECONDS = 20.0
TOKEN_SECONDS = 3_600
SCOPES = ("operate", "hold", "read")
MESSAGE_BYTES_MAX = 64 * 1024 * 1024
OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),  # a connection of its own
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 200),
]

_keys = itertools.count(1)


class LedgerProcess(Brokerage):
    """A brokerage of which only PostgreSQL and the ledger run. The execution log is away, which the ledger bears."""

    def up(self, **environment: str) -> str:
        settings = Settings(self.data, config.resolve(self._config, self.port_base))
        directory.prepare(self.data)
        directory.write_settings(self.data, settings.sections)
        secret_files.make_all(self.data)
        postgres.initialise(self.data / "pg", secret_files.password(self.data, "admin"))
        supervise.write_config(self.data, [each for each in programs(settings) if each.name in NAMES])
        with patch.dict(os.environ, environment):
            supervise.launch(self.data)
        supervise.start(self.data, "postgres")
        asyncio.run(database.prepare(settings))
        supervise.start_all(self.data)
        self.until_up()
        return ""

    def until_up(self) -> None:
        until(self._is_up, f"PostgreSQL and the ledger answer; see {self.data}/log", UP_SECONDS)

    def _is_up(self) -> bool:
        rows = asyncio.run(health.rows(self.settings))
        return len(rows) == len(NAMES) and all(row.is_up for row in rows)

    async def fetch(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        """Rows of the ledger's schema, as the database's owner sees them."""
        url = self.settings.secret("database_admin")
        connection = await asyncpg.connect(url, server_settings={"search_path": "ledger"})
        try:
            return list(await connection.fetch(query, *arguments))
        finally:
            await connection.close()


class Tab:
    """One client with a connection of its own; to be used in `async with`. Every way of asking gives Answers."""

    def __init__(self, settings: Settings, scopes: Sequence[str] = SCOPES, subject: str = "operator:test") -> None:
        token = auth.mint(settings.secret("token_private.pem"), subject, list(scopes), TOKEN_SECONDS)
        self._token, self._channel = token, grpc.aio.insecure_channel(settings.address("ledger"), options=OPTIONS)
        self.stub = LedgerServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._channel.close()

    def metadata(self, traceparent: str = "") -> connect.Metadata:
        return connect.metadata(self._token, traceparent)

    async def call(self, rpc: str, request: Any, traceparent: str = "") -> Any:
        """Refusal when it is refused."""
        call = getattr(self.stub, rpc)(request, metadata=self.metadata(traceparent), timeout=CALL_SECONDS)
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error) from None

    async def unary(self, command: pb.Command) -> pb.Answer:
        """By the command's own RPC."""
        name = name_of(command)
        rpc = name.title().replace("_", "")
        try:
            return pb.Answer(**{name: await self.call(rpc, getattr(command, name), command.traceparent)})
        except Refusal as refusal:
            return answer_of(refusal)

    async def batch(self, commands: Iterable[pb.Command]) -> list[pb.Answer]:
        response = await self.call("SubmitBatch", pb.SubmitBatchRequest(commands=commands))
        return list(response.answers)

    async def stream(self, *messages: Sequence[pb.Command]) -> AsyncGenerator[list[pb.Answer]]:
        """The answers of one message after the other; all messages are sent at once."""
        requests = [pb.SubmitStreamRequest(commands=commands) for commands in messages]
        call = self.stub.SubmitStream(iter(requests), metadata=self.metadata(), timeout=CALL_SECONDS)
        try:
            async for response in call:
                yield list(response.answers)
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error) from None
        finally:
            call.cancel()

    async def streamed(self, *messages: Sequence[pb.Command]) -> list[pb.Answer]:
        return [answer async for answers in self.stream(*messages) for answer in answers]


def answer_of(refusal: Refusal) -> pb.Answer:
    """A call's refusal as a batch would tell it."""
    refused = pb.Refused(
        reason=refusal.reason,
        code=refusal.status.value[0],
        message=refusal.message,
        metadata=refusal.metadata,
    )
    return pb.Answer(refused=refused)


def is_done(answer: pb.Answer) -> bool:
    return answer.WhichOneof("response") not in (None, "refused")


# --- commands, which get their key from `keyed`


def keyed(command: pb.Command, key: str | None = None) -> pb.Command:
    """The same command under `key`, or one that nobody has used."""
    copy = pb.Command()
    copy.CopyFrom(command)
    getattr(copy, name_of(command)).idempotency_key = f"key {next(_keys)}" if key is None else key
    return copy


def name_of(command: pb.Command) -> str:
    """Which command it is, as its field in Command is called."""
    name = command.WhichOneof("request")
    assert name is not None
    return str(name)


def open_account(customer_id: str) -> pb.Command:
    return pb.Command(open_account=pb.OpenAccountRequest(customer_id=customer_id))


def deposit(account_id: str, amount: int = 1) -> pb.Command:
    return pb.Command(deposit=pb.DepositRequest(account_id=account_id, amount=amount))


def withdraw(account_id: str, amount: int = 1) -> pb.Command:
    return pb.Command(withdraw=pb.WithdrawRequest(account_id=account_id, amount=amount))


def hold(account_id: str, order_id: str, amount: int = 1, asset: str = CASH) -> pb.Command:
    return pb.Command(hold=pb.HoldRequest(account_id=account_id, order_id=order_id, asset=asset, amount=amount))


def adjust(hold_id: str, amount: int = 1) -> pb.Command:
    return pb.Command(adjust_hold=pb.AdjustHoldRequest(hold_id=hold_id, amount=amount))


def capture(hold_id: str, amount: int = 1, settle_date: str = "") -> pb.Command:
    return pb.Command(capture=pb.CaptureRequest(hold_id=hold_id, amount=amount, settle_date=settle_date))


def release(hold_id: str) -> pb.Command:
    return pb.Command(release=pb.ReleaseRequest(hold_id=hold_id))


def trade(account_id: str, quantity: int = 1, price: int = DOLLAR, **more: Any) -> pb.Command:
    """A buy of AAPL, unless `more` says otherwise."""
    request: dict[str, Any] = {"side": fix_pb2.SIDE_BUY, "symbol": "AAPL", **more}
    return pb.Command(trade=pb.TradeRequest(account_id=account_id, quantity=quantity, price=price, **request))


def journal(*legs: tuple[str, str, int], effective_date: str = "") -> pb.Command:
    """Legs are path, asset, amount."""
    told = [pb.JournalLeg(path=path, asset=asset, amount=amount) for path, asset, amount in legs]
    return pb.Command(journal=pb.JournalRequest(legs=told, effective_date=effective_date))


def reverse(transaction_id: str) -> pb.Command:
    return pb.Command(reverse=pb.ReverseRequest(transaction_id=transaction_id))
