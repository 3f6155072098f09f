"""The venue's rules where two of them meet: each case was once decided wrongly."""

from pathlib import Path
from typing import Any

import pytest

from exchange.acts import Bust, Correct, Halt, Restate, Resume, Split, Telephone, Trade
from exchange.events import Phase
from exchange.orders import CancelReject, NewOrder, Order, OrdStatus
from exchange.reasons import CancelRefusal, Refusal
from exchange.venue import Conduct
from runtime.units import to_decimal
from tests.test_exchange_determinism import BASE, DELAY, MANUAL, STEP, STOP, Stage, written
from tests.test_exchange_rules import BUY, CONTINUOUS, EVENING, MONDAY, SELL, go_to, replace_, stage, trade_of

__all__ = ["stage"]  # a fixture


@pytest.fixture
def slow(tmp_path: Path) -> Stage:
    """A market with an answer delay."""
    opened = Stage(tmp_path, MANUAL, Conduct(answer_delay_ns=DELAY), levels=0)
    opened.enter(CONTINUOUS)
    return opened


def rejects(stage: Stage) -> list[CancelRefusal]:
    return [each.refusal for each in stage.market.reports if isinstance(each, CancelReject)]


def pass_delay(stage: Stage) -> None:
    stage.wait(DELAY)


# Cancel on disconnect


def test_a_replace_that_was_pending_when_its_session_ended_gives_no_more_shares(slow: Stage) -> None:
    order = slow.put("ANN", BUY, 10, BASE)
    slow.put("BOB", SELL, 10, BASE)
    pass_delay(slow)
    assert order.status is OrdStatus.FILLED
    replace_(slow, order, 1000)
    slow.disconnect("ANN")
    assert rejects(slow) == [CancelRefusal.DISCONNECTED]
    pass_delay(slow)
    assert (order.status, order.leaves, slow.market.open) == (OrdStatus.FILLED, 0, {})


def test_a_bust_brings_nothing_back_to_a_session_that_has_left(stage: Stage) -> None:
    order = stage.put("ANN", BUY, 10, BASE)
    stage.put("BOB", SELL, 10, BASE)
    stage.disconnect("ANN")
    stage.operate("bust", Bust(trade_of(order, stage)))
    assert (order.status, order.leaves) == (OrdStatus.CANCELED, 0)


def test_a_disconnect_of_a_session_without_new_orders_is_no_event(stage: Stage) -> None:
    stage.put("ANN", BUY, 10, BASE)
    stage.disconnect("ANN")
    stage.venue.flush()
    lines = stage.path.read_bytes()
    stage.disconnect("ANN")
    stage.venue.flush()
    assert stage.path.read_bytes() == lines


# The house and the auctions


def test_the_house_takes_part_in_the_auction_after_a_night_that_used_it_up(tmp_path: Path) -> None:
    stage = Stage(tmp_path, MANUAL, Conduct(), levels=1)
    stage.enter(CONTINUOUS)
    go_to(stage, EVENING, Phase.PRE_CLOSE)
    stage.put("ANN", BUY, 30, None)
    go_to(stage, EVENING, Phase.CLOSED)
    assert stage.market.listings["AAA"].used_up
    go_to(stage, MONDAY, Phase.PRE_OPEN)
    order = stage.put("ANN", BUY, 10, None)
    stage.put("BOB", SELL, 10, BASE * 3)
    go_to(stage, MONDAY, CONTINUOUS)
    assert order.average_price < BASE * 2


# Queues


def test_a_stop_order_that_is_moved_waits_behind_those_that_were_there(stage: Stage) -> None:
    moved = stage.put("ANN", BUY, 10, None, ord_type=STOP, stop_px=written(5))
    there = stage.put("BOB", BUY, 10, None, ord_type=STOP, stop_px=written(2))
    replace_(stage, moved, 10, stop_px=written(2))
    stage.put("EVE", SELL, 5, BASE + 2 * STEP)
    stage.put("EVE", SELL, 10, BASE + 3 * STEP)
    stage.put("ZOE", BUY, 5, BASE + 2 * STEP, "3")
    assert (there.cum, moved.cum) == (10, 0)


def test_a_split_keeps_the_queue(stage: Stage) -> None:
    late, early = (stage.put(party, BUY, 10, BASE, "1") for party in ("ANN", "BOB"))
    replace_(stage, late, 20)
    go_to(stage, EVENING, Phase.CLOSED)
    stage.operate("split", Split("AAA", 2, 1))
    go_to(stage, MONDAY, CONTINUOUS)
    stage.put("EVE", SELL, 20, BASE // 2)
    assert (early.cum, late.cum) == (20, 0)


# Busts and corrections


@pytest.mark.parametrize("shares", [10, 20])
def test_a_trade_that_is_busted_at_night_does_not_come_again_in_the_morning(stage: Stage, shares: int) -> None:
    resting = stage.put("ANN", SELL, shares, BASE, "1")
    taker = stage.put("BOB", BUY, 10, BASE, "1")
    go_to(stage, EVENING, Phase.CLOSED)
    stage.operate("bust", Bust(trade_of(resting, stage)))
    go_to(stage, MONDAY, Phase.PRE_OPEN, CONTINUOUS)
    assert (resting.cum, resting.leaves, taker.status) == (0, shares, OrdStatus.CANCELED)


def test_a_correction_to_fewer_shares_does_not_trade_the_rest_again(stage: Stage) -> None:
    resting, taker = stage.put("ANN", SELL, 10, BASE), stage.put("BOB", BUY, 10, BASE)
    stage.operate("correct", Correct(trade_of(resting, stage), 6, BASE))
    assert (resting.cum, resting.leaves, taker.cum, taker.status) == (6, 4, 6, OrdStatus.CANCELED)


def test_a_bust_puts_no_more_back_than_the_last_replace_asked_for(stage: Stage) -> None:
    order = stage.put("ANN", BUY, 100, BASE)
    stage.put("BOB", SELL, 70, BASE)
    replace_(stage, order, 65)
    assert (order.status, order.cum) == (OrdStatus.FILLED, 70)
    stage.operate("bust", Bust(trade_of(order, stage)))
    assert (order.status, order.cum, order.leaves) == (OrdStatus.CANCELED, 0, 0)


def test_what_was_halted_and_busted_does_not_cross_at_the_resumption(stage: Stage) -> None:
    resting, taker = stage.put("ANN", SELL, 10, BASE), stage.put("BOB", BUY, 10, BASE)
    stage.operate("halt", Halt("AAA"))
    stage.operate("bust", Bust(trade_of(resting, stage)))
    stage.operate("resume", Resume("AAA"))
    assert (resting.cum, resting.leaves, taker.status) == (0, 10, OrdStatus.CANCELED)


# Days and times


def test_a_split_waits_for_the_close_and_for_what_is_pending(slow: Stage) -> None:
    go_to(slow, slow.now_ns, Phase.PRE_OPEN)
    slow.operate("split", Split("AAA", 2, 1))
    slow.put("ANN", BUY, 10, BASE, "1")
    go_to(slow, slow.now_ns, Phase.CLOSED)
    slow.operate("split", Split("AAA", 2, 1))
    assert slow.refused == {"split": 2}


def test_an_order_does_not_trade_at_the_instant_at_which_it_expires(slow: Stage) -> None:
    pass_delay(slow)
    second = slow.now_ns + 10**9 - slow.now_ns % 10**9
    expires = (
        "20261120-"
        + f"{(second // 10**9) % 86400 // 3600:02d}:{second // 10**9 % 3600 // 60:02d}:{second // 10**9 % 60:02d}"
    )
    order = slow.put("ANN", BUY, 10, BASE, "6", expire_time=expires)
    pass_delay(slow)
    slow.now_ns = second - DELAY
    slow.put("BOB", SELL, 10, BASE)
    slow.now_ns = second
    slow.venue.advance(second)
    assert (order.status, order.cum) == (OrdStatus.EXPIRED, 0)


def test_a_new_date_ends_the_day_before_even_if_nobody_closed_it(stage: Stage) -> None:
    of_the_day, lasting = stage.put("ANN", BUY, 10, BASE), stage.put("ANN", BUY, 10, BASE, "1")
    go_to(stage, MONDAY, Phase.PRE_OPEN)
    assert (of_the_day.status, lasting.status) == (OrdStatus.EXPIRED, OrdStatus.NEW)
    assert lasting.renewed_at


@pytest.mark.parametrize("time_in_force", ["0", "3", "4"])
def test_an_order_that_was_filled_on_another_day_takes_no_more_shares(stage: Stage, time_in_force: str) -> None:
    stage.put("BOB", SELL, 10, BASE)
    order = stage.put("ANN", BUY, 10, BASE, time_in_force)
    go_to(stage, EVENING, Phase.CLOSED)
    go_to(stage, MONDAY, CONTINUOUS)
    replace_(stage, order, 20)
    assert rejects(stage) == [CancelRefusal.TOO_LATE]


def test_the_venue_never_decides_earlier_than_it_has_decided(stage: Stage) -> None:
    stage.put("ANN", BUY, 10, BASE)
    before = stage.market.reports[-1].transact_time_ns
    stage.now_ns -= 3600 * 10**9
    stage.put("ANN", BUY, 10, BASE)
    assert stage.market.reports[-1].transact_time_ns == before


# By telephone


def test_an_order_by_telephone_explains_one_repetition_and_not_all(stage: Stage) -> None:
    words: dict[str, Any] = {
        "account": "x",
        "symbol": "AAA",
        "ord_type": "2",
        "order_qty": "10",
        "price": to_decimal(BASE),
    }
    stage.operate("telephone", Telephone("ANN", NewOrder("", side=BUY, time_in_force="0", **words)))
    decided: list[Order] = []
    for name in ("one", "two"):
        request = NewOrder(name, side=BUY, time_in_force="0", repeated=True, **words)
        stage.send("ANN", request)
        order = stage.market.find("ANN", name)
        assert order
        decided.append(order)
    assert [order.refusal for order in decided] == [Refusal.VERBAL_DUPLICATE, None]


# By hand


def test_what_is_restated_and_traded_by_hand_stays_within_the_order(stage: Stage) -> None:
    order = stage.put("ANN", BUY, 10, BASE)
    stage.operate("trade", Trade(order.order_id, 6, BASE))
    stage.operate("restate", Restate(order.order_id, 5, 0, "2"))
    stage.operate("trade", Trade(order.order_id, 5, BASE))
    assert stage.refused == {"restate": 1, "trade": 1}
    assert (order.cum, order.leaves) == (6, 4)
