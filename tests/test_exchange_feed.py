"""ITCH 5.0 in MoldUDP64: the bytes, and the line and the re-request server of a real venue."""

import socket
import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from exchange import itch, moldudp64
from exchange.market import Added, Executed, Listed
from exchange.orders import Side
from tests.exchange_process import VenueProcess
from tests.fix_client import FixClient

STAMP = 0x1F1AD5A7B2C0 // 4  # some nanoseconds since midnight
STAMP_BYTES = STAMP.to_bytes(6, "big")


def test_add_order_has_36_bytes_in_the_order_of_the_specification() -> None:
    (message,) = itch.encode(Added(2, 77, Side.SELL, 1000, "GOOGL", 28_000_100), STAMP)
    assert message == (
        b"A\x00\x02\x00\x00" + STAMP_BYTES + b"\x00\x00\x00\x00\x00\x00\x00\x4d" + b"S" + b"\x00\x00\x03\xe8"
        b"GOOGL   " + b"\x01\xab\x3f\x64"
    )


def test_order_executed_has_31_bytes() -> None:
    (message,) = itch.encode(Executed(1, 5, 300, 9), STAMP)
    assert message == (
        b"E\x00\x01\x00\x00" + STAMP_BYTES + b"\x00\x00\x00\x00\x00\x00\x00\x05" + b"\x00\x00\x01\x2c"
        b"\x00\x00\x00\x00\x00\x00\x00\x09"
    )


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


class Line:
    """A receiver of the venue's UDP line, and an asker of its re-request server."""

    def __init__(self, venue: VenueProcess) -> None:
        self._line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._line.bind(("127.0.0.1", venue.feed_port))
        self._line.settimeout(5)
        self._asker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._asker.connect(("127.0.0.1", venue.rerequest_port))
        self._asker.settimeout(5)

    def packet(self) -> tuple[str, int, list[bytes]]:
        return unpack(self._line.recv(2048))

    def messages(self, count: int) -> list[bytes]:
        """The next messages, in as many packets as they come."""
        messages: list[bytes] = []
        while len(messages) < count:
            messages += self.packet()[2]
        assert len(messages) == count
        return messages

    def heartbeat(self) -> tuple[str, int]:
        """(session, next number) of the next packet without messages."""
        while True:
            session, sequence, messages = self.packet()
            if not messages:
                return session, sequence

    def ask(self, session: str, sequence: int, count: int) -> list[bytes]:
        self.ask_bytes(struct.pack(">10sQH", session.encode(), sequence, count))
        answered, first, messages = unpack(self._asker.recv(2048))
        assert (answered, first) == (session, sequence)
        return messages

    def ask_bytes(self, datagram: bytes) -> None:
        self._asker.send(datagram)

    def ask_all(self, session: str, last: int) -> list[bytes]:
        messages: list[bytes] = []
        while len(messages) < last:
            messages += self.ask(session, len(messages) + 1, last - len(messages))
        return messages

    def close(self) -> None:
        self._line.close()
        self._asker.close()


def unpack(packet: bytes) -> tuple[str, int, list[bytes]]:
    session, sequence, count = struct.unpack_from(">10sQH", packet)
    at, messages = 20, []
    for _ in range(count):
        (length,) = struct.unpack_from(">H", packet, at)
        messages.append(packet[at + 2 : at + 2 + length])
        at += 2 + length
    assert at == len(packet)
    return session.decode(), sequence, messages


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


def order(cl_ord_id: str, terms: str) -> str:
    now = datetime.now(UTC).strftime("%Y%m%d-%H:%M:%S")
    return f"35=D|11={cl_ord_id}|21=1|55=AAPL|{terms}|60={now}"


def kinds(messages: list[bytes]) -> str:
    return "".join(chr(message[0]) for message in messages)


def test_the_line_tells_listings_orders_and_executions_and_goes_on_after_a_kill(
    venue: VenueProcess, line: Line, tmp_path: Path
) -> None:
    venue.start()
    opening = line.messages(2 + 2 * (2 + 10))
    assert kinds(opening) == "SS" + "RH" + "A" * 10 + "RH" + "A" * 10
    with FixClient(venue.fix_port, "OPENBELL", tmp_path / "client") as client:
        client.send(order("a", "54=1|38=1500|40=2|44=150.01"))
        client.receive(2)
        executed, added = line.messages(2)
        assert struct.unpack_from(">QIQ", executed, 11) == (2, 1000, 1)
        assert added[19:20] == b"B"
        assert struct.unpack(">I8sI", added[20:]) == (500, b"AAPL    ", 1_500_100)
        session, following = line.heartbeat()
        assert following == 29
        live = [*opening, executed, added]
        assert line.ask_all(session, 28) == live

        venue.kill()
        client.wait_logged_out()
        venue.start()
        client.wait_logged_on()
        assert line.heartbeat() == (session, 29)
        assert line.ask_all(session, 28) == live
        client.send(order("b", "54=2|38=10|40=1"))
        (executed,) = line.messages(1)
        assert struct.unpack_from(">QIQ", executed, 11) == (struct.unpack_from(">Q", added, 11)[0], 10, 2)
        assert line.ask(session, 29, 1) == [executed]


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
        with FixClient(venue.fix_port, "OPENBELL", tmp_path / "client") as client:
            client.send(order("a", "54=1|38=10|40=1"))
            client.receive(2)
        assert venue.stop() == 0
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
        assert kinds(unpack(receiver.recv(2048))[2]).startswith("SSRHA")
    receiver.close()
