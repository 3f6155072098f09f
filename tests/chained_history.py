"""A ledger history on real PostgreSQL with every kind of row in it, and its signed heads, for tests that change it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import asyncpg

from ledger import verify
from ledger.accounts import Kind
from ledger.book import (
    AdjustHold,
    BookTrade,
    CaptureHold,
    Command,
    Deposit,
    OpenAccount,
    PlaceHold,
    PostJournal,
    ReleaseHold,
    ReversePosted,
    Withdraw,
)
from ledger.config import Config
from ledger.history import History, Line
from ledger.on_execution import Execution
from ledger.planner import Reconciled, SettleCash, SettleDates
from ledger.reads import Reads
from ledger.verify import LOG, Report
from ledger.writer import Writer
from runtime import auth, chain, db, log
from runtime.chain import Tip
from runtime.fees import FeeSchedule
from runtime.units import CASH
from tests.brokerage import until
from tests.cluster import Database
from tests.test_ledger import DOLLAR, SEAL, SETTLES, TRADED, Ledger, end, fill

FEES = FeeSchedule(per_share=30, sell_per_million=278_000)
TRACE = b"t" * 16
PRIVATE, PUBLIC = auth.new_keys()


@dataclass(frozen=True, slots=True)
class Proof:
    """A connection as superuser, whom no trigger stops, and the file of heads."""

    connection: asyncpg.Connection
    heads: Path

    async def verify(self, *, signed: bool = True) -> Report:
        heads = chain.read_heads(self.heads, PUBLIC, LOG, 0) if signed else ()
        return await verify.verify(self.connection, 0, SEAL, heads)


async def rechain(connection: asyncpg.Connection) -> None:
    """Makes every check and every link anew, so that they agree with what is stored now."""
    previous = Tip()
    async for block in (await History.open(connection, 0)).blocks():
        for link in block.links:
            for line in link.lines():
                await _check_anew(connection, line)
            hashed = chain.next_hash(LOG, 0, previous.hash, link.tip, link.texts())
            previous = replace(link.tip, hash=hashed)
            await connection.execute("UPDATE chain SET hash = $1 WHERE link = $2", hashed, previous.link)


async def _check_anew(connection: asyncpg.Connection, line: Line) -> None:
    check = chain.row_check(line.text)
    if line.table == "transactions":
        await connection.execute("UPDATE transactions SET row_check = $1 WHERE position = $2", check, *line.key)
    elif line.table == "commands":
        statement = "UPDATE commands SET row_check = $1 WHERE (scope, key) = ($2, $3)"
        await connection.execute(statement, check, *line.key)


@asynccontextmanager
async def unguarded(database: Database, heads: Path) -> AsyncIterator[Proof]:
    """Nothing that is done is kept."""
    connection = await asyncpg.connect(
        database.admin_url, server_settings={"search_path": "ledger", "session_replication_role": "replica"}
    )
    transaction = connection.transaction(isolation="repeatable_read")
    await transaction.start()
    try:
        yield Proof(connection, heads)
    finally:
        await transaction.rollback()
        await connection.close()


@asynccontextmanager
async def new_ledger(database: Database) -> AsyncIterator[Ledger]:
    """With fees, and with alice and her 1,000 dollars."""
    pool = await db.pool(database.urls["ledger"], "ledger", size=2)
    bell = log.Bell()
    made = Ledger(pool, Writer(pool, Config(), bell, SEAL, FEES), Reads(pool, Config(), bell))
    made.alice = (await made.do(OpenAccount("cus_alice"))).open_account.account.account_id
    await made.do(Deposit(made.alice, 1_000 * DOLLAR))
    yield made
    await pool.close()


async def live_through(ledger: Ledger, heads: Path) -> None:
    """Everything that can happen to a ledger, signed four times."""
    for part in (_holds, _trades, _undone, _booked):
        await part(ledger)
        await sign(ledger.writer, heads)


async def sign(writer: Writer, heads: Path) -> None:
    """The newest link, by the task that does it in the ledger."""
    signing = asyncio.create_task(chain.sign_heads(heads, PRIVATE, LOG, 0, lambda: writer.tip))
    await asyncio.to_thread(until, lambda: _is_signed(heads, writer.tip.link), "the head is signed")
    signing.cancel()


def _is_signed(heads: Path, link: int) -> bool:
    head = chain.newest_head(heads, PUBLIC, LOG, 0)
    return head is not None and head.link == link


async def _holds(ledger: Ledger) -> None:
    bob = (await ledger.do(OpenAccount("cus_bób"))).open_account.account.account_id
    requests = [ledger.request(Deposit(bob, n * DOLLAR)) for n in range(1, 6)]
    requests += [ledger.request(Withdraw(bob, 500 * DOLLAR)), ledger.request(PlaceHold(bob, "ord_bob", CASH, DOLLAR))]
    await ledger.writer.commit(requests)
    held = await ledger.hold("ord_1", 100 * DOLLAR)
    await ledger.do(AdjustHold(held.hold_id, 150 * DOLLAR))
    await ledger.do(CaptureHold(held.hold_id, 20 * DOLLAR, ""))
    await ledger.do(AdjustHold(held.hold_id, 70 * DOLLAR))
    await ledger.do(ReleaseHold(held.hold_id))
    await _refuse(ledger, Withdraw(ledger.alice, 5_000 * DOLLAR), AdjustHold(held.hold_id, DOLLAR))


async def _refuse(ledger: Ledger, *commands: Command) -> None:
    await ledger.writer.commit([ledger.request(command) for command in commands])


async def _trades(ledger: Ledger) -> None:
    await ledger.hold("ord_2", 4 * 60 * DOLLAR)
    await ledger.execute(_fill(ledger, "ord_2", 1, 50, "1"), _fill(ledger, "ord_2", 3, 55, "2"))
    await ledger.execute(end("ord_2", ledger.alice, 4))
    await ledger.hold("ord_3", 2, "AAPL")
    await ledger.execute(_fill(ledger, "ord_3", 1, 52, "3", buys=False))
    shares = await ledger.hold("ord_4", 1, "AAPL")
    await ledger.do(CaptureHold(shares.hold_id, 1, ""))
    await ledger.execute(_fill(ledger, "ord_late", 20, 100, "4"))  # beyond all cash: owed
    await ledger.do(Deposit(ledger.alice, 3_000 * DOLLAR))
    await ledger.hold("ord_5", 30 * DOLLAR)  # stays open


async def _undone(ledger: Ledger) -> None:
    await ledger.execute(_undo(ledger, "ord_2", "5", "1", Kind.BUST))
    corrected = _undo(ledger, "ord_2", "6", "2", Kind.CORRECTION)
    await ledger.execute(corrected._replace(quantity=2, price=54 * DOLLAR))
    through = date.fromisoformat(SETTLES)
    await ledger.writer.commit([SettleDates(through, TRACE, 1)])
    await ledger.writer.commit([SettleCash([(ledger.alice, f"cash/unsettled/{SETTLES}")], TRACE, 1)])
    await ledger.writer.commit([Reconciled(7, "[]", [(1, 0, 6)])])
    await ledger.execute(_undo(ledger, "ord_3", "7", "3", Kind.BUST))
    await ledger.writer.commit([Reconciled(1, '[{"what": "missing"}]', [(1, 6, 7)])])


async def _booked(ledger: Ledger) -> None:
    deposited = (await ledger.do(Deposit(ledger.alice, 5 * DOLLAR))).deposit.transaction_id
    await ledger.do(ReversePosted(deposited, "a mistake"))
    legs = (("bank", CASH, -3 * DOLLAR), ("fees", CASH, DOLLAR), ("equity", CASH, 2 * DOLLAR))
    await ledger.do(PostJournal(legs, "2026-11-19", "opening"))
    await ledger.do(BookTrade(ledger.alice, "", True, "MSFT", 3, 20 * DOLLAR, str(TRADED), ""))
    await ledger.do(Withdraw(ledger.alice, 9 * DOLLAR))
    await _refuse(ledger, PlaceHold(ledger.alice, "ord_2", CASH, DOLLAR), ReversePosted(deposited, "again"))
    await ledger.do(OpenAccount("cus_nobody"))


def _fill(ledger: Ledger, order_id: str, quantity: int, dollars: int, exec_id: str, *, buys: bool = True) -> Execution:
    return fill(order_id, ledger.alice, quantity, dollars, buys=buys, last=False)._replace(exec_id=exec_id)


def _undo(ledger: Ledger, order_id: str, exec_id: str, ref: str, kind: Kind) -> Execution:
    row = end(order_id, ledger.alice, 0)._replace(terminal=False)
    return row._replace(exec_id=exec_id, exec_ref_id=ref, reverses=kind)
