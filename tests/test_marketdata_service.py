"""The service behind real sockets: UDP in, gRPC out, with the guard that every server of openbell has."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from marketdata.config import Config
from marketdata.feed import Feed
from marketdata.metrics import PlantCollector
from marketdata.plant import Plant
from marketdata.service import SCOPES, MarketDataService
from marketdata.subscribers import Subscribers, Subscription
from openbell.marketdata.v1 import marketdata_pb2 as pb
from openbell.marketdata.v1.marketdata_pb2_grpc import (
    MarketDataServiceStub,
    add_MarketDataServiceServicer_to_server,
)
from runtime import auth, connect, pages, serve
from runtime.errors import from_rpc
from runtime.settings import SettingsError
from tests import itch_wire as wire
from tests.itch_wire import AAPL, OPENING
from tests.mold_venue import MoldVenue

if TYPE_CHECKING:
    from openbell.marketdata.v1.marketdata_pb2_grpc import MarketDataServiceAsyncStub

WAIT_SECONDS = 10.0
LONG_NS = 600 * 10**9
PRIVATE, PUBLIC = auth.new_keys()
TOKEN = auth.mint(PRIVATE, "customer:cus_1", ["read"], 3600)


@dataclass
class Running:
    plant: Plant
    subscribers: Subscribers
    venue: MoldVenue
    address: str
    stub: "MarketDataServiceAsyncStub"

    async def quote(self, symbol: str = "AAPL") -> pb.Quote:
        answer: pb.GetQuoteResponse = await self.stub.GetQuote(
            pb.GetQuoteRequest(symbol=symbol), metadata=connect.metadata(TOKEN), timeout=WAIT_SECONDS
        )
        return answer.quote

    async def instruments(self, size: int = 0, token: str = "") -> pb.ListInstrumentsResponse:
        request = pb.ListInstrumentsRequest(page_size=size, page_token=token)
        return await self.stub.ListInstruments(request, metadata=connect.metadata(TOKEN), timeout=WAIT_SECONDS)

    def subscribe(self, *symbols: str) -> AsyncIterator[pb.SubscribeQuotesResponse]:
        request = pb.SubscribeQuotesRequest(symbols=symbols)
        stream = self.stub.SubscribeQuotes(request, metadata=connect.metadata(TOKEN), timeout=2 * WAIT_SECONDS)
        return aiter(stream)

    async def open(self) -> None:
        self.venue.publish(*OPENING)
        await until(lambda: self.plant.ready)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():  # noqa: ASYNC110  what is waited for happens in the feed, which knows no tests
            await asyncio.sleep(0.005)


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def brokerage(silence_ns: int = LONG_NS) -> AsyncIterator[Running]:
    plant, subscribers = Plant(silence_ns, 1000), Subscribers()
    feed_port, rerequest_port = free_udp_port(), free_udp_port()
    feed = Feed(Config(), feed_port, rerequest_port, plant, subscribers)
    server = grpc.aio.server(interceptors=[serve.Guard(auth.Verifier(PUBLIC), SCOPES)])
    add_MarketDataServiceServicer_to_server(MarketDataService(plant, subscribers), server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    feeding = asyncio.create_task(feed.run())
    with MoldVenue(feed_port, rerequest_port) as venue:
        async with connect.channel(address) as channel:
            yield Running(plant, subscribers, venue, address, MarketDataServiceStub(channel))
    assert not feeding.done(), feeding
    feeding.cancel()
    await asyncio.wait([feeding])
    await server.stop(None)


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    async with brokerage() as started:
        yield started


@contextmanager
def refused(reason: str, status: grpc.StatusCode) -> Iterator[None]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield
    refusal = from_rpc(caught.value)
    assert (refusal.reason, refusal.status) == (reason, status)


async def quotes_until(
    stream: AsyncIterator[pb.SubscribeQuotesResponse], condition: Callable[[dict[str, pb.Quote]], bool]
) -> dict[str, pb.Quote]:
    """The latest quote per symbol, once it is as wanted."""
    latest = dict[str, pb.Quote]()
    async with asyncio.timeout(WAIT_SECONDS):
        async for update in stream:
            latest |= {quote.symbol: quote for quote in update.quotes}
            if condition(latest):
                return latest
    raise AssertionError(f"the stream ended at {latest}")


async def test_a_quote_has_best_bid_best_offer_and_last_trade(running: Running) -> None:
    await running.open()
    running.venue.publish(wire.executed(AAPL, 2, 300), wire.add(AAPL, 9, b"B", 40, 150_0000))
    await until(lambda: running.plant.sequencer.expected == len(running.venue.messages) + 1)
    quote = await running.quote()
    assert (quote.bid_price, quote.bid_quantity) == (150_0000, 40)
    assert (quote.ask_price, quote.ask_quantity) == (150_0100, 700)
    assert (quote.last_price, quote.last_quantity) == (150_0100, 300)
    assert not quote.stale


async def test_who_joins_in_the_middle_has_the_whole_day(running: Running) -> None:
    running.venue.say(OPENING)
    for reference in range(100, 3100):
        running.venue.say([wire.add(AAPL, reference, b"B", 1, 140_0000)])
    running.venue.publish(wire.deleted(AAPL, 1))
    await until(lambda: running.plant.ready)
    quote = await running.quote()
    assert (quote.bid_price, quote.bid_quantity, quote.stale) == (140_0000, 3000, False)


async def test_a_lost_packet_is_asked_for(running: Running) -> None:
    await running.open()
    running.venue.say([wire.deleted(AAPL, 1)])
    running.venue.publish(wire.add(AAPL, 9, b"B", 5, 148_0000))
    await until(lambda: running.plant.sequencer.expected == len(running.venue.messages) + 1)
    quote = await running.quote()
    assert (quote.bid_price, quote.stale) == (148_0000, False)


async def test_quotes_are_stale_until_the_venue_answers(running: Running) -> None:
    await running.open()
    stream = running.subscribe("GOOGL")
    await quotes_until(stream, lambda latest: not latest["GOOGL"].stale)
    running.venue.answering = False
    running.venue.say([wire.deleted(AAPL, 1)])
    running.venue.heartbeat()
    await quotes_until(stream, lambda latest: "GOOGL" in latest and latest["GOOGL"].stale)
    seen = running.venue.requests_seen
    await until(lambda: running.venue.requests_seen > seen)
    running.venue.answering = True
    await quotes_until(stream, lambda latest: "GOOGL" in latest and not latest["GOOGL"].stale)


async def test_a_subscriber_is_told_first_all_then_each_change(running: Running) -> None:
    await running.open()
    stream = running.subscribe()
    first = await anext(stream)
    assert [(quote.symbol, quote.bid_price) for quote in first.quotes] == [("AAPL", 149_9900), ("GOOGL", 2799_9900)]
    running.venue.publish(wire.cancelled(AAPL, 1, 1))
    changed = await quotes_until(stream, lambda latest: bool(latest))
    assert {symbol: quote.bid_quantity for symbol, quote in changed.items()} == {"AAPL": 999}
    running.venue.publish(wire.directory(3, "MSFT"))
    assert (await quotes_until(stream, lambda latest: "MSFT" in latest)).keys() == {"MSFT"}


async def test_a_subscriber_hears_only_of_his_symbols_and_an_empty_update_when_nothing_happens(
    running: Running,
) -> None:
    await running.open()
    stream = running.subscribe("GOOGL", "GOOGL")
    assert [quote.symbol for quote in (await anext(stream)).quotes] == ["GOOGL"]
    running.venue.publish(wire.cancelled(AAPL, 1, 1))
    assert list((await anext(stream)).quotes) == []


async def test_a_slow_subscriber_gets_the_latest_and_others_are_not_held_up(running: Running) -> None:
    await running.open()
    slow, quick = running.subscribe(), running.subscribe()
    await anext(slow)
    await anext(quick)
    for left in range(999, 0, -1):
        running.venue.publish(wire.cancelled(AAPL, 1, 1))
        if left % 100 == 0:
            await asyncio.sleep(0)
    for stream in (quick, slow):
        await quotes_until(stream, lambda latest: "AAPL" in latest and latest["AAPL"].bid_quantity == 1)


async def test_what_a_slow_subscriber_has_not_read_is_one_entry_per_symbol() -> None:
    subscription = Subscription(frozenset())
    for number in range(10_000):
        subscription.note({f"S{number % 3}"})
    assert await subscription.changes(WAIT_SECONDS) == ["S0", "S1", "S2"]
    assert await subscription.changes(0.01) == []


async def test_a_subscriber_who_leaves_is_forgotten(running: Running) -> None:
    await running.open()
    request = pb.SubscribeQuotesRequest()
    call = running.stub.SubscribeQuotes(request, metadata=connect.metadata(TOKEN))
    await anext(aiter(call))
    assert len(running.subscribers) == 1
    call.cancel()
    await until(lambda: not len(running.subscribers))


async def test_silence_makes_quotes_stale_and_a_heartbeat_fresh() -> None:
    async with brokerage(silence_ns=300_000_000) as running:
        await running.open()
        stream = running.subscribe("AAPL")
        await quotes_until(stream, lambda latest: latest["AAPL"].stale)
        running.venue.heartbeat()
        await quotes_until(stream, lambda latest: "AAPL" in latest and not latest["AAPL"].stale)


async def test_what_waited_while_the_process_stood_still_is_not_taken_for_fresh() -> None:
    async with brokerage(silence_ns=300_000_000) as running:
        await running.open()
        read = running.plant.counts["datagrams"]
        running.venue.heartbeat()
        time.sleep(0.5)  # noqa: ASYNC251  the loop stands still, as under SIGSTOP
        await until(lambda: running.plant.counts["datagrams"] > read)
        assert (await running.quote()).stale


async def test_a_new_session_begins_a_new_book(running: Running) -> None:
    await running.open()
    stream = running.subscribe("GOOGL")
    await anext(stream)
    running.venue.messages.clear()
    running.venue.session = b"OPENBELL02"
    running.venue.publish(*OPENING[:7])
    running.venue.heartbeat()
    emptied = await quotes_until(stream, lambda latest: "GOOGL" in latest and not latest["GOOGL"].stale)
    assert emptied["GOOGL"].bid_price == 0


async def test_a_symbol_that_the_venue_does_not_list_is_not_found(running: Running) -> None:
    await running.open()
    for symbol in ("MSFT", "aapl", ""):
        with refused("UNKNOWN_SYMBOL", grpc.StatusCode.NOT_FOUND):
            await running.quote(symbol)
    for symbol in ("A" * 100_000, "AA\0PL"):
        with refused("INVALID_TEXT", grpc.StatusCode.INVALID_ARGUMENT):
            await running.quote(symbol)
        with refused("INVALID_TEXT", grpc.StatusCode.INVALID_ARGUMENT):
            await anext(running.subscribe("AAPL", symbol))
    with refused("UNKNOWN_SYMBOL", grpc.StatusCode.NOT_FOUND):
        await anext(running.subscribe("AAPL", "MSFT"))


async def test_no_symbol_is_called_unknown_before_all_are_known(running: Running) -> None:
    with refused("FEED_NOT_READY", grpc.StatusCode.UNAVAILABLE):
        await running.quote()
    with refused("FEED_NOT_READY", grpc.StatusCode.UNAVAILABLE):
        await running.instruments()


async def test_instruments_come_in_pages_by_symbol(running: Running) -> None:
    await running.open()
    first = await running.instruments(1)
    assert [item.symbol for item in first.instruments] == ["AAPL"]
    second = await running.instruments(1, first.next_page_token)
    assert [item.symbol for item in second.instruments] == ["GOOGL"]
    assert second.next_page_token == ""
    item = second.instruments[0]
    assert (item.tick, item.round_lot, item.halted) == (100, 100, False)
    assert len((await running.instruments()).instruments) == 2


@pytest.mark.parametrize(
    "token",
    ["x", "AAPL", "é", pages.token("ListInstruments", ("AAPL",))[:-1], pages.token("ListInstruments", ("AAPL",)) + "A"],
)
async def test_a_page_token_of_ones_own_making_is_refused(running: Running, token: str) -> None:
    await running.open()
    with refused("INVALID_PAGE_TOKEN", grpc.StatusCode.INVALID_ARGUMENT):
        await running.instruments(1, token)


@pytest.mark.parametrize("size", [-1, 501])
async def test_a_page_size_out_of_range_is_refused(running: Running, size: int) -> None:
    with refused("INVALID_PAGE_SIZE", grpc.StatusCode.INVALID_ARGUMENT):
        await running.instruments(size)


async def test_datagrams_that_are_none_are_counted_and_disturb_nothing(running: Running) -> None:
    await running.open()
    for datagram in (b"x", wire.heartbeat(99)[:-1], b"\xff" * 9000, wire.packet(10, [b"A"] * 3)[:-1]):
        running.venue.send(datagram)
    running.venue.publish(wire.cancelled(AAPL, 1, 1))
    await until(lambda: running.plant.counts["malformed"] == 4)
    await until(lambda: running.plant.market.listings["AAPL"].bids.quantity == 999)
    assert not (await running.quote()).stale


async def test_metrics_tell_what_came_in(running: Running) -> None:
    await running.open()
    running.venue.send(b"x")
    running.venue.publish(wire.itch("L", AAPL, b"x" * 15))
    await until(lambda: running.plant.skipped.total() == 1 and running.plant.counts["malformed"] == 1)
    registry = CollectorRegistry()
    registry.register(PlantCollector(running.plant, running.subscribers))
    page = generate_latest(registry).decode().splitlines()
    for line in (
        'openbell_feed_events_total{event="malformed"} 1.0',
        'openbell_feed_skipped_total{type="L"} 1.0',
        "openbell_feed_stale 0.0",
        "openbell_feed_missing_messages 0.0",
        "openbell_quote_subscribers 0.0",
    ):
        assert line in page


async def test_a_call_without_a_token_is_refused(running: Running) -> None:
    with refused("MISSING_TOKEN", grpc.StatusCode.UNAUTHENTICATED):
        await running.stub.GetQuote(pb.GetQuoteRequest(symbol="AAPL"), timeout=WAIT_SECONDS)


def test_every_method_of_the_contract_has_a_scope() -> None:
    service = pb.DESCRIPTOR.services_by_name["MarketDataService"]
    assert SCOPES.keys() == {f"/{service.full_name}/{method.name}" for method in service.methods}


async def test_a_taken_feed_port_is_said_in_one_line() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"^cannot listen for the feed on 127.0.0.1:{port}.*port_base.*$"):
            Feed(Config(), port, free_udp_port(), Plant(1, 1), Subscribers())


async def test_a_multicast_group_is_joined() -> None:
    port, group = free_udp_port(), "239.255.74.6"
    config = Config(feed_host=group, feed_interface="127.0.0.1")
    plant = Plant(LONG_NS, 1000)
    feeding = asyncio.create_task(Feed(config, port, free_udp_port(), plant, Subscribers()).run())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as venue:
        venue.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        venue.sendto(wire.packet(1, OPENING), (group, port))
        await until(lambda: plant.ready)
    feeding.cancel()
    await asyncio.wait([feeding])
