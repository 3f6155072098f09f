"""When a quote may be believed, and of which day it is."""

import random
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from marketdata.moldudp64 import HEADER
from marketdata.plant import Plant
from tests import itch_wire as wire
from tests.itch_wire import AAPL, NOON_NS, OPENING, SESSION
from tests.test_marketdata_book import streams

SECOND = 10**9
HOUR = 3_600 * SECOND
DAY = 24 * HOUR
SILENCE = 3 * SECOND
NOON = int(datetime(2026, 11, 20, 17, tzinfo=UTC).timestamp()) * SECOND  # 12:00 in New York
NEXT = len(OPENING) + 1


def plant_after(*datagrams: bytes, now_ns: int = NOON) -> Plant:
    plant = Plant(SILENCE, 1000)
    for datagram in datagrams:
        plant.on_feed(datagram, 0, now_ns)
    return plant


def opened(now_ns: int = NOON) -> Plant:
    return plant_after(wire.packet(1, OPENING), now_ns=now_ns)


def test_a_quote_is_fresh_while_the_venue_is_heard() -> None:
    plant = opened()
    assert not plant.quote("AAPL", SILENCE).stale
    assert plant.quote("AAPL", SILENCE + 1).stale
    plant.on_feed(wire.heartbeat(NEXT), SILENCE, NOON)
    assert not plant.quote("AAPL", 2 * SILENCE).stale


def test_nothing_is_fresh_before_the_venue_is_heard() -> None:
    assert not Plant(SILENCE, 1000).fresh(0)


def test_every_quote_is_stale_while_a_message_is_missing() -> None:
    plant = opened()
    plant.on_feed(wire.packet(NEXT + 1, [wire.deleted(AAPL, 1)]), 0, NOON)
    assert plant.quote("AAPL", 0).stale
    assert plant.quote("GOOGL", 0).stale
    plant.on_answer(wire.packet(NEXT, [wire.add(AAPL, 9, b"B", 5, 149_0000)]), NOON)
    quote = plant.quote("AAPL", 0)
    assert (quote.stale, quote.bid_price, quote.bid_quantity) == (False, 149_0000, 5)


def test_a_symbol_in_doubt_stays_stale_and_others_do_not() -> None:
    plant = opened()
    plant.on_feed(wire.packet(NEXT, [wire.deleted(AAPL, 99)]), 0, NOON)
    assert plant.quote("AAPL", 0).stale
    assert not plant.quote("GOOGL", 0).stale
    assert "AAPL" in plant.take_changed()


def test_a_packet_of_another_session_is_no_sign_of_life() -> None:
    plant = opened()
    plant.on_feed(wire.heartbeat(1, b"STRANGER00"), SILENCE, NOON)
    assert not plant.fresh(SILENCE + 1)


def test_a_new_session_drops_the_book_and_tells_of_every_symbol() -> None:
    plant = opened()
    plant.take_changed()
    for sequence in (1, 2):
        plant.on_feed(wire.packet(sequence, [wire.directory(AAPL, "AAPL")], b"TOMORROW01"), 0, NOON)
    assert plant.take_changed() >= {"AAPL", "GOOGL"}
    assert plant.quote("GOOGL", 0).stale
    assert plant.quote("AAPL", 0).bid_price == 0
    assert not plant.ready
    plant.on_answer(wire.packet(1, [wire.system_event(b"O")], b"TOMORROW01"), NOON)
    assert plant.ready
    assert not plant.quote("AAPL", 0).stale


def test_the_list_is_not_ready_before_anything_is_listed() -> None:
    assert not plant_after(wire.heartbeat(1)).ready


def test_what_cannot_be_read_is_counted_and_disturbs_nothing() -> None:
    plant = opened()
    before = plant.quote("AAPL", 0)
    for datagram in (b"", b"\xff" * 60_000, wire.packet(NEXT, [b"abc"])[:-1], SESSION):
        plant.on_feed(datagram, 0, NOON)
        plant.on_answer(datagram, NOON)
    assert plant.quote("AAPL", 0) == before
    assert plant.counts["malformed"] == 8


def test_a_message_of_an_unused_type_is_counted_and_consumes_its_number() -> None:
    plant = opened()
    plant.on_feed(wire.packet(NEXT, [wire.itch("L", AAPL, b"x" * 15)]), 0, NOON)
    assert plant.skipped == {ord("L"): 1}
    assert plant.fresh(0)


def test_a_change_has_the_venues_time() -> None:
    plant = opened()
    plant.on_feed(wire.packet(NEXT, [wire.executed(AAPL, 2, 1, at=NOON_NS + 123)]), 0, NOON + SECOND)
    assert plant.quote("AAPL", 0).changed_at_ns == NOON + 123
    assert plant.quote("GOOGL", 0).changed_at_ns == NOON


def test_what_is_listed_and_never_quoted_has_no_time() -> None:
    plant = plant_after(wire.packet(1, [wire.directory(AAPL, "AAPL")]))
    assert plant.quote("AAPL", 0).changed_at_ns == 0


def test_midnight_begins_a_new_day() -> None:
    plant = opened()
    midnight = NOON + 12 * HOUR
    late = wire.executed(AAPL, 2, 1, at=DAY - 1)
    plant.on_feed(wire.packet(NEXT, [late]), 0, midnight + SECOND)  # received on the next day
    assert plant.quote("AAPL", 0).changed_at_ns == midnight - 1
    plant.on_feed(wire.packet(NEXT + 1, [wire.executed(AAPL, 2, 1, at=0)]), 0, midnight + SECOND)
    assert plant.quote("AAPL", 0).changed_at_ns == midnight
    plant.on_feed(wire.packet(NEXT + 2, [wire.executed(AAPL, 2, 1, at=DAY - 1)] * 2), 0, midnight + DAY)
    assert plant.quote("AAPL", 0).changed_at_ns == midnight + DAY - 1


def test_a_change_after_a_quiet_day_is_not_taken_for_one_of_that_day() -> None:
    plant = opened()
    plant.on_feed(wire.packet(NEXT, [wire.executed(AAPL, 2, 1, at=NOON_NS + HOUR)]), 0, NOON + 3 * DAY + HOUR)
    assert plant.quote("AAPL", 0).changed_at_ns == NOON + 3 * DAY + HOUR
    assert plant.quote("GOOGL", 0).changed_at_ns == NOON


def test_a_replay_of_several_days_dates_its_changes_back_from_the_last() -> None:
    days = [wire.executed(AAPL, 2, 1, at=at) for at in (NOON_NS + HOUR, 0, DAY - 1, SECOND)]
    plant = plant_after(wire.packet(1, [*OPENING, *days]), now_ns=NOON)
    assert plant.quote("AAPL", 0).changed_at_ns == NOON - NOON_NS + SECOND
    assert plant.quote("GOOGL", 0).changed_at_ns == NOON - 2 * DAY


def test_a_venue_whose_clock_is_set_back_does_not_make_a_day_of_it() -> None:
    plant = opened()
    for number in range(3):
        back = wire.executed(AAPL, 2, 1, at=NOON_NS - number * 3 * HOUR)
        plant.on_feed(wire.packet(NEXT + number, [back]), 0, NOON)
        assert plant.quote("AAPL", 0).changed_at_ns == NOON - number * 3 * HOUR


def test_a_replay_is_dated_by_its_last_message_however_it_is_cut() -> None:
    stream = [*OPENING, wire.executed(AAPL, 2, 1, at=0), wire.executed(AAPL, 2, 1, at=NOON_NS)]
    plant = plant_after(wire.heartbeat(len(stream) + 1))
    for request in plant.sequencer.requests(0):
        _, first, count = HEADER.unpack(request)
        for number in range(first, first + count):
            plant.on_answer(wire.packet(number, [stream[number - 1]]), NOON)
    assert plant.quote("AAPL", 0).changed_at_ns == NOON
    assert plant.quote("GOOGL", 0).changed_at_ns == NOON - DAY


def test_the_night_the_clock_is_set_back_makes_no_quote_fresher() -> None:
    second_half_past_one = int(datetime(2026, 11, 1, 6, 30, tzinfo=UTC).timestamp()) * SECOND
    opening = [message[:5] + wire.u(HOUR + HOUR // 2, 6) + message[11:] for message in OPENING]
    plant = plant_after(wire.packet(1, opening), now_ns=second_half_past_one)
    assert plant.quote("AAPL", 0).changed_at_ns == second_half_past_one - HOUR
    after = wire.executed(AAPL, 2, 1, at=3 * HOUR)
    plant.on_feed(wire.packet(NEXT, [after]), 0, second_half_past_one + 2 * HOUR)
    assert plant.quote("AAPL", 0).changed_at_ns == second_half_past_one + HOUR + HOUR // 2


def test_a_time_beyond_the_day_does_not_stop_the_feed() -> None:
    plant = opened()
    plant.on_feed(wire.packet(NEXT, [wire.executed(AAPL, 2, 1, at=2**48 - 1)]), 0, NOON)
    assert plant.quote("AAPL", 0).last_quantity == 1


def state(plant: Plant) -> tuple[object, ...]:
    market = plant.market
    orders = {ref: (order.listing.symbol, order.price, order.shares) for ref, order in market.orders.items()}
    return orders, [plant.quote(symbol, 0) for symbol in sorted(market.listings)]


@settings(max_examples=60, deadline=None)
@given(stream=streams(), seed=st.integers(0, 2**32), per_packet=st.integers(1, 6))
def test_any_loss_duplication_and_reordering_gives_the_book_of_the_lossless_stream(
    stream: tuple[list[bytes], object], seed: int, per_packet: int
) -> None:
    chance = random.Random(seed)
    messages = [*OPENING, *stream[0]]
    lossless = plant_after(wire.packet(1, messages))
    packets = [wire.packet(n + 1, messages[n : n + per_packet]) for n in range(0, len(messages), per_packet)]
    arriving = [packet for packet in packets for _ in range(chance.choice([0, 1, 1, 2]))]
    arriving.sort(key=lambda packet: int.from_bytes(packet[10:18]) + chance.randint(0, 12))
    plant = Plant(SILENCE, window=chance.choice([3, 1000]))
    for turn, packet in enumerate([*arriving, wire.heartbeat(len(messages) + 1)]):
        plant.on_feed(packet, 0, NOON)
        _answer_some(plant, messages, turn, chance)
    turns = iter(range(1000, 1200))
    while plant.sequencer.behind:
        _answer_some(plant, messages, next(turns), chance)
    assert plant.fresh(0)
    assert state(plant) == state(lossless)


def _answer_some(plant: Plant, messages: list[bytes], turn: int, chance: random.Random) -> None:
    answers = []
    for request in plant.sequencer.requests(turn * SECOND):
        _, first, count = HEADER.unpack(request)
        fitting = min(count, chance.randint(1, 30))
        answers += [wire.packet(first, messages[first - 1 : first - 1 + fitting])] * chance.choice([0, 1, 1, 2])
    chance.shuffle(answers)
    for answer in answers:
        plant.on_answer(answer, NOON)
