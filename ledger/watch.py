"""What somebody must be told of at once: accounts that owe, dates that should have settled."""

import asyncio
import time
from datetime import date
from pathlib import Path

import structlog
from prometheus_client import Gauge

from ledger.config import Config
from ledger.planner import SQL as WRITER_SQL
from ledger.settle import due_date
from runtime import db

SQL = db.Queries(Path(__file__).parent / "sql" / "reconcile.sql")
POLL_SECONDS = 5.0

log = structlog.get_logger()
owing = Gauge("openbell_ledger_accounts_owing", "Accounts that owe: their holds and withdrawals are refused")
settlement_lag = Gauge("openbell_ledger_settlement_lag_days", "Days that have come and are not settled")


async def run(pool: db.Pool, config: Config) -> None:
    """For ever."""
    before = 0
    while True:
        try:
            before = await look(pool, config, before)
        except db.UNREACHABLE as problem:
            log.warning("watch put off", problem=repr(problem))
        await asyncio.sleep(POLL_SECONDS)


async def look(pool: db.Pool, config: Config, before: int) -> int:
    """Sets the gauges. Returns how many accounts owe; an error in the log if they are more than `before`."""
    found = await pool.fetchrow(SQL.owing)
    assert found is not None
    owing.set(found["accounts"])
    if found["accounts"] > before:
        log.error("accounts owe", accounts=found["accounts"], examples=found["examples"])
    through = await pool.fetchval(WRITER_SQL.settled_through, config.partition)
    settlement_lag.set(lag_days(due_date(time.time_ns(), config.settlement_hour), through))
    return int(found["accounts"])


def lag_days(due: date, settled_through: date | None) -> int:
    """Calendar days; 0 while nothing has ever settled."""
    return max((due - settled_through).days, 0) if settled_through else 0
