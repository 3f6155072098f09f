"""Whole histories of the ledger, drawn by chance, against real PostgreSQL and a model.

Each step submits commands, facts and settlements together. Their answers, the transactions they leave and every query
must be the model's. The writer is replaced, loses answers and connections, and forgets; none of that may show.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine, Sequence
from datetime import date, timedelta
from functools import partial
from typing import Any, TypeVar

import asyncpg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from ledger import planner as planner_module
from ledger import writer as writer_module
from ledger.book import Request
from ledger.config import Config
from ledger.planner import Facts, Item, Plan
from ledger.reads import Moment, Period, Reads
from ledger.settle import Settler
from ledger.writer import Writer
from openbell.ledger.v1 import ledger_pb2 as pb
from runtime import db, log
from runtime.batch import Batcher
from runtime.errors import Unknown
from runtime.fees import FeeSchedule
from tests import ledger_checks as checks
from tests.cluster import Cluster
from tests.ledger_acts import COMMANDS, FACTS, HOLDS, SETTLEMENTS, SMALL, Act, Actor, Asked, Settled, acts
from tests.ledger_books import Fees
from tests.ledger_model import Model, Told

LONG = bool(os.environ.get("OPENBELL_LONG"))
PROFILE = settings(
    max_examples=300 if LONG else 32,
    stateful_step_count=50 if LONG else 25,
    derandomize=not LONG,  # the same histories each time: a build does not fail by chance
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
    print_blob=True,
)
FIRST_DAY = date(2025, 11, 7)  # a Friday
MORNING_NS = 1_762_527_600 * 10**9  # of it, 10:00 in New York
DAY_NS = 86_400 * 10**9
ANSWER_SECONDS = 30.0
FEES = (FeeSchedule(), FeeSchedule(2, 0, 500_000_000), FeeSchedule(10, 100_000_000, 20_000_000))
CURSOR = "SELECT coalesce(max(position), 0) FROM cursors WHERE source = 'ems' AND log_partition = $1"
CUT = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""

# As a superuser past every trigger: a new database for each history would take longer than the history.
EMPTY = """
SET session_replication_role = replica;
DELETE FROM commands; DELETE FROM holds; DELETE FROM entries; DELETE FROM transactions; DELETE FROM balances;
DELETE FROM accounts; DELETE FROM settlements; DELETE FROM chain; DELETE FROM cursors; DELETE FROM log_heads;
SET session_replication_role = DEFAULT
"""
ALL = COMMANDS + FACTS + SETTLEMENTS
ACTS = st.one_of(*(acts(what) for what in (ALL, ALL, HOLDS + FACTS, HOLDS + SETTLEMENTS, FACTS + SETTLEMENTS)))
CALM = ("apart", "together")
FATES = st.sampled_from([*CALM, "apart", "lost", "cut", "overtaken"])  # of what is asked in one step
THEN = st.sampled_from(["go_on", "go_on", "let_days_pass", "let_days_pass", "replace_the_writer", "look_back"])

T = TypeVar("T")
Answer = bytes | BaseException
Ask = Callable[[Sequence[Item]], Coroutine[Any, Any, Sequence[Answer]]]


class Clock:
    """Stands for the module `time` in the writer. It ticks with each look."""

    def __init__(self) -> None:
        self.now_ns = MORNING_NS

    def time_ns(self) -> int:
        self.now_ns += 1000
        return self.now_ns


class ForgetfulWriter(Writer):
    """One whose connection is lost during a commit that succeeds, when it is told to. It counts what failed."""

    lose_answers = False
    doubts = 0

    def _doubt(self) -> None:
        self.doubts += 1
        super()._doubt()

    async def _store(self, connection: db.Connection, head: log.Head, plan: Plan) -> None:
        known = head.position
        await super()._store(connection, head, plan)
        if self.lose_answers:
            self.lose_answers, head.position = False, known
            raise ConnectionResetError("nobody knows whether it was done")


class Stage:
    """The loop and the database that all histories share, each from an empty ledger."""

    def __init__(self, cluster: Cluster) -> None:
        self._runner = asyncio.Runner()
        self._database = self.run(cluster.database(["ledger"]))
        self.pool = self.run(db.pool(self._database.urls["ledger"], "ledger", size=3))
        self.admin = self.run(asyncpg.connect(self._database.admin_url, server_settings={"search_path": "ledger"}))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def close(self) -> None:
        self.run(self.pool.close())
        self.run(self.admin.close())
        self._runner.close()


class LedgerMachine(RuleBasedStateMachine):
    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.run, self._pool, self._admin = stage.run, stage.pool, stage.admin
        self._clock = Clock()
        self._patch = pytest.MonkeyPatch()
        self._patch.setattr(writer_module, "time", self._clock)
        self._answers: dict[tuple[int, str], bytes] = {}  # the first ones, by scope and key
        self._checked = 0  # position of the log
        self._past: list[tuple[Moment, int, dict[str, dict[str, int]]]] = []  # what accounts had, and when

    # --- start and end

    @initialize(
        batch_max=st.sampled_from([500, 2, 1]),
        cached_max=st.sampled_from([100_000, 1]),
        cycle=st.sampled_from([1, 2]),
        fees=st.sampled_from(FEES),
    )
    def start(self, batch_max: int, cached_max: int, cycle: int, fees: FeeSchedule) -> None:
        self._patch.setattr(planner_module, "CACHED_MAX", cached_max)
        self._config, self._fees, self._batch_max = Config(settlement_cycle_days=cycle), fees, batch_max
        self.model = Model(FIRST_DAY, cycle, Fees(fees.per_share, fees.buy_per_million, fees.sell_per_million))
        self.actor = Actor(self.model)
        self._reads = Reads(self._pool, self._config, log.Bell())
        self.run(self._start())

    async def _start(self) -> None:
        """Two customers, each with cash, some of it unsettled, and shares."""
        await self._admin.execute(EMPTY)
        self._take_over()
        await self._do([Act("open", "one", who, 0, 0) for who in range(2)])
        await self._do([Act("deposit", "all", who, 0, 0) for who in range(2)])
        await self._do([Act("fill", "some", who, sells, 3) for who in range(2) for sells in range(2)])

    def _take_over(self) -> None:
        self._writer = ForgetfulWriter(self._pool, self._config, log.Bell(), b"seal", self._fees)
        self._batcher: Batcher[Item, bytes] = Batcher(
            self._writer.commit, batch_max=self._batch_max, spacing_seconds=0.0, commits_max=2
        )
        self._running = asyncio.ensure_future(self._batcher.run())

    def teardown(self) -> None:
        self._patch.undo()
        self.run(self._stop())

    async def _stop(self) -> None:
        self._running.cancel()
        await asyncio.wait([self._running])

    # --- what happens

    # One rule: of several, each history would leave out some.
    @rule(acts=ACTS, fate=FATES, then=THEN, pick=SMALL, back=SMALL)
    def step(self, acts: list[Act], fate: str, then: str, pick: int, back: int) -> None:
        self.run(self._do(acts, fate))
        self.run(getattr(self, f"_{then}")(pick, back))

    async def _do(self, acts: list[Act], fate: str = "apart") -> None:
        overtaken = fate == "overtaken" and self._batch_max <= 2  # else one batch takes all
        ask = self._overtaken(acts) if overtaken else self._ask(self.actor.step(acts), fate)
        asking = asyncio.ensure_future(ask)
        done, _ = await asyncio.wait(
            [asking, self._running], return_when=asyncio.FIRST_COMPLETED, timeout=ANSWER_SECONDS
        )
        if asking not in done:  # a writer that has ended answers nothing more
            asking.cancel()
            assert done, f"no answer for {ANSWER_SECONDS} s"
            await self._running
        await asking

    async def _ask(self, asked: list[Asked], fate: str) -> None:
        fails = any(isinstance(each.expected, type) for each in asked)
        if fate == "overtaken" or (fate == "cut" and fails):
            fate = "lost"  # what cannot be applied splits its batch, and only a whole batch is surely cut
        doubts = self._writer.doubts
        answers = await getattr(self, f"_{fate}")([each.item for each in asked])
        if fate in CALM and not fails:
            assert self._writer.doubts == doubts, "nothing was wrong, and yet something failed and was tried again"
        await self._compare_all(asked, answers, fate)

    async def _overtaken(self, acts: list[Act]) -> None:
        """The first batch is cut while others are planned on top of it: they happen without it, then it comes again.

        It repeats a command of the second, which therefore must not be told that it is done already.
        """
        rest = self.actor.step([Act("deposit", "all", 0, 0, 0)])
        repeated = self.actor.commands[-1]
        rest += self.actor.step(acts)
        first = [self.actor.send(repeated), *self.actor.step([Act("deposit", "all", 1, 0, 0)])]
        if self._batch_max < len(first):
            rest.append(first.pop())
        answers = await self._cut([each.item for each in [*first, *rest]], self._apart)
        await self._compare_all([*rest, *first], [*answers[len(first) :], *answers[: len(first)]])

    async def _compare_all(self, asked: Sequence[Asked], answers: Sequence[Answer], fate: str = "") -> None:
        for each, answer in zip(asked, answers, strict=True):
            if not isinstance(answer, Unknown):
                self._compare(each, answer)
            elif fate == "lost" and isinstance(each.expected, Settled):  # it was done, and is not done again
                self._compare(each._replace(expected=Settled()), await self._retry(each.item))
            else:
                self._compare(each, await self._retry(each.item))

    async def _apart(self, items: Sequence[Item]) -> Sequence[Answer]:
        return await asyncio.gather(*(self._batcher.submit_fact(item) for item in items), return_exceptions=True)

    async def _together(self, items: Sequence[Item]) -> Sequence[Answer]:
        return await self._batcher.submit_all(items)

    async def _lost(self, items: Sequence[Item]) -> Sequence[Answer]:
        """The first batch is stored, and nobody is told."""
        self._writer.lose_answers = True
        answers = await self._apart(items)
        self._writer.lose_answers = False
        return answers

    async def _cut(self, items: Sequence[Item], ask: Ask | None = None) -> Sequence[Answer]:
        """The connection is cut while the first batch is being stored."""
        async with self._admin.transaction():
            await self._admin.execute("LOCK TABLE chain IN SHARE ROW EXCLUSIVE MODE")
            answers = asyncio.ensure_future((ask or self._together)(items))
            while not answers.done() and not await self._admin.fetch(CUT):
                await asyncio.wait([answers], timeout=0.002)
        return await answers

    async def _retry(self, item: Item) -> Answer:
        """Whose outcome is unknown asks again: commands by their keys, facts if the cursor tells."""
        if isinstance(item, Facts) and item.before < await self._pool.fetchval(CURSOR, item.partition):
            return b""
        (answer,) = await self._apart([item])
        return answer

    def _compare(self, asked: Asked, answer: Answer) -> None:
        if isinstance(answer, BaseException):
            assert isinstance(asked.expected, type), (asked, answer)
            assert isinstance(answer, asked.expected), (asked, answer)
        elif asked.expected is None:
            assert answer == b""
        elif isinstance(asked.expected, Settled):
            told = pb.SettleResponse.FromString(answer)
            assert (tuple(told.settled), told.transactions) == asked.expected, asked
        else:
            assert isinstance(asked.expected, Told), (asked, answer)
            assert isinstance(asked.item, Request)
            self._compare_answer(asked.item, asked.expected, answer)

    def _compare_answer(self, request: Request, expected: Told, answer: bytes) -> None:
        found = pb.Answer.FromString(answer)
        assert checks.read(found) == expected, request.command
        if expected.refused in ("KEY_REUSED", "UNKNOWN_ACCOUNT"):
            return
        assert answer == self._answers.setdefault((request.scope, request.key), answer), "same key, other answer"
        opened = found.open_account.account.account_id
        if opened and opened not in self.model.accounts:
            self.model.accounts.append(opened)

    async def _go_on(self, pick: int, back: int) -> None:
        """Nothing else happens."""

    async def _let_days_pass(self, pick: int, back: int) -> None:
        """And settle them, as the ledger does it by itself; that also finishes what was left half done."""
        days = pick % 4
        self._clock.now_ns += days * DAY_NS
        self.model.today += timedelta(days)
        through, before = self.model.today - timedelta(back % 3), len(self.model.log)
        dates = set(self.model.settle_dates(through.isoformat()))
        rows = [row for row in self.model.due() if row[1][-10:] <= through.isoformat()]
        self.model.settle_cash(rows)
        told = await Settler(self._pool, self._batcher, self._config).settle(through)
        assert list(told.settled) == sorted(dates | {path[-10:] for _, path in rows})
        assert told.transactions == len(self.model.log) - before

    async def _replace_the_writer(self, pick: int, back: int) -> None:
        """The new one reads all from the database; the old one can store nothing more."""
        old, ended = self._batcher, self._running
        if pick % 2 and self.actor.last_facts is not None:
            await self._ends(old, ended, self.actor.last_facts)  # rows that come again
        self._take_over()
        await self._do([Act("deposit", "one", 0, 0, 0)])
        if not ended.done():
            await self._ends(old, ended, self.actor.unknown_to_the_model())

    async def _ends(self, batcher: Batcher[Item, bytes], running: asyncio.Future[None], item: Item) -> None:
        """What the database no longer lets the writer store ends it."""
        with pytest.raises(log.Fenced):
            await batcher.submit_fact(item)
        with pytest.raises(log.Fenced):
            await running

    async def _look_back(self, pick: int, back: int) -> None:
        """At the accounts as they were, at entries, at a statement."""
        chosen = pick * 8 + back
        last = self.model.today - timedelta(pick % 3)
        account_id = self.model.accounts[pick % len(self.model.accounts)]
        period = Period(account_id, last - timedelta(back), last, bool(chosen % 2))
        await checks.check_then(self._reads, *self._past[-1 - chosen % len(self._past)])
        await checks.check_entries(self._reads, self.model, 1 + chosen % len(self.model.log))
        await checks.check_statement(self._reads, self.model, period)

    # --- what must hold

    @invariant()
    def all_is_as_the_model_says(self) -> None:
        self.run(self._check())

    async def _check(self) -> None:
        assert [tuple(row) for row in await self._pool.fetch(checks.BROKEN)] == []
        assert await checks.posted_after(self._pool, self._checked) == self.model.log[self._checked :]
        self._checked = len(self.model.log)
        await checks.check_accounts(self._reads, self.model)
        await checks.check_holds(self._reads, self.model, self.actor, self._clock.now_ns)
        then = {account_id: self.model.paths(account_id) for account_id in self.model.accounts}
        self._past += [
            (moment, self._checked, then) for moment in (Moment(self._checked), Moment(0, self._clock.now_ns))
        ]


def test_whatever_happens_the_ledger_is_what_the_model_says(cluster: Cluster) -> None:
    stage = Stage(cluster)
    try:
        run_state_machine_as_test(partial(LedgerMachine, stage), settings=PROFILE)  # type: ignore[arg-type]
    finally:
        stage.close()
