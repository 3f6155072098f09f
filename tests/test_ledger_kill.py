"""Races for the last dollar, and kill -9 of the ledger and of PostgreSQL under load: what was heard is true, what was
not is found out by its key, and nothing is done twice.
"""

import asyncio
import itertools
import os
import random
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import asyncpg
import pytest

from ledger.verify import LOG, verify
from openbell.ledger.v1 import ledger_pb2 as pb
from runtime import chain
from runtime.errors import Refusal
from tests.brokerage import until
from tests.customer import UNKNOWN
from tests.ledger_process import (
    DOLLAR,
    NAMES,
    LedgerProcess,
    Tab,
    adjust,
    capture,
    deposit,
    hold,
    is_done,
    keyed,
    name_of,
    open_account,
    release,
    trade,
    withdraw,
)

pytestmark = pytest.mark.brokerage

UNKNOWN_CODES = {status.value[0] for status in UNKNOWN}


@pytest.fixture(scope="module")
def process() -> Iterator[LedgerProcess]:
    found = LedgerProcess(crashes=True)
    yield found
    found.remove()


async def open_accounts(tab: Tab, count: int, dollars: int) -> list[str]:
    opened = await tab.batch([keyed(open_account("cus_x")) for _ in range(count)])
    accounts = [answer.open_account.account.account_id for answer in opened]
    funded = await tab.batch([keyed(deposit(account, dollars * DOLLAR)) for account in accounts])
    assert all(map(is_done, funded))
    return accounts


# --- two tabs, 100 dollars

ROUNDS = 100


async def test_of_many_orders_for_the_last_dollar_exactly_one_wins(process: LedgerProcess) -> None:
    chance = random.Random(1)
    tabs = [Tab(process.settings) for _ in range(6)]
    for number, account in enumerate(await open_accounts(tabs[0], ROUNDS, 100)):
        orders = [keyed(hold(account, f"ord_{number}_{n}", chance.randint(51, 100) * DOLLAR)) for n in range(12)]
        answers = await ask_at_once(tabs, orders, chance)
        won = [answer.hold for answer in answers if is_done(answer)]
        assert [answer.refused.reason for answer in answers if not is_done(answer)] == ["INSUFFICIENT_FUNDS"] * 11
        assert len(won) == 1
        told = await tabs[0].call("GetBalances", pb.GetBalancesRequest(account_id=account))
        assert list(told.holds) == [won[0].hold]
        assert told.balances.held == won[0].hold.remaining
        assert told.balances.held + told.balances.settled == 100 * DOLLAR
        assert await ask_at_once(tabs, orders, chance) == answers
    await asyncio.gather(*(tab.close() for tab in tabs))


async def ask_at_once(tabs: list[Tab], orders: list[pb.Command], chance: random.Random) -> list[pb.Answer]:
    """Four of the twelve alone, four in batches, four on streams, each by a connection of its own, in no order."""
    calls = [
        lambda: alone(tabs[0], orders[:2]),
        lambda: alone(tabs[1], orders[2:4]),
        lambda: tabs[2].batch(orders[4:6]),
        lambda: tabs[3].batch(orders[6:8]),
        lambda: tabs[4].streamed(orders[8:10]),
        lambda: tabs[5].streamed(*[[order] for order in orders[10:]]),
    ]
    started = chance.sample(range(len(calls)), len(calls))
    found = dict(zip(started, await asyncio.gather(*(calls[number]() for number in started)), strict=True))
    return [answer for _, answers in sorted(found.items()) for answer in answers]


async def alone(tab: Tab, commands: Sequence[pb.Command]) -> list[pb.Answer]:
    return list(await asyncio.gather(*(tab.unary(command) for command in commands)))


async def test_one_order_sent_by_every_tab_at_once_is_one_hold(process: LedgerProcess) -> None:
    chance = random.Random(2)
    tabs = [Tab(process.settings) for _ in range(6)]
    for number, account in enumerate(await open_accounts(tabs[0], 20, 100)):
        order = keyed(hold(account, f"ord_same_{number}", 60 * DOLLAR))
        first, *others = await ask_at_once(tabs, [order] * 12, chance)
        assert is_done(first)
        assert others == [first] * 11
        told = await tabs[0].call("GetBalances", pb.GetBalancesRequest(account_id=account))
        assert told.balances.held == 60 * DOLLAR
    await asyncio.gather(*(tab.close() for tab in tabs))


# --- kill -9 under load

ACCOUNTS = 5
ASKED_BETWEEN_KILLS = 150
KILLS = (
    "ledger",
    "postgres",  # all of it
    "ledger.hold_committed",  # crash points: the ledger, after a commit
    "backend",  # the connection by which the ledger writes: PostgreSQL starts all others anew
    "ledger",
    "ledger.posting",  # and before one
    "postgres",
    "drain",  # SIGTERM: the ledger, at leisure
    "backend",
)


class Heard(NamedTuple):
    """A command, its answer, and how many times it was asked."""

    command: pb.Command
    answer: pb.Answer
    attempt: int


@dataclass
class World:
    """What all clients do, and what they heard."""

    accounts: list[str]
    heard: list[Heard] = field(default_factory=list)
    over: bool = False

    def done(self) -> list[Heard]:
        return [each for each in self.heard if is_done(each.answer)]


Way = Callable[[Tab, Sequence[pb.Command]], AsyncIterator[pb.Answer]]


async def by_calls(tab: Tab, commands: Sequence[pb.Command]) -> AsyncIterator[pb.Answer]:
    for command in commands:
        yield await tab.unary(command)


async def by_batch(tab: Tab, commands: Sequence[pb.Command]) -> AsyncIterator[pb.Answer]:
    for answer in await tab.batch(commands):
        yield answer


async def by_stream(tab: Tab, commands: Sequence[pb.Command]) -> AsyncIterator[pb.Answer]:
    async for answers in tab.stream(*[commands[at : at + 3] for at in range(0, len(commands), 3)]):
        for answer in answers:
            yield answer


WAYS: list[tuple[Way, int]] = [(by_calls, 1), (by_batch, 12), (by_stream, 12)]


class Client:
    """Asks one thing after another, again by the same keys while an outcome is unknown, then by another way too."""

    def __init__(self, tab: Tab, world: World, number: int) -> None:
        self._tab, self._world, self._number = tab, world, number
        self._chance = random.Random(number)
        self._counter = itertools.count(1)
        self._holds: list[str] = []

    async def run(self) -> None:
        while not self._world.over:
            _, count = WAYS[self._number % len(WAYS)]
            await self._ask([self._command() for _ in range(count)])

    async def _ask(self, commands: list[pb.Command]) -> None:
        for attempt in itertools.count(1):
            way, _ = WAYS[(self._number + attempt - 1) % len(WAYS)]
            answers: list[pb.Answer] = []
            try:
                async for answer in way(self._tab, [traced(command, attempt) for command in commands]):
                    answers.append(answer)
            except Refusal as refusal:
                if refusal.status not in UNKNOWN:
                    raise
            known = [
                Heard(command, answer, attempt)
                for command, answer in zip(commands, answers, strict=False)
                if answer.refused.code not in UNKNOWN_CODES
            ]
            self._hear(known)
            keys = {key_of(each.command) for each in known}
            commands = [command for command in commands if key_of(command) not in keys]
            if not commands:
                return
            await asyncio.sleep(0.02)

    def _hear(self, known: list[Heard]) -> None:
        self._world.heard += known
        for each in known:
            if each.answer.HasField("hold"):
                self._holds.append(each.answer.hold.hold.hold_id)
            if each.answer.HasField("release"):
                self._holds.remove(each.answer.release.hold.hold_id)

    def _command(self) -> pb.Command:
        """Some of them are refused: more is asked for than there is, and holds that are captured or released."""
        chance, name = self._chance, f"{self._number}_{next(self._counter)}"
        account, amount = chance.choice(self._world.accounts), chance.randint(1, 60) * DOLLAR
        makes = [
            lambda: deposit(account, amount),
            lambda: withdraw(account, amount),
            lambda: trade(account, price=amount),
            lambda: hold(account, f"ord_kill_{name}", amount),
            lambda: hold(account, f"ord_kill_{name}", amount),
        ]
        if self._holds:
            of = chance.choice(self._holds)
            makes += [lambda: capture(of, amount // 2), lambda: adjust(of, amount), lambda: release(of)]
        return keyed(chance.choice(makes)(), f"{name} of the load")


def key_of(command: pb.Command) -> str:
    return str(getattr(command, name_of(command)).idempotency_key)


def traced(command: pb.Command, attempt: int) -> pb.Command:
    """The trace's id ends with the attempt: the transaction will tell which one of them made it."""
    copy = pb.Command(traceparent=f"00-{random.getrandbits(96) | 1:024x}{attempt:08x}-{1:016x}-01")
    copy.MergeFrom(command)
    return copy


def kill(process: LedgerProcess, what: str, world: World) -> None:
    """Kills once the load flows, and comes back when it flows again."""
    heard = len(world.heard)
    until(lambda: len(world.heard) > heard + ASKED_BETWEEN_KILLS, f"the load flows before {what} is killed")
    pids = {name: process.pid(name) for name in NAMES}
    if what == "backend":
        os.kill(busy_backend(process), signal.SIGKILL)
        process.until_up()
    elif what == "postgres":
        process.until_restarted(what, process.kill(what))
    else:
        end_ledger(process, what)
        process.until_restarted("ledger", pids.pop("ledger"))
    pids.pop(what, None)
    assert {name: process.pid(name) for name in pids} == pids  # who was not killed waited


def end_ledger(process: LedgerProcess, how: str) -> None:
    if how == "drain":
        os.kill(process.pid("ledger"), signal.SIGTERM)
    elif how == "ledger":
        process.kill(how)
    else:
        process.crash_file.write_text(how)


def busy_backend(process: LedgerProcess) -> int:
    """Pid of the connection by which the ledger writes."""
    query = """SELECT pid FROM pg_stat_activity WHERE application_name = 'openbell ledger'
        ORDER BY state_change DESC LIMIT 1"""
    return int(asyncio.run(process.fetch(query))[0]["pid"])


async def test_nothing_heard_is_lost_and_nothing_unknown_is_done_twice_when_processes_are_killed(
    process: LedgerProcess,
) -> None:
    tabs = [Tab(process.settings) for _ in range(6)]
    world = World(await open_accounts(tabs[0], ACCOUNTS, 200))
    before = await positions(process)
    async with asyncio.TaskGroup() as group:
        for number, tab in enumerate(tabs):
            group.create_task(Client(tab, world, number).run())
        for what in KILLS:
            await asyncio.to_thread(kill, process, what, world)
        world.over = True
    await check_heard(process, world, before)
    await check_sums(process, tabs[0], world)
    await check_books(process)
    await check_again(process, tabs[0], world)
    await asyncio.gather(*(tab.close() for tab in tabs))


async def positions(process: LedgerProcess) -> int:
    return int((await process.fetch("SELECT position FROM log_heads WHERE log = 'transactions'"))[0]["position"])


def response(heard: Heard) -> pb.HoldResponse:
    """Every response that this load gets has a transaction's id and balances, as a HoldResponse has."""
    found: pb.HoldResponse = getattr(heard.answer, name_of(heard.command))
    return found


async def check_heard(process: LedgerProcess, world: World, before: int) -> None:
    """The transactions of the database are those that were heard of, each once; some only by asking again."""
    rows = await process.fetch("SELECT * FROM transactions WHERE position > $1 ORDER BY position", before)
    stored = {f"txn_0_{row['position']:012d}": int(row["trace_id"].hex()[-8:], 16) for row in rows}
    told = {response(each).transaction_id: each.attempt for each in world.done() if response(each).transaction_id}
    assert set(stored) == set(told)
    assert len(told) == sum(1 for each in world.done() if response(each).transaction_id)
    made_and_not_heard = [each for each, attempt in stored.items() if attempt < told[each]]
    not_made = [each for each, attempt in stored.items() if attempt == told[each] > 1]
    assert made_and_not_heard  # else no kill came between a commit and its answer
    assert not_made  # nor before a commit


async def check_sums(process: LedgerProcess, tab: Tab, world: World) -> None:
    """Each account has what the commands that were done come to, and its holds hold what was last heard of them."""
    cash, shares = dict.fromkeys(world.accounts, 200 * DOLLAR), dict.fromkeys(world.accounts, 0)
    held: dict[str, tuple[int, str, int]] = {}  # by hold: position, account, what remains
    for each in world.done():
        account, asked = response(each).balances.account_id, getattr(each.command, name_of(each.command))
        match name_of(each.command):
            case "deposit":
                cash[account] += asked.amount
            case "withdraw" | "capture":
                cash[account] -= asked.amount
            case "trade":
                cash[account] -= asked.price
                shares[account] += 1
        if hasattr(response(each), "hold"):
            record, at = response(each).hold, response(each).balances.as_of_position
            held[record.hold_id] = max(held.get(record.hold_id, (0, "", 0)), (at, account, record.remaining))
    for account in world.accounts:
        told = await tab.call("GetBalances", pb.GetBalancesRequest(account_id=account))
        assert told.balances.held == sum(amount for _, of, amount in held.values() if of == account)
        assert told.balances.settled + told.balances.held == cash[account]
        assert sum(each.remaining for each in told.holds) == told.balances.held
        assert [each.available for each in told.positions] == [shares[account]]


# Each finds rows that must not be.
WRONG = {
    "transactions that do not balance": """SELECT position, asset FROM entries JOIN balances USING (balance_id)
        GROUP BY position, asset HAVING sum(amount) <> 0""",
    "balances that are not what their entries come to": """SELECT balance_id FROM balances b
        LEFT JOIN (SELECT balance_id, sum(amount) AS amount, count(*) AS version FROM entries GROUP BY 1) e
        USING (balance_id)
        WHERE (b.balance, b.version) IS DISTINCT FROM (coalesce(e.amount, 0), coalesce(e.version, 0))""",
    "accounts whose holds do not hold what is held": """SELECT * FROM (
        SELECT account_id, sum((SELECT sum(drawn) FROM unnest(draw_amounts) AS drawn)) AS held FROM holds GROUP BY 1) h
        FULL JOIN (SELECT account_id, balance FROM balances WHERE path = 'cash/held') b USING (account_id)
        WHERE coalesce(held, 0) <> coalesce(balance, 0)""",
    "customers below zero": "SELECT * FROM balances WHERE balance < 0 AND account_id NOT LIKE 'house/%'",
    "gaps in the log": """SELECT * FROM (
        SELECT position, row_number() OVER (ORDER BY position) AS number FROM transactions) t
        WHERE position <> number""",
}


async def check_books(process: LedgerProcess) -> None:
    assert {name: rows for name, query in WRONG.items() if (rows := await process.fetch(query))} == {}
    settings = process.settings
    heads = chain.read_heads(chain.head_file(process.data, LOG, 0), settings.secret("chain_public.pem"), LOG, 0)
    connection = await asyncpg.connect(settings.secret("database_admin"))
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        report = await verify(connection, 0, bytes.fromhex(settings.secret("ledger_seal")), heads)
    await connection.close()
    assert report.findings == []
    assert report.signed.link > 0


async def check_again(process: LedgerProcess, tab: Tab, world: World) -> None:
    """Every key has the answer that was heard, and asking moves nothing."""
    before = await positions(process)
    for at in range(0, len(world.heard), 500):
        asked = world.heard[at : at + 500]
        assert await tab.batch([each.command for each in asked]) == [each.answer for each in asked]
    assert await positions(process) == before
