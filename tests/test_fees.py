"""Fees: what a fill costs, the most that an order can cost, and that a buy holds it."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oms.orders import Ask, OrdType, Side, TimeInForce, adopted_price, hold_of
from ops import config
from runtime.fees import MILLION, MOST, FeeSchedule, fee, fee_bound, price_covered
from runtime.settings import Settings, SettingsError
from runtime.units import CASH, to_units

DOLLAR = 10_000
SCHEDULE = FeeSchedule(per_share=30, buy_per_million=0, sell_per_million=to_units("27.80"))

rates = st.integers(0, MILLION) | st.integers(0, 1_000_000)
schedules = st.builds(FeeSchedule, st.integers(0, MOST["per_share"]), rates, rates)
prices = st.integers(1, 10**9)
sides = st.booleans()

FEES = [
    (FeeSchedule(), True, 100, 150 * DOLLAR, "0.00", "zero by default"),
    (SCHEDULE, True, 100, 150 * DOLLAR, "0.30", "0.003 a share"),
    (SCHEDULE, False, 100, 150 * DOLLAR, "0.7170", "and 27.80 a million of 15,000 dollars"),
    (SCHEDULE, False, 1, 150 * DOLLAR, "0.0072", "0.00417 is rounded up to 0.0042"),
    (FeeSchedule(sell_per_million=1), False, 1, 1, "0.0001", "and the least there is to one unit"),
    (FeeSchedule(buy_per_million=MILLION), True, 3, 7 * DOLLAR, "21.00", "a million a million is all of it"),
]


@pytest.mark.parametrize(("schedule", "buys", "quantity", "price", "dollars", "why"), FEES)
def test_what_a_fill_costs(
    schedule: FeeSchedule, buys: bool, quantity: int, price: int, dollars: str, why: str
) -> None:
    assert fee(schedule, buys, quantity, price) == to_units(dollars), why


@given(schedules, sides, prices, st.lists(st.tuples(st.integers(1, 10**6), st.integers(0, 10**9)), min_size=1))
def test_no_way_of_filling_an_order_costs_more_than_its_bound(
    schedule: FeeSchedule, buys: bool, limit: int, fills: list[tuple[int, int]]
) -> None:
    paid = sum(fee(schedule, buys, quantity, max(limit - better, 1)) for quantity, better in fills)
    assert paid <= fee_bound(schedule, buys, sum(quantity for quantity, _ in fills), limit)


@given(schedules, sides, st.integers(1, 100), prices)
def test_single_shares_at_the_limit_cost_the_bound_so_it_is_no_higher_than_needed(
    schedule: FeeSchedule, buys: bool, quantity: int, limit: int
) -> None:
    single = sum(fee(schedule, buys, 1, limit) for _ in range(quantity))
    assert single == fee_bound(schedule, buys, quantity, limit)


@given(schedules, st.integers(1, 10**9), st.integers(0, 10**18))
def test_cash_covers_a_price_and_its_fees_and_not_the_next_price(
    schedule: FeeSchedule, quantity: int, cash: int
) -> None:
    price = price_covered(schedule, quantity, cash)
    assert quantity * (price + 1) + fee_bound(schedule, True, quantity, price + 1) > cash
    if price >= 0:
        assert quantity * price + fee_bound(schedule, True, quantity, price) <= cash


# --- what a buy holds

BUY = Ask("acc_1", "key", "AAPL", Side.BUY, OrdType.LIMIT, 10, 150 * DOLLAR, TimeInForce.DAY)


def test_a_buy_holds_its_fees_and_a_sell_only_shares() -> None:
    fees = FeeSchedule(per_share=30, buy_per_million=to_units("27.80"))
    assert hold_of(BUY, 150 * DOLLAR, fees) == (CASH, to_units("1500.072"))
    assert hold_of(replace(BUY, side=Side.SELL), 150 * DOLLAR, fees) == ("AAPL", 10)


@given(schedules, st.integers(2, 10**9), prices)
def test_a_market_buy_goes_on_at_the_price_that_its_hold_was_made_for(
    fees: FeeSchedule, quantity: int, price: int
) -> None:
    market = replace(BUY, ord_type=OrdType.MARKET, limit_price=0, quantity=quantity)
    asset, held = hold_of(market, price, fees)
    assert adopted_price(market, 1, asset, held, price + 1, fees) == price
    assert adopted_price(market, 1, asset, held + 1, price + 1, fees) is None


def test_a_hold_made_by_another_schedule_is_not_adopted() -> None:
    asset, held = hold_of(BUY, BUY.limit_price, FeeSchedule())
    assert adopted_price(BUY, 100, asset, held, BUY.limit_price, FeeSchedule(per_share=1)) is None


# --- the section


def test_the_schedule_is_a_section_of_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "openbell.toml"
    file.write_text("[fees]\nper_share = 30\nsell_per_million = 278_000\n")
    sections = config.resolve(file, None)
    assert Settings(tmp_path, sections).section("fees", FeeSchedule) == SCHEDULE


@pytest.mark.parametrize(
    "line", ["per_share = -1", "per_share = 1_000_001", f"buy_per_million = {MILLION + 1}", "sell_per_million = 27.8"]
)
def test_a_rate_that_cannot_be_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "openbell.toml"
    file.write_text(f"[fees]\n{line}\n")
    with pytest.raises(SettingsError, match=line.split()[0]):
        config.resolve(file, None)
