"""The OMS's rules, pure; and its writer on real PostgreSQL."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oms.orders import (
    Ask,
    Done,
    Event,
    Instrument,
    Order,
    OrdType,
    Side,
    Status,
    TimeInForce,
    adopted_price,
    check,
    contradicts,
    hold_of,
    move,
    route_price,
)
from oms.reasons import RULES, Reason, refuse
from oms.writer import Abandon, Accept, Execution, Facts, Recall, Refuse, Writer
from runtime import db, log
from runtime.errors import Refusal, Unknown
from runtime.fees import FeeSchedule
from runtime.units import CASH
from tests.cluster import Database

BUY = Ask("acc_1", "key", "AAPL", Side.BUY, OrdType.LIMIT, 10, 1_500_000, TimeInForce.DAY)
INSTRUMENTS = {"AAPL": Instrument("AAPL", 100, False), "HALT": Instrument("HALT", 100, True)}
ORDER = Order("ord_1", "cus_1", BUY, 1_500_000, "hld_1", 1, 1, b"t" * 16, b"s" * 8, None)


def after(*events: tuple[Event, int]) -> Order:
    order = ORDER
    for event, quantity in events:
        order = move(order, event, quantity, 1_500_000 if quantity else 0, "why", 2)
    return order


LIVES = [
    ([], Status.PENDING_NEW),
    ([(Event.STATUS, 0)], Status.PENDING_NEW),
    ([(Event.PENDING_NEW, 0)], Status.PENDING_NEW),
    ([(Event.NEW, 0)], Status.NEW),
    ([(Event.NEW, 0), (Event.STATUS, 0)], Status.NEW),
    ([(Event.NEW, 0), (Event.FILL, 4)], Status.PARTIALLY_FILLED),
    ([(Event.FILL, 4)], Status.PARTIALLY_FILLED),
    ([(Event.NEW, 0), (Event.FILL, 10)], Status.FILLED),
    ([(Event.FILL, 4), (Event.FILL, 6)], Status.FILLED),
    ([(Event.FILL, 4), (Event.CANCELED, 0)], Status.CANCELED),
    ([(Event.NEW, 0), (Event.CANCELED, 0)], Status.CANCELED),
    ([(Event.REJECTED, 0)], Status.REJECTED),
    ([(Event.NOT_SENT, 0)], Status.REJECTED),
    ([(Event.NEW, 0), (Event.EXPIRED, 0)], Status.EXPIRED),
    ([(Event.CANCELED, 0), (Event.FILL, 4)], Status.CANCELED),  # a late fill is a fact
    ([(Event.FILL, 10), (Event.CANCELED, 0)], Status.FILLED),
    ([(Event.FILL, 10), (Event.STATUS, 0)], Status.FILLED),
    ([(Event.FILL, 10), (Event.NEW, 0)], Status.FILLED),
]


@pytest.mark.parametrize(("events", "status"), LIVES)
def test_executions_move_an_order(events: list[tuple[Event, int]], status: Status) -> None:
    assert after(*events).status == status


@given(st.lists(st.tuples(st.sampled_from(Event), st.integers(1, 10)), max_size=8))
def test_whatever_comes_an_order_counts_every_fill_once(events: list[tuple[Event, int]]) -> None:
    order, filled = ORDER, 0
    for event, quantity in events:
        shares = quantity if event == Event.FILL else 0
        order = move(order, event, shares, 5, "", 2)
        filled += shares
        assert (order.cum_quantity, order.filled_value) == (filled, filled * 5)


def test_what_ended_an_order_gives_its_reason() -> None:
    assert after((Event.REJECTED, 0)).reason == "why"
    assert after((Event.FILL, 10)).reason == ""


@pytest.mark.parametrize("first", [Event.CANCELED, Event.REJECTED, Event.EXPIRED, Event.NOT_SENT])
@pytest.mark.parametrize("second", Event)
def test_what_ended_an_order_stays_its_end_and_late_ends_and_fills_alarm(first: Event, second: Event) -> None:
    ended = after((first, 0))
    later = move(ended, second, 3 if second == Event.FILL else 0, 5, "", 3)
    assert (later.status, later.reason) == (ended.status, ended.reason)
    alarming = {Event.FILL, Event.CANCELED, Event.REJECTED, Event.EXPIRED, Event.NOT_SENT}
    assert contradicts(ended, second) is (second in alarming)
    assert not contradicts(ORDER, second)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"side": 3}, Reason.INVALID_SIDE),
        ({"ord_type": 3}, Reason.UNSUPPORTED_ORDER_TYPE),
        ({"time_in_force": 3}, Reason.UNSUPPORTED_TIME_IN_FORCE),
        ({"quantity": 0}, Reason.INVALID_QUANTITY),
        ({"symbol": "MSFT"}, Reason.UNKNOWN_SYMBOL),
        ({"symbol": "HALT"}, Reason.SYMBOL_HALTED),
        ({"limit_price": 0}, Reason.MISSING_PRICE),
        ({"limit_price": 1_500_001}, Reason.PRICE_OFF_TICK),
        ({"ord_type": OrdType.MARKET}, Reason.PRICE_ON_MARKET_ORDER),
        ({"quantity": 10**9, "limit_price": 10**7}, Reason.ORDER_TOO_LARGE),
    ],
)
def test_the_first_broken_rule_is_the_answer(change: dict[str, int], reason: Reason) -> None:
    with pytest.raises(Refusal) as refusal:
        check(replace(BUY, **change), INSTRUMENTS, market_open=True)  # type: ignore[arg-type]
    assert refusal.value.reason == reason


def test_a_closed_market_and_unknown_instruments_refuse() -> None:
    with pytest.raises(Refusal, match="closed"):
        check(BUY, INSTRUMENTS, market_open=False)
    with pytest.raises(Refusal, match="market data"):
        check(BUY, {}, market_open=True)


def test_every_reason_has_its_rule() -> None:
    assert set(RULES) == set(Reason)


@given(st.integers(1, 10**9), st.integers(1, 10_000), st.sampled_from([1, 100, 500]), st.sampled_from(Side))
def test_a_market_order_goes_out_on_the_tick_and_no_better_than_its_reference(
    reference: int, collar: int, tick: int, side: Side
) -> None:
    ask = replace(BUY, ord_type=OrdType.MARKET, limit_price=0, quantity=1, side=side)
    price = route_price(ask, tick, reference, collar)
    assert price > 0
    assert price % tick == 0
    assert price >= reference if side == Side.BUY else price <= max(reference, tick)


def test_a_hold_is_adopted_only_if_it_was_made_for_this_order() -> None:
    market, fees = replace(BUY, ord_type=OrdType.MARKET, limit_price=0), FeeSchedule()
    assert adopted_price(market, 100, CASH, 10 * 1_400_000, 1_500_000, fees) == 1_400_000  # at the price held for
    assert adopted_price(market, 100, CASH, 10 * 1_400_000 + 1, 1_500_000, fees) is None
    assert adopted_price(market, 100, CASH, 10 * 1_600_000, 1_500_000, fees) is None  # beyond today's collar
    assert adopted_price(BUY, 100, *hold_of(BUY, BUY.limit_price, fees), BUY.limit_price, fees) == BUY.limit_price
    assert adopted_price(replace(BUY, quantity=11), 100, CASH, 15_000_000, BUY.limit_price, fees) is None
    assert adopted_price(BUY, 100, "AAPL", 10, BUY.limit_price, fees) is None


# --- the writer


@pytest.fixture
async def writer(database: Database) -> AsyncIterator[Writer]:
    pool = await db.pool(database.urls["oms"], "oms", size=2)
    yield Writer(pool, 0, log.Bell())
    await pool.close()


def accept(order_id: str, key: str, request_hash: bytes = b"h") -> Accept:
    return Accept(replace(ORDER, order_id=order_id, ask=replace(BUY, client_order_id=key)), request_hash)


async def test_the_same_key_twice_in_one_batch_is_one_order(writer: Writer) -> None:
    first, second, other = await writer.commit([accept("ord_1", "k"), accept("ord_2", "k"), accept("ord_3", "k", b"x")])
    assert isinstance(first, Order)
    assert first == second
    assert isinstance(other, Refusal)
    assert other.reason == Reason.KEY_REUSED


async def test_a_refusal_is_the_answer_to_its_key_for_good(writer: Writer) -> None:
    refusal = refuse(Reason.UNKNOWN_SYMBOL, "no", symbol="X")
    await writer.commit([Refuse(BUY, refusal, b"h")])
    (again,) = await writer.commit([accept("ord_1", BUY.client_order_id)])
    assert isinstance(again, Refusal)
    assert (again.reason, again.message, again.metadata) == ("UNKNOWN_SYMBOL", "no", {"symbol": "X"})


async def test_an_order_id_that_was_given_up_makes_no_order(writer: Writer) -> None:
    assert await writer.commit([Abandon("ord_1")]) == [True]
    (answer,) = await writer.commit([accept("ord_1", "k")])
    assert isinstance(answer, Unknown)
    assert await writer.commit([Recall(replace(BUY, client_order_id="k"), b"h")]) == [None]


async def test_an_order_that_came_first_is_not_given_up(writer: Writer) -> None:
    accepted, abandoned = await writer.commit([accept("ord_1", "k"), Abandon("ord_1")])
    assert isinstance(accepted, Order)
    assert abandoned is False
    assert await writer.commit([Abandon("ord_1")]) == [False]


async def test_giving_up_and_accepting_in_one_batch_exclude_each_other(writer: Writer) -> None:
    abandoned, accepted = await writer.commit([Abandon("ord_1"), accept("ord_1", "k")])
    assert abandoned is True
    assert isinstance(accepted, Unknown)


async def test_a_fact_about_an_unknown_order_stops_and_takes_nothing_with_it(writer: Writer) -> None:
    facts = Facts(1, 0, [Execution(1, "exe_1_000000000001", Event.NEW, "ord_nobody", 0, 0, "")])
    stopped, accepted = await writer.commit([facts, accept("ord_1", "k")])
    assert isinstance(stopped, Exception)
    assert isinstance(accepted, Order)


async def test_executions_move_the_stored_order_and_the_cursor_together(writer: Writer) -> None:
    await writer.commit([accept("ord_1", "k")])
    rows = [Execution(1, "exe_1_000000000001", Event.NEW, "ord_1", 0, 0, "")]
    rows.append(Execution(2, "exe_1_000000000002", Event.FILL, "ord_1", 10, 1_400_000, ""))
    await writer.commit([Facts(1, 0, rows)])
    (order,) = await writer.commit([Recall(replace(BUY, client_order_id="k"), b"h")])
    assert isinstance(order, Order)
    assert (order.done, order.status, order.filled_value) == (Done.FILLED, Status.FILLED, 14_000_000)
    with pytest.raises(log.Fenced):
        await writer.commit([Facts(1, 0, rows)])
