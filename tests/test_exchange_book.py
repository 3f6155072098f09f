"""The venue's pure core: book, rules, journal replay."""

import json
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.book import Book, Fill
from exchange.dialect import SOH, execution_report, read_fields
from exchange.journal import Journal, Record, order_record, result
from exchange.market import FeedEvent, Instrument, Market
from exchange.orders import ExecType, NewOrder, OrdStatus, Report, Side
from exchange.reasons import Refusal
from exchange.recovery import recover
from exchange.times import since_midnight, trade_date, utc_timestamp
from exchange.venue import Venue

NOON = int(datetime(2026, 11, 20, 17, tzinfo=UTC).timestamp()) * 10**9  # a Friday, noon in New York

sides = st.sampled_from(Side)
prices = st.integers(min_value=9995, max_value=10005).map(lambda ticks: ticks * 100)
incoming = st.lists(st.tuples(sides, st.none() | prices, st.integers(1, 300)), max_size=60)


class NaiveBook:
    """Price-time priority as one would write it without regard to speed."""

    def __init__(self) -> None:
        self.resting: list[tuple[int, Side, int, int]] = []  # ref, side, price, shares, in order of arrival

    def take(self, side: Side, limit: int | None, shares: int) -> list[Fill]:
        sign = 1 if side is Side.BUY else -1
        fills = []
        for ref, other, price, rests in sorted(self.resting, key=lambda resting: sign * resting[2]):
            if other is side or not shares or (limit is not None and sign * price > sign * limit):
                continue
            traded = min(shares, rests)
            shares -= traded
            fills.append(Fill(ref, price, traded, rests - traded))
        left = {fill.ref: fill.left for fill in fills}
        kept = ((ref, other, price, left.get(ref, rests)) for ref, other, price, rests in self.resting)
        self.resting = [resting for resting in kept if resting[3]]
        return fills


@given(incoming)
def test_orders_execute_in_price_time_order_and_never_beyond_limit_or_quantity(
    orders: list[tuple[Side, int | None, int]],
) -> None:
    book, naive = Book(), NaiveBook()
    for ref, (side, limit, shares) in enumerate(orders):
        fills = book.take(side, limit, shares)
        assert fills == naive.take(side, limit, shares)
        left = shares - sum(fill.shares for fill in fills)
        assert left >= 0
        if left and limit is not None:
            assert not book.crosses(side, limit)
            book.rest(ref, side, limit, left)
            naive.resting.append((ref, side, limit, left))


def instrument(symbol: str = "AAPL", levels: int = 3, shares: int = 100) -> Instrument:
    return Instrument(symbol, 1_000_000, 100, levels, shares, first_level_ticks=1, level_step_ticks=1)


def new_order(number: int, side: Side, price: int | None, shares: int, time_in_force: str = "0") -> NewOrder:
    written = "" if price is None else f"{price // 10_000}.{price % 10_000:04d}"
    ord_type = "1" if price is None else "2"
    return NewOrder(f"c{number}", "acc", "AAPL", side, ord_type, time_in_force, str(shares), written, "")


def market_with(levels: int) -> Market:
    market = Market("0123456789")
    market.add_instrument(instrument(levels=levels), NOON)
    return market


@given(incoming)
def test_what_is_bought_is_what_is_sold_and_each_order_adds_up(orders: list[tuple[Side, int | None, int]]) -> None:
    market = market_with(levels=0)
    traded: dict[str, int] = defaultdict(int)
    for number, (side, price, shares) in enumerate(orders):
        for done in market.place("OPENBELL", new_order(number, side, price, shares), NOON, True).executions:
            traded[done.order.request.side] += done.last_shares
            open_or_done = done.leaves_qty if done.ord_status is not OrdStatus.CANCELED else 0
            assert done.cum_qty + open_or_done <= int(done.order.request.order_qty)
            assert (done.leaves_qty == 0) == (done.ord_status in (OrdStatus.FILLED, OrdStatus.CANCELED))
    assert traded[Side.BUY] == traded[Side.SELL]


@given(incoming)
def test_the_house_is_whole_again_after_each_order_unless_it_would_cross(
    orders: list[tuple[Side, int | None, int]],
) -> None:
    market = market_with(levels=3)
    for number, (side, price, shares) in enumerate(orders):
        market.place("OPENBELL", new_order(number, side, price, shares), NOON, True)
        book = market.book("AAPL")
        quoted = {Side.BUY: (999_900, 999_800, 999_700), Side.SELL: (1_000_100, 1_000_200, 1_000_300)}
        for house_side, levels in quoted.items():
            present = {price for price, _, _ in book.orders(house_side)}
            assert all(level in present or book.crosses(house_side, level) for level in levels)
        best_bid, best_ask = (next(book.orders(each), None) for each in (Side.BUY, Side.SELL))
        assert best_bid is None or best_ask is None or best_bid[0] < best_ask[0]


@given(incoming, st.sampled_from(("0", "1", "3")))
def test_replaying_the_journal_gives_the_live_books_executions_and_feed(
    orders: list[tuple[Side, int | None, int]], time_in_force: str
) -> None:
    live = market_with(levels=3)
    records: list[Record] = []
    for number, (side, price, shares) in enumerate(orders, start=1):
        request = new_order(number, side, price, shares, time_in_force)
        outcome = live.place("OPENBELL", request, NOON + number, True)
        records.append(json.loads(json.dumps(order_record(number, "OPENBELL", request, True, NOON, outcome))))
    replayed = market_with(levels=3)
    recovered = recover(replayed, records, lambda _, __: None)
    assert recovered.events == len(records)
    for side in Side:
        assert list(replayed.book("AAPL").orders(side)) == list(live.book("AAPL").orders(side))
    rows = [row for record in records for row in record["out"]]
    assert [report.execution.number for report in recovered.unsent.get("OPENBELL", ())] == [
        row["number"] for row in rows
    ]


def test_execution_ids_count_on_and_name_the_journal() -> None:
    market = market_with(levels=1)
    done = [
        execution.exec_id
        for number in range(3)
        for execution in market.place("OPENBELL", new_order(number, Side.BUY, None, 10), NOON, True).executions
    ]
    assert done == [f"e0123456789-{number}" for number in range(1, 7)]


def test_an_order_while_the_market_is_closed_is_rejected_and_remembered() -> None:
    market = market_with(levels=1)
    (done,) = market.place("OPENBELL", new_order(1, Side.BUY, None, 10), NOON, False).executions
    assert done.exec_type is ExecType.REJECTED
    assert done.order.refusal is Refusal.MARKET_CLOSED
    assert market.find("OPENBELL", "c1") is done.order


def test_a_rejected_duplicate_leaves_the_first_order_as_it_was() -> None:
    market = market_with(levels=1)
    market.place("OPENBELL", new_order(1, Side.BUY, 990_000, 10), NOON, True)
    first = market.find("OPENBELL", "c1")
    (done,) = market.place("OPENBELL", new_order(1, Side.SELL, 980_000, 99), NOON, True).executions
    assert done.order.refusal is Refusal.DUPLICATE_CL_ORD_ID
    assert first is not None
    assert market.find("OPENBELL", "c1") is first
    assert first.status is OrdStatus.NEW


@pytest.mark.parametrize(
    ("fills", "average"),
    [(((1, 10_000),), 10_000), (((1, 10_000), (1, 10_001)), 10_001), (((2, 10_000), (1, 10_001)), 10_000)],
)
def test_the_average_price_is_rounded_half_up(fills: Iterable[tuple[int, int]], average: int) -> None:
    market = market_with(levels=0)
    order = market.place("OPENBELL", new_order(1, Side.BUY, 10_100, 100), NOON, True).executions[0].order
    for shares, price in fills:
        order.fill(shares, price)
    assert order.average_price == average


def test_times_are_written_as_each_protocol_wants_them() -> None:
    evening = NOON + 9 * 3600 * 10**9 + 123_456_789  # 21:00:00.123 in New York, 02:00 UTC the next day
    assert trade_date(evening) == "2026-11-20"
    assert trade_date(evening + 4 * 3600 * 10**9) == "2026-11-23"  # Saturday: the next exchange day
    assert utc_timestamp(evening) == "20261121-02:00:00.123"
    assert since_midnight(evening) == 21 * 3600 * 10**9 + 123_456_789


def test_a_data_field_cannot_pose_as_the_header() -> None:
    wire = SOH.join(("8=FIX.4.2", "35=D", "49=OPENBELL", "11=a", "354=11", "355=x", "49=BETA", "10=000", ""))
    assert read_fields(wire)["49"] == "OPENBELL"


def test_prices_on_the_wire_are_made_from_integers() -> None:
    market = market_with(levels=3)
    outcome = market.place("OPENBELL", new_order(1, Side.BUY, None, 150), NOON, True)
    fields = [read_fields(execution_report(Report(done, NOON, NOON + 5), False)) for done in outcome.executions]
    assert [(each["31"], each["6"]) for each in fields] == [
        ("0.00", "0.00"),
        ("100.01", "100.01"),
        ("100.02", "100.0133"),
    ]


def open_venue(directory: Path, session: str, published: list[FeedEvent]) -> tuple[Venue, Journal]:
    journal = Journal(directory / "journal.jsonl", "XSIM", NOON)
    market = Market(journal.header.feed_session)
    recovered = recover(market, journal.records(), lambda _, events: published.extend(events))
    venue = Venue(recovered, journal, lambda _, events: published.extend(events), ["OPENBELL"], session, lambda: NOON)
    venue.add_instruments([instrument()], NOON)
    return venue, journal


def test_regular_hours_reject_on_a_saturday_and_trade_on_a_friday(tmp_path: Path) -> None:
    venue, _ = open_venue(tmp_path, "regular", [])
    saturday = NOON + 24 * 3600 * 10**9
    closed = venue.place("OPENBELL", new_order(1, Side.BUY, None, 10), saturday)
    assert closed[0].execution.order.refusal is Refusal.MARKET_CLOSED
    traded = venue.place("OPENBELL", new_order(2, Side.BUY, None, 10), NOON)
    assert [report.execution.exec_type for report in traded] == [ExecType.NEW, ExecType.FILL]


def test_reports_after_the_last_mark_are_held_for_the_logon_and_keep_their_order(tmp_path: Path) -> None:
    venue, journal = open_venue(tmp_path, "always", [])
    for number in (1, 2):
        for report in venue.place("OPENBELL", new_order(number, Side.BUY, None, 10), NOON):
            venue.handed_over(report)
        if number == 1:
            venue.mark_sent()
    journal.close()

    published: list[FeedEvent] = []
    venue, journal = open_venue(tmp_path, "always", published)
    assert venue.place("OPENBELL", new_order(3, Side.BUY, None, 10), NOON) == []
    assert [report.execution.number for report in venue.logged_on("OPENBELL")] == [3, 4, 5, 6]
    assert len(venue.place("OPENBELL", new_order(4, Side.BUY, None, 10), NOON)) == 2
    assert len(published) == 7 + 4  # one listing with six house orders, four executions
    journal.close()


def test_a_symbol_keeps_the_terms_that_the_journal_knows(tmp_path: Path) -> None:
    venue, journal = open_venue(tmp_path, "always", [])
    lines = (tmp_path / "journal.jsonl").read_text()
    venue.add_instruments([instrument(shares=999)], NOON)
    assert (tmp_path / "journal.jsonl").read_text() == lines
    venue.add_instruments([instrument("MSFT")], NOON)
    assert result(market_with(levels=3).add_instrument(instrument("MSFT"), NOON))["feed"] == 7
    assert len((tmp_path / "journal.jsonl").read_text().splitlines()) == 3
    journal.close()
