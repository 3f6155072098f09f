"""ITCH 5.0 in MoldUDP64: the bytes, and the line and the re-request server of a real venue."""

import socket
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from exchange import itch, moldudp64
from exchange.events import (
    Added,
    Broken,
    Crossed,
    Deleted,
    Executed,
    ExecutedAt,
    FeedEvent,
    Hours,
    Listed,
    Reduced,
    Traded,
    TradingState,
)
from exchange.orders import Side
from marketdata.book import Market
from runtime.units import to_units
from tests.exchange_line import Line, kinds, operate, unpack
from tests.exchange_process import VenueProcess
from tests.exchange_trader import Counterparty, Trader, order

STAMP = 0x1F1AD5A7B2C0 // 4  # some nanoseconds since midnight
STAMP_BYTES = STAMP.to_bytes(6, "big")


def u(number: int, size: int) -> bytes:
    return number.to_bytes(size, "big")


def test_add_order_has_36_bytes_in_the_order_of_the_specification() -> None:
    (message,) = itch.encode(Added(2, 77, Side.SELL, 1000, "GOOGL", 28_000_100), STAMP)
    assert message == (
        b"A\x00\x02\x00\x00" + STAMP_BYTES + b"\x00\x00\x00\x00\x00\x00\x00\x4d" + b"S" + b"\x00\x00\x03\xe8"
        b"GOOGL   " + b"\x01\xab\x3f\x64"
    )


# Sizes by the specification: C 36, D 19, E 31, H 25, P 44, Q 40, S 12, X 23, B 19.
MESSAGES: list[tuple[FeedEvent, bytes]] = [
    (Executed(1, 5, 300, 9), b"E" + u(1, 2) + u(0, 2) + STAMP_BYTES + u(5, 8) + u(300, 4) + u(9, 8)),
    (
        ExecutedAt(1, 5, 300, 9, 1_500_100),
        b"C" + u(1, 2) + u(0, 2) + STAMP_BYTES + u(5, 8) + u(300, 4) + u(9, 8) + b"N" + u(1_500_100, 4),
    ),
    (
        Crossed(2, "GOOGL", 2**32, 1_500_100, 9, "O"),
        b"Q" + u(2, 2) + u(0, 2) + STAMP_BYTES + u(2**32, 8) + b"GOOGL   " + u(1_500_100, 4) + u(9, 8) + b"O",
    ),
    (
        Traded(1, "AAPL", Side.BUY, 30, 1_500_100, 9),
        b"P" + u(1, 2) + u(0, 2) + STAMP_BYTES + u(0, 8) + b"B" + u(30, 4) + b"AAPL    " + u(1_500_100, 4) + u(9, 8),
    ),
    (Reduced(1, 5, 20), b"X" + u(1, 2) + u(0, 2) + STAMP_BYTES + u(5, 8) + u(20, 4)),
    (Deleted(1, 5), b"D" + u(1, 2) + u(0, 2) + STAMP_BYTES + u(5, 8)),
    (Broken(1, 9), b"B" + u(1, 2) + u(0, 2) + STAMP_BYTES + u(9, 8)),
    (TradingState(1, "AAPL", True), b"H" + u(1, 2) + u(0, 2) + STAMP_BYTES + b"AAPL    H     "),
    (TradingState(1, "AAPL", False), b"H" + u(1, 2) + u(0, 2) + STAMP_BYTES + b"AAPL    T     "),
    (Hours(begin=True), b"S" + u(0, 2) + u(0, 2) + STAMP_BYTES + b"Q"),
    (Hours(begin=False), b"S" + u(0, 2) + u(0, 2) + STAMP_BYTES + b"M"),
]


@pytest.mark.parametrize(("event", "message"), MESSAGES)
def test_a_message_has_its_fields_in_the_order_of_the_specification(event: FeedEvent, message: bytes) -> None:
    assert itch.encode(event, STAMP) == (message,)


def test_messages_have_the_sizes_of_the_specification() -> None:
    sizes = {chr(message[0]): len(message) for _, message in MESSAGES}
    assert sizes == {"E": 31, "C": 36, "Q": 40, "P": 44, "X": 23, "D": 19, "B": 19, "H": 25, "S": 12}


def test_a_listing_is_a_stock_directory_of_39_bytes_and_a_trading_action_of_25() -> None:
    directory, action = itch.encode(Listed(1, "AAPL"), STAMP)
    assert directory == (b"R\x00\x01\x00\x00" + STAMP_BYTES + b"AAPL    QN\x00\x00\x00\x64NCZ PNN1N\x00\x00\x00\x00N")
    assert action == b"H\x00\x01\x00\x00" + STAMP_BYTES + b"AAPL    T     "
    assert (len(directory), len(action)) == (39, 25)


def test_a_system_event_has_12_bytes() -> None:
    assert itch.system_event(itch.START_OF_MESSAGES, STAMP) == b"S\x00\x00\x00\x00" + STAMP_BYTES + b"O"


def test_a_packet_is_a_header_and_messages_with_their_lengths() -> None:
    packet, fitted = moldudp64.packet(b"SESSION001", [b"a", b"bcd", b"e"], 2, 5)
    assert fitted == 2
    assert packet == b"SESSION001\x00\x00\x00\x00\x00\x00\x00\x02\x00\x02\x00\x03bcd\x00\x01e"


def test_a_heartbeat_is_a_packet_of_no_messages_with_the_next_number() -> None:
    packet, fitted = moldudp64.packet(b"SESSION001", [b"a"], 2, 0)
    assert fitted == 0
    assert packet == b"SESSION001\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00"


def test_a_packet_holds_what_fits_1400_bytes() -> None:
    messages = [bytes(36)] * 100
    packet, fitted = moldudp64.packet(b"SESSION001", messages, 1, 100)
    assert fitted == (1400 - 20) // 38
    assert len(packet) <= 1400 < len(packet) + 38


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"SESSION001",
        struct.pack(">10sQH", b"SESSION001", 0, 1),
        struct.pack(">10sQH", b"SESSION001", 1, 0),
        struct.pack(">10sQH", b"SESSION001", 1, 0xFFFF),
        struct.pack(">10sQHc", b"SESSION001", 1, 1, b"x"),
    ],
)
def test_what_is_no_request_is_none(datagram: bytes) -> None:
    assert moldudp64.read_request(datagram) is None


@pytest.fixture
def venue(tmp_path: Path) -> Iterator[VenueProcess]:
    process = VenueProcess(tmp_path / "venue")
    yield process
    process.kill()


@pytest.fixture
def line(venue: VenueProcess) -> Iterator[Line]:
    line = Line(venue)
    yield line
    line.close()


def test_the_line_tells_listings_orders_and_executions_and_goes_on_after_a_kill(
    venue: VenueProcess, line: Line
) -> None:
    venue.start()
    opening = line.messages(2 + 2 * (2 + 10) + 1)
    assert kinds(opening) == "SS" + "RH" + "A" * 10 + "RH" + "A" * 10 + "S"
    client = Counterparty(venue, "RAW")
    client.send(order("a", "54=1|38=1500|40=2|44=150.01"))
    executed, added = line.messages(2)
    assert struct.unpack_from(">QIQ", executed, 11) == (2, 1000, 1)
    assert added[19:20] == b"B"
    assert struct.unpack(">I8sI", added[20:]) == (500, b"AAPL    ", 1_500_100)
    session, following = line.heartbeat()
    assert following == 30
    live = [*opening, executed, added]
    assert line.everything(venue) == live

    venue.kill()
    venue.start()
    assert line.heartbeat() == (session, 30)
    assert line.everything(venue) == live
    client = Counterparty(venue, "RAW", client)
    client.send(order("b", "54=2|38=10|40=1", account="another"))
    (executed,) = line.messages(1)
    assert struct.unpack_from(">QIQ", executed, 11) == (struct.unpack_from(">Q", added, 11)[0], 10, 2)
    assert line.ask(session, 30, 1) == [executed]


class Stage:
    """Two traders who trade with each other and the house, and the reader of market data, fed with all there is."""

    def __init__(self, venue: VenueProcess, line: Line) -> None:
        self.venue, self.line = venue, line
        self.clients = [Counterparty(venue, "OPENBELL"), Counterparty(venue, "BETA")]
        self._traders = [Trader(client, name, 4) for client, name in zip(self.clients, "ab", strict=True)]
        self.counts, self.skipped = Counter[str](), Counter[int]()
        self.market = Market(self.counts, self.skipped)
        self.messages: list[bytes] = []

    def act(self, count: int) -> None:
        for _ in range(count):
            for trader in self._traders:
                trader.act()
        for client in self.clients:
            client.catch_up()

    def compare(self) -> None:
        """The book by the feed, and the venue's own."""
        everything = self.line.everything(self.venue)
        assert everything[: len(self.messages)] == self.messages
        for message in everything[len(self.messages) :]:
            self.market.apply(message)
        self.messages = everything
        listing = self.market.listings["AAPL"]
        book = operate(self.venue, "book", symbol="AAPL")
        assert listing.bids.levels == by_price(book["buy"])
        assert listing.asks.levels == by_price(book["sell"])
        status = operate(self.venue, "status")
        assert listing.last_price == to_units(status["last"]["AAPL"])
        assert listing.halted == ("AAPL" in status["halted"])
        assert (self.counts, listing.doubtful) == ({}, False)


def by_price(rows: list[dict[str, Any]]) -> Counter[int]:
    shares = Counter[int]()
    for row in rows:
        shares[to_units(row["price"])] += row["shares"]
    return shares


def test_the_market_data_service_comes_to_the_same_book(tmp_path: Path) -> None:
    with VenueProcess(tmp_path / "venue", 'session="manual"\nlevels=3\nshares_per_level=200\n') as venue:
        with Line(venue) as line:
            stage = Stage(venue, line)
            operate(venue, "phase", name="PRE_OPEN")
            stage.act(60)
            for _ in range(2):
                operate(venue, "phase", name="OPEN")
                stage.compare()
                stage.act(100)
                stage.compare()
                operate(venue, "halt", symbol="AAPL")
                stage.act(20)
                stage.compare()
                operate(venue, "resume", symbol="AAPL")
                fills = [row["exec_id"] for row in venue.executions() if row["last_shares"]]
                for exec_id in fills[-30::5]:
                    operate(venue, "bust", exec_id=exec_id)
                stage.act(20)
                stage.compare()
                operate(venue, "phase", name="PRE_CLOSE")
                stage.act(40)
            operate(venue, "phase", name="CLOSED")
            stage.compare()
        assert stage.skipped.keys() == {ord("B")}, "only broken trades are of no interest to a book"
        assert set("SRHAECDQB") <= set(kinds(stage.messages))


def test_a_request_that_is_none_is_left_unanswered_and_the_next_one_is_served(venue: VenueProcess, line: Line) -> None:
    venue.start()
    session, following = line.heartbeat()
    ill = [b"", b"garbage", bytes(2000), struct.pack(">10sQH", b"OTHER     ", 1, 1)]
    ill += [struct.pack(">10sQH", session.encode(), sequence, 1) for sequence in (0, following, 2**64 - 1)]
    for datagram in ill:
        line.ask_bytes(datagram)
    assert kinds(line.ask(session, 1, 3)) == "SSR"


def test_a_feed_that_reaches_nobody_does_not_stop_orders(tmp_path: Path) -> None:
    broadcast = 'feed_host="255.255.255.255"\n'  # which the system refuses to an ordinary socket
    with VenueProcess(tmp_path / "venue", broadcast) as venue:
        client = Counterparty(venue, "RAW")
        for name in "ab":
            client.send(order(name, "54=1|38=10|40=1"))
            client.read(f"11={name}|150=2")
    assert venue.output().count("feed packets are lost") == 1


def test_the_line_may_be_a_multicast_group(tmp_path: Path) -> None:
    venue = VenueProcess(tmp_path / "venue", 'feed_host="239.255.42.1"\n')
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("", venue.feed_port))
    receiver.settimeout(5)
    try:
        group = socket.inet_aton("239.255.42.1") + socket.inet_aton("0.0.0.0")
        receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
    except OSError:
        receiver.close()
        pytest.skip("this machine has no route for multicast")
    with venue:
        assert kinds(unpack(receiver.recv(2048))[2]).startswith("SS")
    receiver.close()
