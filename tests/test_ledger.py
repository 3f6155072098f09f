"""The ledger's rules against real PostgreSQL: the writer with real commands and facts, and the database itself."""

import itertools
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import asyncpg
import pytest

from ledger.accounts import BALANCE_MAX, Account, Balance, Leg, check_balances
from ledger.book import AdjustHold, Command, Deposit, OpenAccount, PlaceHold, ReleaseHold, Request, Withdraw
from ledger.config import Config
from ledger.on_execution import Execution
from ledger.planner import Facts
from ledger.reads import Reads
from ledger.reasons import STATUS, Reason
from ledger.service import CODES
from ledger.writer import Writer
from openbell.ledger.v1 import ledger_pb2 as pb
from runtime import db, log
from runtime.errors import Refusal
from runtime.units import CASH
from tests.cluster import Database

DOLLAR = 10_000
SEAL = b"test"
TRADED = date(2026, 11, 20)
SETTLES = "2026-11-23"


@dataclass
class Ledger:
    """A writer on a fresh database, with a customer `alice` who has 1,000 dollars."""

    pool: db.Pool
    writer: Writer
    reads: Reads
    alice: str = ""
    _keys = itertools.count(1)
    _positions = itertools.count(1)

    async def do(self, command: Command, key: str | None = None) -> pb.Answer:
        """Refusal if that is the answer."""
        (answer,) = await self.writer.commit([self.request(command, key)])
        return told(answer)

    def request(self, command: Command, key: str | None = None) -> Request:
        key = key or f"key {next(self._keys)}"
        return Request(hash(type(command)), key, repr(command).encode(), command, b"t" * 16, 1)

    async def hold(self, order_id: str, amount: int, asset: str = CASH) -> pb.HoldRecord:
        return (await self.do(PlaceHold(self.alice, order_id, asset, amount))).hold.hold

    async def execute(self, *executions: Execution) -> None:
        async with self.pool.acquire() as connection:
            cursor = await log.cursor(connection, "ems", 1)
        numbered = [
            row._replace(position=cursor + n, execution_id=f"exe_1_{cursor + n:012d}")
            for n, row in enumerate(executions, 1)
        ]
        (answer,) = await self.writer.commit([Facts(1, cursor, numbered)])
        if isinstance(answer, Exception):
            raise answer

    async def cash(self) -> dict[str, int]:
        """Alice's cash in dollars, by path; zeros left out."""
        account, _ = await self.reads.account(self.alice)
        return {path: account.amount(path) // DOLLAR for path in account.paths("cash/")}

    async def shares(self) -> dict[str, int]:
        account, _ = await self.reads.account(self.alice)
        return {path: account.amount(path) for path in account.paths("position/")}


def told(answer: bytes | Exception) -> pb.Answer:
    """Refusal for one that is refused."""
    if isinstance(answer, Exception):
        raise answer
    found = pb.Answer.FromString(answer)
    if found.HasField("refused"):
        raise Refusal(found.refused.reason, CODES[found.refused.code], found.refused.message)
    return found


def is_done(answer: bytes | Exception) -> bool:
    return isinstance(answer, bytes) and not pb.Answer.FromString(answer).HasField("refused")


def fill(order_id: str, account_id: str, quantity: int, dollars: int, *, buys: bool = True, last: bool) -> Execution:
    return Execution(
        0,
        "",
        True,
        buys,
        last,
        account_id,
        order_id,
        "AAPL",
        quantity,
        dollars * DOLLAR,
        quantity,
        TRADED,
        b"t" * 16,
        1,
    )


def end(order_id: str, account_id: str, cum_quantity: int) -> Execution:
    return fill(order_id, account_id, 0, 0, last=True)._replace(fills=False, cum_quantity=cum_quantity)


@pytest.fixture
async def ledger(database: Database) -> AsyncIterator[Ledger]:
    pool = await db.pool(database.urls["ledger"], "ledger", size=2)
    bell = log.Bell()
    made = Ledger(pool, Writer(pool, Config(), bell, SEAL), Reads(pool, Config(), bell))
    made.alice = (await made.do(OpenAccount("cus_alice"))).open_account.account.account_id
    await made.do(Deposit(made.alice, 1000 * DOLLAR))
    yield made
    sums = await pool.fetch("SELECT asset, sum(amount) FROM entries JOIN balances USING (balance_id) GROUP BY 1")
    assert all(total == 0 for _, total in sums)
    await pool.close()


async def refused(ledger: Ledger, command: Command, reason: Reason, key: str | None = None) -> None:
    with pytest.raises(Refusal) as refusal:
        await ledger.do(command, key)
    assert refusal.value.reason == reason


async def test_a_deposit_is_withdrawable_at_once(ledger: Ledger) -> None:
    response = await ledger.do(Withdraw(ledger.alice, 400 * DOLLAR))
    assert response.withdraw.balances.withdrawable == 600 * DOLLAR
    await refused(ledger, Withdraw(ledger.alice, 601 * DOLLAR), Reason.INSUFFICIENT_FUNDS)


async def test_the_same_key_gives_the_first_answer_and_moves_nothing(ledger: Ledger) -> None:
    first = await ledger.do(Deposit(ledger.alice, DOLLAR), "k")
    assert await ledger.do(Deposit(ledger.alice, DOLLAR), "k") == first
    assert await ledger.cash() == {"cash/settled": 1001}


async def test_the_same_key_twice_in_one_batch_is_done_once(ledger: Ledger) -> None:
    request = ledger.request(Deposit(ledger.alice, DOLLAR), "twice")
    first, second = await ledger.writer.commit([request, request])
    assert first == second
    assert await ledger.cash() == {"cash/settled": 1001}


async def test_the_same_key_with_other_content_is_refused(ledger: Ledger) -> None:
    await ledger.do(Deposit(ledger.alice, DOLLAR), "k")
    await refused(ledger, Deposit(ledger.alice, 2 * DOLLAR), Reason.KEY_REUSED, "k")


async def test_a_refusal_is_the_answer_to_its_key_for_good(ledger: Ledger) -> None:
    await refused(ledger, Withdraw(ledger.alice, 5000 * DOLLAR), Reason.INSUFFICIENT_FUNDS, "k")
    await ledger.do(Deposit(ledger.alice, 9000 * DOLLAR))
    await refused(ledger, Withdraw(ledger.alice, 5000 * DOLLAR), Reason.INSUFFICIENT_FUNDS, "k")


@pytest.mark.parametrize("amount", [0, -1, 10**15 + 1, 2**63 - 1])
async def test_amounts_that_make_no_sense_are_refused(ledger: Ledger, amount: int) -> None:
    await refused(ledger, Deposit(ledger.alice, amount), Reason.INVALID_AMOUNT)


async def test_unknown_accounts_and_holds_are_refused(ledger: Ledger) -> None:
    await refused(ledger, Deposit("acc_nobody", DOLLAR), Reason.UNKNOWN_ACCOUNT)
    await refused(ledger, ReleaseHold("hld_0_000000009999"), Reason.UNKNOWN_HOLD)
    await refused(ledger, ReleaseHold("nonsense"), Reason.UNKNOWN_HOLD)


async def test_held_cash_buys_nothing_else_and_comes_back_once(ledger: Ledger) -> None:
    hold = await ledger.hold("ord_1", 700 * DOLLAR)
    assert await ledger.cash() == {"cash/held": 700, "cash/settled": 300}
    await refused(ledger, PlaceHold(ledger.alice, "ord_2", CASH, 301 * DOLLAR), Reason.INSUFFICIENT_FUNDS)
    await ledger.do(ReleaseHold(hold.hold_id))
    assert await ledger.cash() == {"cash/settled": 1000}
    await refused(ledger, ReleaseHold(hold.hold_id), Reason.HOLD_RELEASED)


async def test_of_two_holds_for_the_last_dollar_one_wins(ledger: Ledger) -> None:
    requests = [ledger.request(PlaceHold(ledger.alice, f"ord_{n}", CASH, 1000 * DOLLAR)) for n in range(5)]
    answers = await ledger.writer.commit(requests)
    assert [is_done(answer) for answer in answers] == [True, False, False, False, False]


async def test_an_order_has_one_hold(ledger: Ledger) -> None:
    await ledger.hold("ord_1", DOLLAR)
    await refused(ledger, PlaceHold(ledger.alice, "ord_1", CASH, DOLLAR), Reason.ORDER_HAS_HOLD)


async def test_a_hold_is_raised_and_lowered(ledger: Ledger) -> None:
    hold = await ledger.hold("ord_1", 100 * DOLLAR)
    await ledger.do(AdjustHold(hold.hold_id, 250 * DOLLAR))
    assert await ledger.cash() == {"cash/held": 250, "cash/settled": 750}
    await ledger.do(AdjustHold(hold.hold_id, 50 * DOLLAR))
    assert await ledger.cash() == {"cash/held": 50, "cash/settled": 950}
    await ledger.do(AdjustHold(hold.hold_id, 50 * DOLLAR))
    await refused(ledger, AdjustHold(hold.hold_id, 5000 * DOLLAR), Reason.INSUFFICIENT_FUNDS)


async def test_raising_and_lowering_a_hold_leaves_no_trail(ledger: Ledger) -> None:
    hold = await ledger.hold("ord_1", 100 * DOLLAR)
    for dollars in (200, 100, 300, 50) * 3:
        await ledger.do(AdjustHold(hold.hold_id, dollars * DOLLAR))
    assert await ledger.pool.fetchval("SELECT cardinality(draw_paths) FROM holds") == 1
    assert await ledger.cash() == {"cash/held": 50, "cash/settled": 950}


async def test_a_filled_buy_pays_its_price_and_gets_the_rest_back(ledger: Ledger) -> None:
    await ledger.hold("ord_1", 4 * 160 * DOLLAR)
    await ledger.execute(fill("ord_1", ledger.alice, 1, 150, last=False))
    assert await ledger.cash() == {"cash/held": 490, "cash/settled": 360}
    await ledger.execute(fill("ord_1", ledger.alice, 3, 155, last=True)._replace(cum_quantity=4))
    assert await ledger.cash() == {"cash/settled": 1000 - 150 - 3 * 155}
    assert await ledger.shares() == {"position/available/AAPL": 4}


async def test_a_cancelled_rest_goes_back_only_when_all_fills_are_in(ledger: Ledger) -> None:
    await ledger.hold("ord_1", 400 * DOLLAR)
    await ledger.execute(end("ord_1", ledger.alice, 1))  # the cancel's report overtook the fill it counts
    assert await ledger.cash() == {"cash/held": 400, "cash/settled": 600}
    await ledger.execute(fill("ord_1", ledger.alice, 1, 150, last=False))
    assert await ledger.cash() == {"cash/settled": 850}


async def test_sold_shares_bring_cash_that_is_unsettled_until_its_date(ledger: Ledger) -> None:
    await ledger.hold("ord_1", 150 * DOLLAR)
    await ledger.execute(fill("ord_1", ledger.alice, 1, 150, last=True))
    await ledger.hold("ord_2", 1, "AAPL")
    assert await ledger.shares() == {"position/held/AAPL": 1}
    await ledger.execute(fill("ord_2", ledger.alice, 1, 152, buys=False, last=True))
    assert await ledger.cash() == {"cash/settled": 850, f"cash/unsettled/{SETTLES}": 152}
    await refused(ledger, Withdraw(ledger.alice, 851 * DOLLAR), Reason.FUNDS_UNSETTLED)
    await ledger.hold("ord_3", 1002 * DOLLAR)  # but it buys


async def test_a_hold_draws_unsettled_cash_first_and_puts_it_back(ledger: Ledger) -> None:
    await ledger.hold("ord_1", 1, CASH)
    await ledger.execute(
        fill("ord_0", ledger.alice, 1, 150, buys=False, last=True)
    )  # a short sale by fact: owes a share
    assert await ledger.shares() == {"position/owed/AAPL": -1}
    await refused(ledger, PlaceHold(ledger.alice, "ord_2", CASH, DOLLAR), Reason.ACCOUNT_OWES)
    await ledger.execute(fill("ord_3", ledger.alice, 1, 100, last=True))  # buys it back
    assert await ledger.shares() == {}
    hold = await ledger.hold("ord_4", 40 * DOLLAR)
    assert (await ledger.cash())[f"cash/unsettled/{SETTLES}"] == 10
    await ledger.do(ReleaseHold(hold.hold_id))
    assert (await ledger.cash())[f"cash/unsettled/{SETTLES}"] == 50


async def test_a_fill_beyond_all_cash_posts_through_owed_and_blocks_the_account(ledger: Ledger) -> None:
    await ledger.execute(fill("ord_late", ledger.alice, 10, 150, last=True))
    assert await ledger.cash() == {"cash/owed": -500}
    await refused(ledger, PlaceHold(ledger.alice, "ord_2", "AAPL", 1), Reason.ACCOUNT_OWES)
    await ledger.do(Deposit(ledger.alice, 600 * DOLLAR))
    assert await ledger.cash() == {"cash/settled": 100}


async def test_rows_of_the_log_that_come_again_are_refused_by_the_cursor(ledger: Ledger) -> None:
    row = fill("ord_1", ledger.alice, 1, 150, last=True)._replace(position=1, execution_id="exe_1_000000000001")
    await ledger.writer.commit([Facts(1, 0, [row])])
    with pytest.raises(log.Fenced):
        await ledger.writer.commit([Facts(1, 0, [row])])


async def test_one_bad_item_does_not_take_the_batch_with_it(ledger: Ledger) -> None:
    bad = fill("ord_1", "acc_nobody", 1, 150, last=True)._replace(position=1, execution_id="exe_1_000000000001")
    deposit = ledger.request(Deposit(ledger.alice, DOLLAR))
    facts, answer = await ledger.writer.commit([Facts(1, 0, [bad]), deposit])
    assert isinstance(facts, Refusal)
    assert is_done(answer)
    assert await ledger.cash() == {"cash/settled": 1001}


async def test_a_replaced_writer_is_fenced_off(ledger: Ledger) -> None:
    newer = Writer(ledger.pool, Config(), log.Bell(), SEAL)
    await newer.commit([ledger.request(Deposit(ledger.alice, DOLLAR))])
    with pytest.raises(log.Fenced):
        await ledger.do(Deposit(ledger.alice, DOLLAR))


INSERT_TRANSACTION = """INSERT INTO transactions (log_partition, position, kind, legs, effective_date, requested_at_ns,
    recorded_at_ns, account_id, trace_id, row_check)
    VALUES (0, 99, 1, 2, '2026-11-20', 1, 1, 'acc_x', repeat('t', 16)::bytea, 0)"""
INSERT_ENTRIES = """INSERT INTO entries (log_partition, position, leg, balance_id, amount, balance, version)
    SELECT 0, $1, leg, balance_id, amount, balance + amount, version + 1
    FROM unnest($2::smallint[], $3::text[], $4::text[], $5::bigint[]) AS new(leg, account_id, path, amount)
    JOIN balances USING (account_id, path)"""

ATTACKS = {
    "unbalanced": ([1, 2], ["house/0", "@"], ["bank", "cash/settled"], [-5, 6], "entries_sum_to_zero"),
    "half a transaction": ([1], ["@"], ["cash/settled"], [5], "entries_sum_to_zero"),
    "a leg missing": ([1, 3], ["house/0", "@"], ["bank", "cash/settled"], [-5, 5], "entries_complete"),
    "customer below zero": (
        [1, 2],
        ["house/0", "@"],
        ["bank", "cash/settled"],
        [10**9, -(10**9)],
        "customers_not_negative",
    ),
    "nothing moved": ([1, 2], ["house/0", "@"], ["bank", "cash/settled"], [0, 0], "entries_move_something"),
}


@pytest.mark.parametrize("name", ATTACKS)
async def test_postgresql_refuses_entries_that_break_a_rule(ledger: Ledger, name: str) -> None:
    legs, accounts, paths, amounts, constraint = ATTACKS[name]
    async with ledger.pool.acquire() as connection:
        with pytest.raises(asyncpg.CheckViolationError) as refused_by:
            async with connection.transaction():
                owners = [ledger.alice if owner == "@" else owner for owner in accounts]
                await connection.execute(INSERT_ENTRIES, 99, legs, owners, paths, amounts)
                await connection.execute(INSERT_TRANSACTION)
        assert refused_by.value.constraint_name == constraint


async def test_postgresql_refuses_a_leg_added_to_a_finished_transaction(ledger: Ledger) -> None:
    bob = (await ledger.do(OpenAccount("cus_bob"))).open_account.account.account_id
    await ledger.do(Deposit(bob, DOLLAR))
    await ledger.hold("ord_1", DOLLAR)
    async with ledger.pool.acquire() as connection:
        with pytest.raises(asyncpg.CheckViolationError) as refused_by:
            arguments = 1, [3, 4], [bob, ledger.alice], ["cash/settled", "cash/held"], [-5, 5]
            await connection.execute(INSERT_ENTRIES, *arguments)
        assert refused_by.value.constraint_name == "entries_complete"


@pytest.mark.parametrize(
    "edit",
    [
        "UPDATE entries SET amount = 1",
        "DELETE FROM entries",
        "TRUNCATE entries",
        "UPDATE transactions SET order_id = 'x'",
        "DELETE FROM transactions",
        "UPDATE balances SET balance = 1",
        "DELETE FROM balances",
        "UPDATE accounts SET customer_id = 'cus_mallory'",
        "UPDATE commands SET key = 'x'",
        "DELETE FROM holds",
        "ALTER TABLE entries DISABLE TRIGGER ALL",
    ],
)
async def test_the_service_role_can_edit_nothing(ledger: Ledger, edit: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await ledger.pool.execute(edit)


@pytest.mark.parametrize("edit", ["UPDATE entries SET amount = 1", "DELETE FROM transactions", "TRUNCATE entries"])
async def test_the_triggers_stop_even_the_owner(ledger: Ledger, database: Database, edit: str) -> None:
    owner = await asyncpg.connect(database.admin_url, server_settings={"search_path": "ledger"})
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
        await owner.execute(edit)
    await owner.close()


async def test_what_a_command_needs_is_asked_for(ledger: Ledger) -> None:
    await refused(ledger, OpenAccount(""), Reason.MISSING_CUSTOMER)
    await refused(ledger, PlaceHold(ledger.alice, "", CASH, 1), Reason.MISSING_ORDER)
    await refused(ledger, PlaceHold(ledger.alice, "ord_1", "aapl", 1), Reason.INVALID_ASSET)


async def test_house_accounts_take_no_commands(ledger: Ledger) -> None:
    await refused(ledger, Deposit("house/0", DOLLAR), Reason.UNKNOWN_ACCOUNT)
    await refused(ledger, Withdraw("house/0", DOLLAR), Reason.UNKNOWN_ACCOUNT)


async def test_shares_of_the_ticker_usd_are_not_dollars(ledger: Ledger) -> None:
    await refused(ledger, PlaceHold(ledger.alice, "ord_1", "USD", 100), Reason.INSUFFICIENT_SHARES)


async def test_a_later_end_that_counts_less_releases_nothing_early(ledger: Ledger) -> None:
    await ledger.hold("ord_1", 400 * DOLLAR)
    await ledger.execute(end("ord_1", ledger.alice, 1), end("ord_1", ledger.alice, 0))
    assert await ledger.cash() == {"cash/held": 400, "cash/settled": 600}


async def test_postgresql_refuses_a_transaction_without_entries(ledger: Ledger) -> None:
    with pytest.raises(asyncpg.CheckViolationError) as refused_by:
        await ledger.pool.execute(INSERT_TRANSACTION)
    assert refused_by.value.constraint_name == "entries_complete"


async def test_postgresql_refuses_entries_without_a_transaction(ledger: Ledger) -> None:
    arguments = 99, [1, 2], ["house/0", ledger.alice], ["bank", "cash/settled"], [-5, 5]
    with pytest.raises(asyncpg.CheckViolationError) as refused_by:
        await ledger.pool.execute(INSERT_ENTRIES, *arguments)
    assert refused_by.value.constraint_name == "entries_complete"


async def test_postgresql_refuses_a_hold_that_no_transaction_made(ledger: Ledger) -> None:
    await ledger.hold("ord_1", DOLLAR)
    forged = """INSERT INTO holds (log_partition, position, account_id, order_id, asset, created_at_ns, idempotency_key,
        draw_paths, draw_amounts, taken_amounts, seal)
        SELECT log_partition, 1, account_id, 'ord_forged', asset, 1, 'forged', draw_paths, draw_amounts, taken_amounts,
            seal FROM holds"""
    with pytest.raises(asyncpg.CheckViolationError) as refused_by:
        await ledger.pool.execute(forged)
    assert refused_by.value.constraint_name == "holds_made"


async def test_postgresql_looks_at_the_real_entries_whatever_the_caller_calls_entries(ledger: Ledger) -> None:
    async with ledger.pool.acquire() as connection:
        await connection.execute("CREATE TEMP TABLE entries (position bigint, leg smallint, log_partition smallint)")
        await connection.execute("INSERT INTO pg_temp.entries VALUES (99, 1, 0), (99, 2, 0)")
        with pytest.raises(asyncpg.CheckViolationError) as refused_by:
            await connection.execute(INSERT_TRANSACTION)
        assert refused_by.value.constraint_name == "entries_complete"
        await connection.execute("DROP TABLE pg_temp.entries")


def test_the_page_tells_every_reason_with_its_status() -> None:
    page = (Path(__file__).parent.parent / "ledger" / "LEDGER.md").read_text()
    told = dict(re.findall(r"^\| ([A-Z_]+) \| ([A-Z_]+) \|", page, re.MULTILINE))
    assert told == {reason.value: STATUS[reason].name for reason in Reason}


def test_no_command_takes_a_balance_near_the_end_of_a_bigint() -> None:
    rich = Account("acc_rich", "cus_rich", 0, {"cash/settled": Balance(BALANCE_MAX)})
    with pytest.raises(Refusal) as refusal:
        check_balances([Leg(rich, "cash/settled", CASH, 1)])
    assert refusal.value.reason == Reason.BALANCE_TOO_LARGE
    check_balances([Leg(rich, "cash/settled", CASH, -1)])
