"""Queries through real gRPC: balances, holds and entries, against what was told at the time."""

import asyncio
import itertools
import json
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

import asyncpg
import pytest

from ledger.book import AdjustHold, Command, Deposit, OpenAccount, PlaceHold, ReleaseHold, Request
from ledger.reads import BY_FILTER, SQL
from openbell.ledger.v1 import ledger_pb2 as pb
from runtime import ids, pages
from runtime.units import CASH
from tests import ledger_reading, test_ledger
from tests.cluster import Database
from tests.ledger_reading import HOUR_NS, SECOND_NS, Ask, Clock, a_day, act, all_pages, listed, refused
from tests.test_ledger import DOLLAR, Ledger, fill, told

ledger, clock, ask = test_ledger.ledger, ledger_reading.clock, ledger_reading.ask
FOREVER: dict[str, Any] = {"from_date": "2020-01-01", "to_date": "2029-12-31"}


async def test_balances_positions_and_open_holds_come_together(ledger: Ledger, ask: Ask) -> None:
    await ledger.execute(fill("ord_1", ledger.alice, 4, 100, last=True))
    cash, shares = await ledger.hold("ord_2", 50 * DOLLAR), await ledger.hold("ord_3", 3, "AAPL")
    released = await ledger.hold("ord_4", DOLLAR)
    await ledger.do(ReleaseHold(released.hold_id))
    found = await ask(pb.GetBalancesRequest(account_id=ledger.alice), "customer:cus_alice")
    assert (found.balances.settled, found.balances.held) == (550 * DOLLAR, 50 * DOLLAR)
    assert list(found.positions) == [pb.Position(symbol="AAPL", available=1, held=3)]
    assert list(found.holds) == [cash, shares]
    positions = await ask(pb.GetPositionsRequest(account_id=ledger.alice))
    assert (positions.positions, positions.as_of_position) == (found.positions, found.balances.as_of_position)


async def test_open_holds_are_listed_in_pages(ledger: Ledger, ask: Ask) -> None:
    held = [await ledger.hold(f"ord_{number}", DOLLAR) for number in range(6)]
    await ledger.do(ReleaseHold(held.pop(2).hold_id))
    for size in (1, 2, 5, 6):
        found = await all_pages(ask, pb.ListHoldsRequest(created_before_ns=2**62, page_size=size))
        assert [hold for page in found for hold in page.holds] == held
        assert all(page.holds for page in found)


async def test_every_past_state_is_answered_as_it_was(ledger: Ledger, clock: Clock, ask: Ask) -> None:
    rng, seen = random.Random(7), dict[int, tuple[pb.GetBalancesResponse, int]]()
    for number in range(60):
        await act(ledger, clock, rng, number)
        now = await ask(pb.GetBalancesRequest(account_id=ledger.alice))
        now.ClearField("holds")
        seen[now.balances.as_of_position] = now, clock.now_ns
        clock.now_ns += SECOND_NS
    assert len(seen) > 40
    for position, (then, ns) in seen.items():
        by_position = pb.GetBalancesRequest(account_id=ledger.alice, as_of_position=position)
        assert await ask(by_position) == then
        assert await ask(pb.GetBalancesRequest(account_id=ledger.alice, as_of_ns=ns)) == then
        shares = await ask(pb.GetPositionsRequest(account_id=ledger.alice, as_of_ns=ns))
        assert (shares.positions, shares.as_of_position) == (then.positions, position)


async def test_an_account_has_nothing_before_it_was_opened(ledger: Ledger, clock: Clock, ask: Ask) -> None:
    before_ns = clock.now_ns
    clock.now_ns += HOUR_NS
    bob = (await ledger.do(OpenAccount("cus_bob"))).open_account.account.account_id
    await ledger.do(Deposit(bob, DOLLAR))
    pasts: list[dict[str, Any]] = [{"as_of_position": 1}, {"as_of_ns": before_ns}, {"as_of_ns": 1}]
    for past in pasts:
        found = await ask(pb.GetBalancesRequest(account_id=bob, **past))
        assert (found.balances.settled, len(found.positions)) == (0, 0)


NO_MOMENTS: list[dict[str, Any]] = [
    {"as_of_position": 1, "as_of_ns": 1},
    {"as_of_position": -1},
    {"as_of_position": 2},  # the log's end is 1
    {"as_of_position": 2**63 - 1},
    {"as_of_ns": -1},
    {"as_of_ns": 2**63 - 1},
]


async def test_a_moment_that_is_none_is_refused(ledger: Ledger, ask: Ask) -> None:
    for moment in NO_MOMENTS:
        await refused(ask(pb.GetBalancesRequest(account_id=ledger.alice, **moment)), "INVALID_FILTER")
        await refused(ask(pb.GetPositionsRequest(account_id=ledger.alice, **moment)), "INVALID_FILTER")


def wanted(entry: pb.Entry, filters: dict[str, str]) -> bool:
    return all(getattr(entry, name) == value for name, value in filters.items())


async def test_entries_are_found_by_every_filter_and_by_all_of_them_together(ledger: Ledger, ask: Ask) -> None:
    await a_day(ledger)
    head = (await ask(pb.GetBalancesRequest(account_id=ledger.alice))).balances.as_of_position
    by_transaction = [await listed(ask, transaction_id=ids.transaction_id(0, n)) for n in range(1, head + 1)]
    everything = list(itertools.chain(*by_transaction))
    assert sum(entry.amount for entry in everything if entry.asset == CASH) == 0
    names = ("account_id", "order_id", "execution_id", "transaction_id", "trace_id")
    for chosen in itertools.chain(*(itertools.combinations(names, count) for count in range(1, 6))):
        for entry in (everything[-1], everything[len(everything) // 2], everything[0]):
            filters = {name: getattr(entry, name) for name in chosen}
            if all(filters.values()):
                found = await listed(ask, page_size=3, **filters)
                assert found == [each for each in everything if wanted(each, filters)]
                assert entry in found


async def test_filters_that_fit_nothing_find_nothing(ledger: Ledger, ask: Ask) -> None:
    await a_day(ledger, 1)
    for nothing in ("exe_1_000000009999", "exe_9_000000000001"):
        assert await listed(ask, execution_id=nothing) == []
    for nothing in ("txn_0_000000009999", "txn_3_000000000001"):
        assert await listed(ask, transaction_id=nothing) == []
    assert await listed(ask, order_id="ord_9") == await listed(ask, trace_id="f" * 32) == []
    assert await listed(ask, account_id=ledger.alice, order_id="ord_0", trace_id="f" * 32) == []


NO_IDS: list[dict[str, Any]] = [
    *({"transaction_id": text} for text in ("txn", "exe_0_000000000001", "txn_0_1", "txn_0_0000000000001")),
    *({"transaction_id": text} for text in ("txn_00_000000000001", "txn_0_000000000000", "txn_0_-00000000001")),
    *({"execution_id": text} for text in ("1", "txn_0_000000000001", "exe_1_00000000000x")),
    *({"trace_id": text} for text in ("0", "f" * 31, "f" * 33, "F" * 32, "g" * 32, "٣" * 32)),
]


async def test_a_filter_that_is_no_id_is_refused(ledger: Ledger, ask: Ask) -> None:
    for filters in NO_IDS:
        await refused(ask(pb.ListEntriesRequest(**filters)), "INVALID_FILTER")
        await refused(ask(pb.ListEntriesRequest(account_id=ledger.alice, **filters)), "INVALID_FILTER")


async def test_customers_see_entries_of_their_own_account_and_no_other_leg(ledger: Ledger, ask: Ask) -> None:
    await a_day(ledger, 1)
    alice, mallory, house = "customer:cus_alice", "customer:cus_mallory", "house/0"
    mine = pb.ListEntriesRequest(account_id=ledger.alice, order_id="ord_0")
    assert {entry.account_id for entry in (await ask(mine, alice)).entries} == {ledger.alice}
    assert {entry.account_id for entry in (await ask(pb.ListEntriesRequest(order_id="ord_0"))).entries} == {
        ledger.alice,
        house,
    }
    await refused(ask(mine, mallory), "ACCOUNT_NOT_YOURS")
    await refused(ask(pb.ListEntriesRequest(order_id="ord_0"), alice), "MISSING_FILTER")
    await refused(ask(pb.ListEntriesRequest(), "service:oms"), "MISSING_FILTER")
    for subject in (alice, "customer:", "robot:cus_alice"):
        await refused(ask(pb.ListEntriesRequest(account_id=house), subject), "UNKNOWN_ACCOUNT")
    await refused(ask(pb.ListEntriesRequest(account_id=ledger.alice), "robot:cus_alice"), "ACCOUNT_NOT_YOURS")
    await refused(ask(pb.ListEntriesRequest(order_id="ord_0"), "robot:cus_alice"), "MISSING_FILTER")


async def test_nobody_reads_anothers_account(ledger: Ledger, ask: Ask) -> None:
    requests: list[Any] = [
        pb.GetAccountRequest(account_id=ledger.alice),
        pb.GetBalancesRequest(account_id=ledger.alice),
        pb.GetBalancesRequest(account_id=ledger.alice, as_of_position=1),
        pb.GetPositionsRequest(account_id=ledger.alice),
        pb.GetStatementRequest(account_id=ledger.alice, **FOREVER),
    ]
    for request in requests:
        await ask(request, "customer:cus_alice")
        await refused(ask(request, "customer:cus_mallory"), "ACCOUNT_NOT_YOURS")
        request.account_id = "acc_nobody"
        await refused(ask(request), "UNKNOWN_ACCOUNT")
        if not isinstance(request, pb.GetStatementRequest):
            request.account_id = "house/0"
            await refused(ask(request), "UNKNOWN_ACCOUNT")


async def test_pages_stay_whole_while_entries_are_added(ledger: Ledger, ask: Ask) -> None:
    await a_day(ledger)
    chosen: list[dict[str, Any]] = [{"account_id": ledger.alice}, {"order_id": "ord_3"}, {"trace_id": "03" * 16}]
    for filters in chosen:
        before = await listed(ask, **filters)
        request, found = pb.ListEntriesRequest(page_size=2, **filters), list[pb.Entry]()
        for number in itertools.count(1):
            page = await ask(request)
            found += page.entries
            request.page_token = page.next_page_token
            if not request.page_token:
                break
            if number < 4:
                late = fill("ord_3", ledger.alice, 1, 20, last=True)._replace(trace_id=b"\3" * 16)
                await ledger.execute(late)
        after = await listed(ask, **filters)
        assert found == after
        assert after[: len(before)] == before


async def test_a_page_token_from_elsewhere_is_refused(ledger: Ledger, ask: Ask) -> None:
    await a_day(ledger)
    entries, dates = pb.ListEntriesRequest, FOREVER | {"from_date": "2024-01-01"}
    recorded, effective = pb.STATEMENT_BASIS_RECORDED, pb.STATEMENT_BASIS_EFFECTIVE
    lists: list[Any] = [
        entries(account_id=ledger.alice, page_size=1),
        entries(account_id="house/0", page_size=1),
        entries(order_id="ord_1", page_size=1),
        entries(order_id="ord_2", page_size=1),
        entries(account_id=ledger.alice, order_id="ord_1", page_size=1),
        entries(trace_id="01" * 16, page_size=1),
        pb.GetStatementRequest(account_id=ledger.alice, basis=recorded, page_size=1, **dates),
        pb.GetStatementRequest(account_id=ledger.alice, basis=effective, page_size=1, **dates),
        pb.GetStatementRequest(account_id=ledger.alice, page_size=1, **FOREVER),
    ]
    tokens = [(await ask(request)).next_page_token for request in lists]
    assert all(tokens)
    tokens += ["x", pages.token("ListHolds", (0, 0, 0)), tokens[0][:-4]]
    for number, request in enumerate(lists):
        for other, token in enumerate(tokens):
            request.page_token = token
            if other == number:
                await ask(request)
            else:
                assert "page token" in await refused(ask(request), "INVALID_PAGE_TOKEN")


async def test_an_answer_under_load_is_of_one_moment(ledger: Ledger, clock: Clock, ask: Ask) -> None:
    answers, done = list[pb.GetBalancesResponse](), asyncio.Event()

    async def look() -> None:
        while not done.is_set():
            answers.append(await ask(pb.GetBalancesRequest(account_id=ledger.alice), "customer:cus_alice"))

    looking = [asyncio.create_task(look()) for _ in range(3)]
    hold = await ledger.hold("ord_0", 10 * DOLLAR)
    for number in range(1, 150):
        changes: list[Command] = [AdjustHold(hold.hold_id, (number % 7 + 1) * DOLLAR)]
        changes += [PlaceHold(ledger.alice, f"ord_{number}", CASH, number * 100)]
        await ledger.writer.commit([ledger.request(each) for each in changes])
    done.set()
    await asyncio.gather(*looking)
    assert len({answer.balances.as_of_position for answer in answers}) > 20
    for answer in answers:
        assert answer.balances.settled + answer.balances.held == 1000 * DOLLAR
        assert sum(each.remaining for each in answer.holds) == answer.balances.held
    for answer in answers[:: len(answers) // 20]:
        answer.ClearField("holds")
        then = pb.GetBalancesRequest(account_id=ledger.alice, as_of_position=answer.balances.as_of_position)
        assert await ask(then) == answer


async def crowd(ledger: Ledger, transactions: int) -> str:
    """Deposits and holds of alice, who is busy, and of many others. Returns the account of one of them."""
    opened = await ledger.writer.commit([ledger.request(OpenAccount(f"cus_{n}")) for n in range(500)])
    others = [told(answer).open_account.account.account_id for answer in opened]
    for batch in range(transactions // 1000):
        items: list[Request] = []
        for number in range(500):
            trace, order = (batch * 1000 + number).to_bytes(16, "little"), f"ord_{batch}_{number}"
            account = others[number] if number % 2 else ledger.alice
            items.append(ledger.request(Deposit(account, 9 * DOLLAR))._replace(trace_id=trace))
            items.append(ledger.request(PlaceHold(account, order, CASH, 1))._replace(trace_id=trace))
        await ledger.writer.commit(items)
    return others[251]


def literal(value: Any) -> str:
    return str(value) if isinstance(value, int) else f"'{value}'"


async def rows_read(connection: asyncpg.Connection, mode: str, name: str, arguments: Sequence[Any]) -> int:
    """How many rows of the big tables the statement looked at, those it threw away included."""
    values = ", ".join(map(literal, arguments))
    async with connection.transaction():
        await connection.execute(f"SET LOCAL plan_cache_mode = {mode}")
        if getattr(SQL, name) in dict(BY_FILTER).values():
            await connection.execute(SQL.by_index)
        await connection.execute(f"PREPARE asked AS {getattr(SQL, name)}")
        plan = json.loads(await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE asked ({values})"))
        await connection.execute("DEALLOCATE asked")
    return _read(plan[0]["Plan"])


def _read(node: dict[str, Any]) -> int:
    found = sum(_read(child) for child in node.get("Plans", ()))
    if node.get("Relation Name") in ("entries", "transactions", "holds"):
        thrown_away = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
        found += round((node["Actual Rows"] + thrown_away) * node["Actual Loops"])
    return found


@pytest.fixture
async def owner(database: Database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.admin_url, server_settings={"search_path": "ledger"})
    yield connection
    await connection.close()


async def test_no_query_of_an_account_reads_the_whole_table(ledger: Ledger, owner: asyncpg.Connection) -> None:
    idle, busy = await crowd(ledger, 20_000), ledger.alice
    for table in ("accounts", "balances", "transactions", "entries", "holds"):
        await owner.execute(f"VACUUM ANALYZE {table}")
    start, trace = (0, 0, 0, 51), (7).to_bytes(16, "little").hex()
    cases: list[tuple[str, tuple[Any, ...], int]] = [
        ("standing", (idle, 0), 20),
        ("balances_at", (busy, 9_000), 2),
        ("balances_at", ("house/0", 9_000), 1),
        ("entries_of_account", (busy, 0, 0, 2**62, 51), 200),
        ("entries_of_account", (busy, 9_000, 1, 2**62, 501), 1_700),
        ("entries_of_account", ("house/0", 9_000, 1, 2**62, 501), 1_100),
        ("entries_of_account", (idle, 0, 0, 2**62, 501), 130),
        ("entries_of_transaction", (*start, "", "", "", 7, ""), 5),
        ("entries_of_execution", (*start, "", "", "exe_1_000000000001", 0, ""), 5),
        ("entries_of_order", (*start, "", "ord_3_7", "", 0, ""), 5),
        ("entries_of_trace", (*start, "", "", "", 0, trace), 2_500),  # ranges of 16 pages
        ("recorded_lines", (busy, 5_000, 9_000), 4),
        ("effective_lines", (idle, 20_000, "2024-03-04", "2024-03-04"), 130),
        ("effective_entries", (idle, 20_000, "2024-03-04", "2024-03-04", 0, 0, 0, 501), 130),
    ]
    for mode in ("force_generic_plan", "force_custom_plan"):
        for name, arguments, most in cases:
            assert await rows_read(owner, mode, name, arguments) <= most, (mode, name, arguments)


async def test_nothing_of_a_query_stays_on_its_connection(ledger: Ledger, ask: Ask) -> None:
    await a_day(ledger, 1)
    for _ in range(10):
        await listed(ask, order_id="ord_0")
    settings = await asyncio.gather(*(ledger.pool.fetchval("SHOW enable_seqscan") for _ in range(4)))
    assert set(settings) == {"on"}
