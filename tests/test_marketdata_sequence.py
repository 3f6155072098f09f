"""One session put back in order, whatever the network does to it; times are given, none pass."""

from collections import Counter, deque
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketdata.moldudp64 import BACK_NS, HEADER, RETRY_MIN_NS, Malformed, Sequencer, parse
from tests import itch_wire as wire
from tests.itch_wire import SESSION, u

OTHER = b"OPENBELL02"
DAY = [str(number).encode() for number in range(1, 201)]  # message n says "n"


def numbers(messages: list[bytes]) -> list[int]:
    return [int(message) for message in messages]


def part(first: int, end: int, session: bytes = SESSION) -> bytes:
    return wire.packet(first, DAY[first - 1 : end - 1], session)


@dataclass
class Receiver:
    """A sequencer and all that it has handed out."""

    sequencer: Sequencer = field(default_factory=lambda: Sequencer(1000, Counter()))
    got: list[int] = field(default_factory=list)

    def feed(self, *datagrams: bytes, at_ns: int = 0) -> None:
        for datagram in datagrams:
            self.got += numbers(self.sequencer.on_feed(parse(datagram), at_ns))

    def answer(self, *datagrams: bytes) -> None:
        for datagram in datagrams:
            self.got += numbers(self.sequencer.on_answer(parse(datagram)))

    def asks(self, at_ns: int = 0) -> list[tuple[int, int]]:
        """(first number, count) of each request."""
        packets = [HEADER.unpack(request) for request in self.sequencer.requests(at_ns)]
        assert all(session == self.sequencer.session for session, _, _ in packets)
        return [(first, count) for _, first, count in packets]


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        SESSION,
        SESSION + u(1, 8) + b"\0",
        SESSION + u(1, 8) + u(1, 2),
        SESSION + u(1, 8) + u(1, 2) + u(5, 2) + b"four",
        SESSION + u(1, 8) + u(2, 2) + u(1, 2) + b"a",
        SESSION + u(1, 8) + u(1, 2) + u(1, 2) + b"a" + b"left over",
        SESSION + u(1, 8) + u(0xFFFF, 2) + b"left over",
        SESSION + u(0, 8) + u(0, 2),
    ],
)
def test_what_is_not_wholly_a_packet_is_malformed(datagram: bytes) -> None:
    with pytest.raises(Malformed):
        parse(datagram)


def test_the_end_of_session_is_a_packet_without_messages() -> None:
    packet = parse(SESSION + u(9, 8) + u(0xFFFF, 2))
    assert (packet.sequence, packet.messages) == (9, [])


def test_messages_in_order_are_handed_out_at_once() -> None:
    receiver = Receiver()
    receiver.feed(part(1, 4), part(4, 5), wire.heartbeat(5))
    assert receiver.got == [1, 2, 3, 4]
    assert receiver.asks() == []


def test_a_message_is_handed_out_once() -> None:
    receiver = Receiver()
    receiver.feed(part(1, 4), part(1, 4), part(2, 6), part(3, 5))
    assert receiver.got == [1, 2, 3, 4, 5]


def test_a_gap_is_asked_for_and_what_came_early_waits() -> None:
    receiver = Receiver()
    receiver.feed(part(1, 4), part(6, 8))
    assert (receiver.got, receiver.sequencer.behind) == ([1, 2, 3], True)
    assert receiver.asks() == [(4, 2)]
    receiver.answer(part(4, 6))
    assert (receiver.got, receiver.sequencer.behind) == ([1, 2, 3, 4, 5, 6, 7], False)


def test_a_heartbeat_tells_of_a_lost_last_message() -> None:
    receiver = Receiver()
    receiver.feed(part(1, 4), wire.heartbeat(6))
    assert receiver.asks() == [(4, 2)]


def test_who_joins_in_the_middle_asks_from_the_first_message() -> None:
    receiver = Receiver()
    receiver.feed(part(190, 201))
    asked = receiver.asks()
    assert asked[0] == (1, 30)
    assert sum(count for _, count in asked) == 189
    receiver.answer(*(part(first, first + count) for first, count in asked))
    assert receiver.got == list(range(1, 201))


def test_a_request_is_not_repeated_before_its_time() -> None:
    receiver = Receiver()
    receiver.feed(part(1, 4), part(6, 8))
    assert receiver.asks(0) == [(4, 2)]
    assert receiver.asks(RETRY_MIN_NS - 1) == []
    assert receiver.asks(RETRY_MIN_NS) == [(4, 2)]
    assert receiver.asks(2 * RETRY_MIN_NS) == []  # unanswered: twice the time
    assert receiver.asks(3 * RETRY_MIN_NS) == [(4, 2)]


def test_a_short_answer_is_followed_by_a_request_for_its_rest() -> None:
    receiver = Receiver()
    receiver.feed(wire.heartbeat(31))
    assert receiver.asks() == [(1, 30)]
    receiver.answer(part(1, 11))
    assert receiver.asks() == [(11, 20)]


def test_an_empty_answer_is_not_asked_again_at_once() -> None:
    receiver = Receiver()
    receiver.feed(wire.heartbeat(31))
    assert receiver.asks() == [(1, 30)]
    receiver.answer(wire.heartbeat(1))
    assert receiver.asks() == []


def test_requests_and_early_messages_are_bounded() -> None:
    receiver = Receiver(Sequencer(50, Counter()))
    receiver.feed(part(2, 201), wire.heartbeat(2**63))
    assert len(receiver.sequencer._early) == 49
    assert receiver.asks() == [(1, 1)]
    receiver.answer(part(1, 2))
    assert receiver.got == list(range(1, 51))
    asked = receiver.asks()
    assert (asked[0], len(asked)) == ((51, 30), 2)


def test_an_answer_of_another_session_is_not_believed() -> None:
    receiver = Receiver()
    receiver.feed(part(1, 4), part(6, 8))
    receiver.answer(part(4, 6, OTHER))
    assert receiver.got == [1, 2, 3]


def test_one_stray_packet_of_another_session_changes_nothing() -> None:
    receiver = Receiver()
    receiver.feed(part(1, 4), part(1, 4, OTHER), part(4, 5), part(1, 4, OTHER), wire.heartbeat(5))
    assert receiver.got == [1, 2, 3, 4]
    assert (receiver.sequencer.session, receiver.sequencer.generation) == (SESSION, 1)


def test_a_new_session_begins_at_its_first_message() -> None:
    receiver = Receiver()
    receiver.feed(part(1, 4), part(1, 3, OTHER), part(3, 5, OTHER))
    assert (receiver.sequencer.session, receiver.sequencer.generation) == (OTHER, 2)
    assert receiver.asks() == [(1, 2)]
    receiver.answer(part(1, 3, OTHER))
    assert receiver.got == [1, 2, 3, 1, 2, 3, 4]


def test_a_heartbeat_that_is_overtaken_proves_nothing() -> None:
    receiver = Receiver()
    receiver.feed(part(1, 9), wire.heartbeat(5), wire.heartbeat(9), at_ns=0)
    receiver.feed(wire.heartbeat(5), at_ns=BACK_NS)
    assert (receiver.sequencer.generation, receiver.sequencer.expected) == (1, 9)


def test_a_venue_that_has_less_than_was_received_is_read_again_from_the_first_message() -> None:
    receiver = Receiver()
    receiver.feed(part(1, 9), wire.heartbeat(5), at_ns=0)
    receiver.feed(wire.heartbeat(5), at_ns=BACK_NS)
    assert receiver.sequencer.generation == 2
    assert receiver.asks() == [(1, 4)]


def test_a_number_that_came_from_nowhere_is_forgotten() -> None:
    receiver = Receiver()
    receiver.feed(part(1, 9), wire.heartbeat(2**63), wire.heartbeat(9), at_ns=0)
    assert receiver.sequencer.behind
    receiver.feed(wire.heartbeat(9), at_ns=BACK_NS)
    assert not receiver.sequencer.behind
    receiver.feed(part(9, 11))
    assert receiver.got == list(range(1, 11))


@st.composite
def cut(draw: st.DrawFn) -> list[bytes]:
    """The day, cut into packets."""
    packets, first = [], 1
    while first <= len(DAY):
        end = min(first + draw(st.integers(1, 25)), len(DAY) + 1)
        packets.append(part(first, end))
        first = end
    return packets


def serve(request: bytes, most: int) -> bytes:
    """What the venue's re-request server answers when `most` messages fit a packet."""
    session, first, count = HEADER.unpack(request)
    return part(first, min(first + min(count, most), len(DAY) + 1), session)


@settings(max_examples=60, deadline=None)
@given(packets=cut(), data=st.data(), window=st.sampled_from([5, 40, 1000]), most=st.integers(1, 40))
def test_loss_duplication_and_reordering_on_both_ways_lose_nothing(
    packets: list[bytes], data: st.DataObject, window: int, most: int
) -> None:
    """The network holds packets of either way and delivers, doubles or drops any of them; then it heals."""
    receiver = Receiver(Sequencer(window, Counter()))
    to_send, on_way = deque(packets), list[bytes]()
    answers = list[bytes]()
    for turn in range(3 * len(packets)):
        if to_send:
            on_way.append(to_send.popleft())
        answers += [serve(request, most) for request in receiver.sequencer.requests(turn * RETRY_MIN_NS)]
        for held, deliver in ((on_way, receiver.feed), (answers, receiver.answer)):
            fate = data.draw(st.sampled_from(["deliver", "hold", "double", "drop"]))
            if held and fate != "hold":
                chosen = held.pop(data.draw(st.integers(0, len(held) - 1)))
                for _ in range(["drop", "deliver", "double"].index(fate)):
                    deliver(chosen)
        assert receiver.got == list(range(1, len(receiver.got) + 1))
    receiver.feed(*to_send, wire.heartbeat(len(DAY) + 1))
    heal(receiver, most)
    assert receiver.got == list(range(1, len(DAY) + 1))


def heal(receiver: Receiver, most: int) -> None:
    for turn in range(1000, 2000):
        if not receiver.sequencer.behind:
            return
        for request in receiver.sequencer.requests(turn * 10**9):
            receiver.answer(serve(request, most))
    pytest.fail(f"still behind at {receiver.sequencer.expected}")
