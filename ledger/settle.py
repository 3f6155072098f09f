"""Settlement: on each settlement day every date that has come is settled."""

import asyncio
import secrets
import time
from datetime import date, timedelta
from pathlib import Path

import structlog
from prometheus_client import Gauge

from ledger.accounts import UNSETTLED
from ledger.config import Config
from ledger.planner import Item, SettleCash, SettleDates
from openbell.ledger.v1 import ledger_pb2 as pb
from runtime import calendar, db
from runtime.batch import Batcher

SQL = db.Queries(Path(__file__).parent / "sql" / "reconcile.sql")
CHUNK = 500  # accounts in one commit
POLL_SECONDS = 30.0

log = structlog.get_logger()
failing = Gauge("openbell_ledger_settlement_failing", "1 while a settlement that is due cannot be done")


class Settler:
    """Where a kill hurts: the dates are settled first, in one commit, and from then on nothing is credited to them.
    What accounts still have there is moved in chunks, and whoever comes next moves the rest.
    """

    def __init__(self, pool: db.Pool, writer: Batcher[Item, bytes], config: Config) -> None:
        self._pool, self._writer, self._config = pool, writer, config
        self._clean_through = date.min  # no account has anything left of the dates up to here
        self.under_way = asyncio.Lock()  # while it is held, cash of settled dates may still be unsettled
        self.tried = asyncio.Event()  # what an earlier process left has been settled, or could not be

    async def settle(self, through: date) -> pb.SettleResponse:
        """Settles every date up to `through`, and finishes what an earlier settlement left."""
        async with self.under_way:
            trace_id, now_ns = secrets.token_bytes(16), time.time_ns()
            answer = await self._submit(SettleDates(through, trace_id, now_ns))
            settled, after = set(answer.settled), (_first_path(self._clean_through), "")
            while rows := await self._pool.fetch(SQL.unsettled, through.isoformat(), *after, CHUNK):
                chunk = [(row["account_id"], row["path"]) for row in rows]
                moved = await self._submit(SettleCash(chunk, trace_id, now_ns))
                answer.transactions += moved.transactions
                settled |= {path[-10:] for _, path in chunk}
                after = rows[-1]["path"], rows[-1]["account_id"]
            self._clean_through = max(through, self._clean_through)
            return pb.SettleResponse(settled=sorted(settled), transactions=answer.transactions)

    async def _submit(self, item: SettleDates | SettleCash) -> pb.SettleResponse:
        return pb.SettleResponse.FromString(await self._writer.submit_fact(item))

    async def run(self) -> None:
        """For ever: settles once a day has come to its hour; at once if that was missed."""
        done = date.min
        while True:
            due = due_date(time.time_ns(), self._config.settlement_hour)
            if due > done:
                try:
                    _report(await self.settle(due))
                    done = due
                except Exception as problem:  # noqa: BLE001  tried again: what was settled stays settled
                    _alarm(due, problem)
                self.tried.set()
            await asyncio.sleep(POLL_SECONDS)


def _first_path(clean_through: date) -> str:
    """Where the first date comes that may have something left."""
    return UNSETTLED if clean_through == date.min else f"{UNSETTLED}{clean_through + timedelta(1)}"


def _report(answer: pb.SettleResponse) -> None:
    failing.set(0)
    if answer.settled:
        log.info("settled", dates=list(answer.settled), transactions=answer.transactions)


def _alarm(due: date, problem: Exception) -> None:
    failing.set(1)
    log.error("settlement failed", through=due.isoformat(), exc_info=problem)


def due_date(now_ns: int, hour: int) -> date:
    """The newest date whose settlement has begun: today from `hour` on in New York, before that yesterday."""
    here = calendar.new_york(now_ns)
    return here.date() if here.hour >= hour else here.date() - timedelta(1)
