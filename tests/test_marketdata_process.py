"""`python -m marketdata` as a process: killed, restarted, stopped, misconfigured."""

import asyncio
import json
import random
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import grpc
import pytest

from openbell.marketdata.v1 import marketdata_pb2 as pb
from openbell.marketdata.v1.marketdata_pb2_grpc import MarketDataServiceStub
from runtime import auth, connect
from runtime.settings import Settings, load
from tests import itch_wire as wire
from tests.itch_wire import AAPL, OPENING
from tests.mold_venue import MoldVenue

pytestmark = pytest.mark.brokerage
CHECKOUT = Path(__file__).parent.parent
WAIT_SECONDS = 20.0
PRIVATE, PUBLIC = auth.new_keys()
TOKEN = auth.mint(PRIVATE, "service:oms", ["read"], 3600)


def free_port_base() -> int:
    """A block of ports that nothing listens on, below those that the kernel gives to clients."""
    for base in random.sample(range(11_000, 32_000, 40), 100):
        if all(_free(kind, base + n) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM) for n in (4, 6, 7, 24)):
            return base
    raise AssertionError("no free ports")


def _free(kind: socket.SocketKind, port: int) -> bool:
    with socket.socket(socket.AF_INET, kind) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@pytest.fixture
def brokerage(tmp_path: Path) -> Settings:
    """A data directory as `openbell up` leaves it for this service."""
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "token_public.pem").write_text(PUBLIC)
    (tmp_path / "settings.json").write_text(json.dumps({"port_base": free_port_base()}))
    return load(tmp_path)


@pytest.fixture
def start(brokerage: Settings) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def start_one() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "marketdata", "--data", str(brokerage.data)]
        started.append(subprocess.Popen(command, cwd=CHECKOUT, stderr=subprocess.PIPE))
        return started[-1]

    yield start_one
    for process in started:
        process.kill()
        process.communicate(timeout=10)


@pytest.fixture
async def channel(brokerage: Settings) -> AsyncIterator[grpc.aio.Channel]:
    async with connect.channel(brokerage.address("marketdata")) as opened:
        yield opened


async def fresh_quote(channel: grpc.aio.Channel, venue: MoldVenue, symbol: str) -> pb.Quote:
    """The first quote of a service that comes back by itself; the venue only lives on."""
    stub = MarketDataServiceStub(channel)
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            venue.heartbeat()
            try:
                request = pb.GetQuoteRequest(symbol=symbol)
                answer = await stub.GetQuote(request, metadata=connect.metadata(TOKEN), timeout=1)
            except grpc.aio.AioRpcError as problem:
                if problem.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                    raise
            else:
                if not answer.quote.stale:
                    return answer.quote
            await asyncio.sleep(0.05)


async def test_killed_and_restarted_it_has_what_it_missed(
    brokerage: Settings, start: Callable[[], subprocess.Popen[bytes]], channel: grpc.aio.Channel
) -> None:
    with MoldVenue(brokerage.port("feed"), brokerage.port("rerequest")) as venue:
        venue.publish(*OPENING)
        process = start()
        assert (await fresh_quote(channel, venue, "AAPL")).bid_quantity == 1000
        process.kill()
        process.wait(10)
        venue.publish(wire.executed(AAPL, 1, 400))
        start()
        quote = await fresh_quote(channel, venue, "AAPL")
        assert (quote.bid_quantity, quote.last_price, quote.last_quantity) == (600, 149_9900, 400)


async def test_sigterm_is_a_clean_end(
    brokerage: Settings, start: Callable[[], subprocess.Popen[bytes]], channel: grpc.aio.Channel
) -> None:
    with MoldVenue(brokerage.port("feed"), brokerage.port("rerequest")) as venue:
        venue.publish(*OPENING)
        process = start()
        await fresh_quote(channel, venue, "AAPL")
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=10)
        assert process.returncode == 0, said


def test_a_taken_feed_port_ends_the_process_with_what_to_do(
    brokerage: Settings, start: Callable[[], subprocess.Popen[bytes]]
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", brokerage.port("feed")))
        process = start()
        _, said = process.communicate(timeout=10)
    assert process.returncode == 1
    assert b"stop what uses it, or change port_base" in said.splitlines()[-1]
