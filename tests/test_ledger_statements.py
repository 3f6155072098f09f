"""Statements through real gRPC: opening and entries come to closing, whatever happened, by recording and by effect."""

import random
from collections import defaultdict
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from ledger.book import Deposit, PostJournal
from openbell.ledger.v1 import ledger_pb2 as pb
from runtime import calendar
from runtime.units import CASH
from tests import ledger_reading, test_ledger
from tests.ledger_reading import HOUR_NS, SECOND_NS, Ask, Clock, a_day, act, all_pages, listed, refused
from tests.test_ledger import DOLLAR, Ledger, fill

ledger, clock, ask = test_ledger.ledger, ledger_reading.clock, ledger_reading.ask
Lines = dict[str, int]


async def statement(
    ask: Ask, account: str, first: date, last: date, basis: Any = pb.STATEMENT_BASIS_RECORDED, page_size: int = 500
) -> tuple[Lines, Lines, list[pb.Entry]]:
    """(opening, closing, entries), which must be the same on each page."""
    request = pb.GetStatementRequest(
        account_id=account,
        from_date=str(first),
        to_date=str(last),
        basis=basis,
        page_size=page_size,
    )
    found = await all_pages(ask, request)
    for page in found:
        assert (page.opening, page.closing) == (found[0].opening, found[0].closing)
        assert page.as_of_position == found[0].as_of_position
    return lines(found[0].opening), lines(found[0].closing), [entry for page in found for entry in page.entries]


def lines(told: Iterable[pb.StatementLine]) -> Lines:
    found = {line.path: line.amount for line in told}
    assert 0 not in found.values()
    return found


def total(opening: Lines, entries: Iterable[pb.Entry]) -> Lines:
    sums = defaultdict(int, opening)
    for entry in entries:
        sums[entry.path] += entry.amount
    return {path: amount for path, amount in sums.items() if amount}


async def test_a_statement_adds_up_whatever_happened(ledger: Ledger, clock: Clock, ask: Ask) -> None:
    for seed in range(2):
        rng = random.Random(seed)
        for number in range(40):
            await act(ledger, clock, rng, 1_000 * seed + number)
        everything = await listed(ask, account_id=ledger.alice)
        for _ in range(10):
            first = clock.today - timedelta(rng.randint(-3, 30))
            last = first + timedelta(rng.randint(0, 20))
            size = rng.choice([1, 7, 500])
            for basis, day_of in DAYS.items():
                opening, closing, entries = await statement(ask, ledger.alice, first, last, basis, size)
                assert opening == total({}, [each for each in everything if day_of(each) < first])
                assert closing == total(opening, entries)
                inside = [each for each in everything if first <= day_of(each) <= last]
                assert entries == sorted(inside, key=day_of)  # and within a day as they were recorded
                following, _, _ = await statement(ask, ledger.alice, last + timedelta(1), last + timedelta(1), basis)
                assert following == closing


def recorded_day(entry: pb.Entry) -> date:
    return calendar.new_york(entry.recorded_at_ns).date()


def effective_day(entry: pb.Entry) -> date:
    return date.fromisoformat(entry.effective_date)


DAYS = {pb.STATEMENT_BASIS_RECORDED: recorded_day, pb.STATEMENT_BASIS_EFFECTIVE: effective_day}


async def test_a_trade_told_late_belongs_to_its_day_by_effect_and_to_today_by_recording(
    ledger: Ledger, clock: Clock, ask: Ask
) -> None:
    traded = clock.today
    clock.now_ns += 48 * HOUR_NS
    late = fill("ord_1", ledger.alice, 1, 100, last=True)._replace(trade_date=traded)
    await ledger.execute(late)
    expected = {"cash/settled": 900 * DOLLAR, "position/available/AAPL": 1}
    _, closing, _ = await statement(ask, ledger.alice, traded, traded)
    assert closing == {"cash/settled": 1000 * DOLLAR}
    _, closing, entries = await statement(ask, ledger.alice, traded, traded, pb.STATEMENT_BASIS_EFFECTIVE)
    assert (closing, len(entries)) == (expected, 3)
    opening, closing, entries = await statement(ask, ledger.alice, clock.today, clock.today)
    assert (opening, closing, len(entries)) == ({"cash/settled": 1000 * DOLLAR}, expected, 2)


async def test_days_are_new_yorks_also_when_the_clocks_change(ledger: Ledger, clock: Clock, ask: Ask) -> None:
    sunday = date(2024, 3, 10)  # 23 hours long
    midnight = datetime(2024, 3, 10, tzinfo=calendar.NEW_YORK)
    after = datetime(2024, 3, 11, tzinfo=calendar.NEW_YORK)
    for dollars, at, seconds in ((1, midnight, -1), (2, midnight, 1), (4, after, -1), (8, after, 1)):
        clock.now_ns = (int(at.timestamp()) + seconds) * SECOND_NS
        await ledger.do(Deposit(ledger.alice, dollars * DOLLAR))
    for basis in DAYS:
        opening, closing, entries = await statement(ask, ledger.alice, sunday, sunday, basis)
        assert [opening, closing] == [{"cash/settled": 1001 * DOLLAR}, {"cash/settled": 1007 * DOLLAR}]
        assert [entry.amount for entry in entries] == [2 * DOLLAR, 4 * DOLLAR]


@pytest.mark.parametrize("basis", DAYS)
async def test_pages_of_a_statement_of_today_agree_while_the_day_goes_on(
    ledger: Ledger, clock: Clock, ask: Ask, basis: Any
) -> None:
    await a_day(ledger, 2)
    today = {"from_date": str(clock.today), "to_date": "2029-01-01", "basis": basis, "page_size": 3}
    request, found = pb.GetStatementRequest(account_id=ledger.alice, **today), list[pb.GetStatementResponse]()
    while not found or found[-1].next_page_token:
        found.append(await ask(request))
        request.page_token = found[-1].next_page_token
        await ledger.do(Deposit(ledger.alice, DOLLAR))
    assert len(found) > 3
    assert {page.as_of_position for page in found} == {found[0].as_of_position}
    entries = [entry for page in found for entry in page.entries]
    assert total(lines(found[0].opening), entries) == lines(found[-1].closing)


async def test_a_statement_ends_where_the_log_is_when_its_days_have_not_come(ledger: Ledger, ask: Ask) -> None:
    for basis in DAYS:
        opening, closing, entries = await statement(ask, ledger.alice, date(2030, 1, 1), date(2030, 1, 2), basis)
        assert opening == closing == {"cash/settled": 1000 * DOLLAR}
        assert entries == []


async def test_the_house_has_statements_by_recording_for_those_who_run_it(
    ledger: Ledger, clock: Clock, ask: Ask
) -> None:
    await ledger.do(PostJournal((("bank", CASH, -DOLLAR), ("equity", CASH, DOLLAR)), "2024-01-31", "capital"))
    opening, closing, entries = await statement(ask, "house/0", clock.today, clock.today, page_size=1)
    assert (opening, closing) == ({}, {"bank": -1001 * DOLLAR, "equity": DOLLAR})
    assert total(opening, entries) == closing
    by_effect = pb.GetStatementRequest(
        account_id="house/0", basis=pb.STATEMENT_BASIS_EFFECTIVE, from_date="2024-01-01", to_date="2024-12-31"
    )
    await refused(ask(by_effect), "INVALID_FILTER")
    house = pb.GetStatementRequest(account_id="house/0", from_date="2024-01-01", to_date="2024-12-31")
    await refused(ask(house, "customer:cus_alice"), "UNKNOWN_ACCOUNT")


NO_DAYS = [
    ("2024-03-05", "2024-03-04"),
    ("", "2024-03-04"),
    ("2024-03-04", ""),
    ("2024-02-30", "2024-03-04"),
    ("20240304", "2024-03-05"),
    ("2024-3-4", "2024-03-05"),
    ("yesterday", "2024-03-05"),
    ("2020-01-01", "2030-01-01"),  # a day more than ten years
    ("1066-10-14", "1066-10-15"),
]


async def test_what_is_no_statement_is_refused(ledger: Ledger, ask: Ask) -> None:
    def of(first: str = "2020-01-01", last: str = "2029-12-31", **more: Any) -> pb.GetStatementRequest:
        return pb.GetStatementRequest(account_id=ledger.alice, from_date=first, to_date=last, **more)

    await ask(of())
    for first, last in NO_DAYS:
        await refused(ask(of(first, last)), "INVALID_DATE")
    await refused(ask(of(basis=9)), "INVALID_FILTER")
    for size in (-1, 501):
        await refused(ask(of(page_size=size)), "INVALID_PAGE_SIZE")
