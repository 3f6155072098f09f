"""What the service's role, and batches that overlap, cannot do to the ledger, whatever they try."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import asyncpg
import pytest

from ledger.book import Deposit, OpenAccount, PlaceHold
from ledger.config import Config
from ledger.planner import Facts, Item
from ledger.writer import Writer
from runtime import db, log
from runtime.units import CASH
from tests.cluster import Database
from tests.test_ledger import DOLLAR, SEAL, Ledger, end, fill, is_done, ledger

__all__ = ["ledger"]  # the fixture

TRANSACTION = """INSERT INTO transactions (log_partition, position, kind, legs, effective_date, requested_at_ns,
    recorded_at_ns, account_id, trace_id, row_check)
    VALUES (0, $1, 2, 2, '2026-11-20', 1, 1, 'acc_x', repeat('t', 16)::bytea, 0)"""
ENTRIES = """INSERT INTO entries (log_partition, position, leg, balance_id, amount, balance, version)
    SELECT 0, $1, $2 - 1 + row_number() OVER (), balance_id, amount, balance + amount, version + 1
    FROM unnest($3::text[], $4::bigint[]) AS new(path, amount) JOIN balances USING (path)"""


@pytest.fixture
async def sessions(ledger: Ledger, database: Database) -> AsyncIterator[list[asyncpg.Connection]]:
    """Two of the service's role, beside the ledger."""
    found = [
        await asyncpg.connect(database.urls["ledger"], server_settings={"search_path": "ledger"}) for _ in range(2)
    ]
    yield found
    for session in found:
        await session.close()


@pytest.mark.parametrize("other_partition", [0, 7])
async def test_two_sessions_cannot_take_the_same_money(
    ledger: Ledger, sessions: list[asyncpg.Connection], other_partition: int
) -> None:
    first, second = sessions
    money = ["cash/settled", "bank"], [-1000 * DOLLAR, 1000 * DOLLAR]
    elsewhere = ENTRIES.replace("SELECT 0,", f"SELECT {other_partition},")
    async with first.transaction():
        await first.execute(ENTRIES, 100, 1, *money)
        other = asyncio.create_task(second.execute(elsewhere, 101, 1, *money))  # reads the balance, then waits
        await asyncio.sleep(0.2)
        await first.execute(TRANSACTION, 100)
    with pytest.raises(asyncpg.CheckViolationError):
        await other


async def test_a_second_session_adds_no_leg_to_a_transaction_that_is_being_made(
    ledger: Ledger, sessions: list[asyncpg.Connection]
) -> None:
    first, second = sessions
    await ledger.pool.execute(
        """INSERT INTO balances (account_id, path, asset, link)
           VALUES ('house/0', 'fees', '$USD', 1), ('house/0', 'equity', '$USD', 1)"""
    )
    async with first.transaction():
        await first.execute(ENTRIES, 100, 1, ["cash/settled", "bank"], [1, -1])
        other = asyncio.create_task(second.execute(ENTRIES, 100, 3, ["fees", "equity"], [7, -7]))
        await asyncio.sleep(0.2)
        await first.execute(TRANSACTION, 100)
    with pytest.raises(asyncpg.CheckViolationError) as refused_by:
        await other
    assert refused_by.value.constraint_name == "entries_complete"


async def test_the_service_cannot_hang_the_owners_function_on_a_table_of_its_own(
    sessions: list[asyncpg.Connection],
) -> None:
    await sessions[0].execute("CREATE TEMP TABLE mine (LIKE entries)")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await sessions[0].execute(
            """CREATE TRIGGER mine AFTER INSERT ON mine REFERENCING NEW TABLE AS new_entries
               FOR EACH STATEMENT EXECUTE FUNCTION post_entries()"""
        )


@pytest.mark.parametrize(
    "insert",
    [
        "INSERT INTO accounts VALUES ('house/mallory', 'cus_mallory', 1, 1)",
        "INSERT INTO balances (account_id, path, asset, link, balance) VALUES ('acc_m', 'cash/settled', '$USD', 1, 5)",
    ],
)
async def test_names_do_not_make_a_customer_the_house(ledger: Ledger, insert: str) -> None:
    with pytest.raises((asyncpg.CheckViolationError, asyncpg.InsufficientPrivilegeError)):
        await ledger.pool.execute(insert)


async def test_only_owed_may_be_below_zero_not_what_begins_alike(ledger: Ledger) -> None:
    await ledger.pool.execute(
        "INSERT INTO balances (account_id, path, asset, link) VALUES ($1, 'cash/owedx', '$USD', 1)", ledger.alice
    )
    with pytest.raises(asyncpg.CheckViolationError) as refused_by:
        await ledger.pool.execute(ENTRIES, 99, 1, ["cash/owedx", "bank"], [-500, 500])
    assert refused_by.value.constraint_name == "customers_not_negative"


# --- a batch planned while the one before it fails


class Watched(Writer):
    """Tells when a batch that failed is being done again in parts."""

    def __init__(self, pool: db.Pool) -> None:
        super().__init__(pool, Config(), log.Bell(), SEAL)
        self.parted = asyncio.Event()

    async def _commit(self, items: Sequence[Item]) -> Sequence[Any]:
        self.parted.set()
        return await super()._commit(items)


async def stored_keys(ledger: Ledger, keys: list[str]) -> list[str]:
    rows = await ledger.pool.fetch("SELECT key FROM commands WHERE key = ANY($1) ORDER BY key", keys)
    return [row["key"] for row in rows]


async def test_what_is_planned_while_the_batch_before_is_parted_is_stored_before_it_is_answered(ledger: Ledger) -> None:
    bob = (await ledger.do(OpenAccount("cus_bob"))).open_account.account.account_id
    await ledger.do(Deposit(bob, 1000 * DOLLAR))
    writer = Watched(ledger.pool)
    await writer.commit([ledger.request(Deposit(bob, 1))])
    writer.parted.clear()
    too_much = fill("ord_big", ledger.alice, 2**40, 10**6, last=False)  # no bigint holds its value
    facts = Facts(1, 0, [too_much._replace(position=1, execution_id="exe_1_000000000001", exec_id="E1")])
    before = asyncio.create_task(writer.commit([facts, ledger.request(Deposit(ledger.alice, DOLLAR), "good")]))
    await writer.parted.wait()
    late = [ledger.request(PlaceHold(bob, "ord_late", CASH, DOLLAR), "late"), ledger.request(Deposit(bob, 1), "late 2")]
    answers = await writer.commit(late)
    bad, good = await before
    assert isinstance(bad, Exception)
    assert [is_done(answer) for answer in (good, *answers)] == [True, True, True]
    assert await stored_keys(ledger, ["good", "late", "late 2"]) == ["good", "late", "late 2"]
    (after,) = await writer.commit([ledger.request(Deposit(bob, DOLLAR))])
    assert is_done(after)


async def test_what_is_planned_behind_a_batch_that_is_fenced_is_neither_told_nor_stored_out_of_place(
    ledger: Ledger,
) -> None:
    await ledger.execute(end("ord_none", ledger.alice, 0))
    stale = Facts(1, 0, [end("ord_none", ledger.alice, 0)._replace(position=1, execution_id="exe_1_000000000001")])
    request = ledger.request(Deposit(ledger.alice, DOLLAR), "k")
    fenced, behind = await asyncio.gather(
        ledger.writer.commit([request, stale]),
        ledger.writer.commit([request, ledger.request(PlaceHold(ledger.alice, "ord_1", CASH, DOLLAR), "h")]),
        return_exceptions=True,
    )
    assert isinstance(fenced, log.Fenced)
    if not isinstance(behind, BaseException):
        assert all(map(is_done, behind))
        assert await stored_keys(ledger, ["h", "k"]) == ["h", "k"]
    positions = [row[0] for row in await ledger.pool.fetch("SELECT position FROM transactions ORDER BY 1")]
    assert positions == list(range(1, len(positions) + 1))
