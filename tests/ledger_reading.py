"""What tests of the ledger's queries share: the service behind real gRPC, a clock, histories of one account."""

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import grpc
import pytest

from ledger.book import Deposit, PlaceHold, Withdraw
from ledger.config import Config
from ledger.service import SCOPES, LedgerService
from openbell.ledger.v1 import ledger_pb2 as pb
from openbell.ledger.v1.ledger_pb2_grpc import LedgerServiceStub, add_LedgerServiceServicer_to_server
from runtime import auth, calendar, connect, serve
from runtime.errors import Refusal, from_rpc
from runtime.units import CASH
from tests.test_ledger import DOLLAR, Ledger, fill

PRIVATE, PUBLIC = auth.new_keys()
WAIT_SECONDS = 10.0
SECOND_NS = 10**9
HOUR_NS = 3_600 * SECOND_NS
NOON_NS = int(datetime(2024, 3, 4, 12, tzinfo=calendar.NEW_YORK).timestamp()) * SECOND_NS  # a Monday
NOTHING: Any = None  # a part of the service that queries do without
Ask = Callable[..., Awaitable[Any]]


@dataclass
class Clock:
    """The writer's: stands still but for what a test adds, and a millisecond a look."""

    now_ns: int = NOON_NS

    def time_ns(self) -> int:
        self.now_ns += 10**6
        return self.now_ns

    @property
    def today(self) -> date:
        return calendar.new_york(self.now_ns).date()


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Before the ledger's first commit: the log's time never goes back."""
    made = Clock()
    monkeypatch.setattr("ledger.writer.time", made)
    return made


@pytest.fixture
async def ask(ledger: Ledger) -> AsyncIterator[Ask]:
    """`await ask(request)`, or as another subject; Refusal when it is refused."""
    server = grpc.aio.server(interceptors=[serve.Guard(auth.Verifier(PUBLIC), SCOPES)])
    service = LedgerService(NOTHING, ledger.reads, NOTHING, NOTHING, Config())
    add_LedgerServiceServicer_to_server(service, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    async with connect.channel(address) as channel:
        stub = LedgerServiceStub(channel)

        async def call(request: Any, subject: str = "operator:test") -> Any:
            token = auth.mint(PRIVATE, subject, ["read", "hold"], 60)
            rpc = getattr(stub, type(request).__name__.removesuffix("Request"))
            try:
                return await rpc(request, metadata=connect.metadata(token), timeout=WAIT_SECONDS)
            except grpc.aio.AioRpcError as error:
                raise from_rpc(error) from None

        yield call
    await server.stop(None)


async def refused(asked: Awaitable[Any], reason: str) -> str:
    """The message."""
    with pytest.raises(Refusal) as refusal:
        await asked
    assert refusal.value.reason == reason
    return refusal.value.message


async def all_pages(ask: Ask, request: Any, subject: str = "operator:test") -> list[Any]:
    found = [await ask(request, subject)]
    while found[-1].next_page_token:
        request.page_token = found[-1].next_page_token
        found.append(await ask(request, subject))
    return found


async def listed(ask: Ask, **request: Any) -> list[pb.Entry]:
    found = await all_pages(ask, pb.ListEntriesRequest(**({"page_size": 500} | request)))
    return [entry for page in found for entry in page.entries]


async def act(ledger: Ledger, clock: Clock, rng: random.Random, number: int) -> None:
    """One of anything, if it is not refused. Trades are dated up to a week before or after they are recorded."""
    order, amount = f"ord_{number}", rng.randint(1, 300) * DOLLAR
    traded = clock.today + timedelta(rng.randint(-7, 7))
    trade = fill(order, ledger.alice, rng.randint(1, 3), 20, buys=rng.random() < 0.6, last=True)
    choices: list[Callable[[], Awaitable[Any]]] = [
        lambda: ledger.do(Deposit(ledger.alice, amount)),
        lambda: ledger.do(Withdraw(ledger.alice, amount)),
        lambda: ledger.hold(order, amount),
        lambda: ledger.execute(trade._replace(trade_date=traded)),
        lambda: ledger.execute(trade._replace(trade_date=traded, order_id=f"ord_{number - 1}", buys=True)),
    ]
    with suppress(Refusal):
        await rng.choice(choices)()
    clock.now_ns += rng.choice([0, 0, SECOND_NS, HOUR_NS, 9 * HOUR_NS, 30 * HOUR_NS])


async def a_day(ledger: Ledger, orders: int = 4) -> None:
    """Orders with a hold and two fills each, of traces of their own."""
    for number in range(orders):
        order, trace = f"ord_{number}", bytes([number]) * 16
        hold = ledger.request(PlaceHold(ledger.alice, order, CASH, 90 * DOLLAR))._replace(trace_id=trace)
        await ledger.writer.commit([hold])
        first = fill(order, ledger.alice, 1, 20, last=False)._replace(trace_id=trace)
        await ledger.execute(first, first._replace(terminal=True, cum_quantity=2))
