"""Queries of the ledger: accounts now and then, open holds, entries, statements, the log.

What one answer shows is of one moment: it comes from one statement, or it is bounded by a committed position of the
log, up to which nothing changes any more.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import NamedTuple

from ledger.accounts import Account, Balance, Hold
from ledger.config import Config
from ledger.reasons import Reason, refuse
from ledger.rows import read_hold
from ledger.writer import TRANSACTIONS
from runtime import calendar, chain, db, log, pages

SQL = db.Queries(Path(__file__).parent / "sql" / "reads.sql")
FIRST_HOLD: pages.Key = (0, 0, 0)
FIRST_ENTRY: pages.Key = (0, 0)
FIRST_OF_STATEMENT: pages.Key = (0, 0, 0, 0)
LAST_POSITION = 2**63 - 1
LAST_LEG = 2**15 - 1


class Moment(NamedTuple):
    """A state of the log: after `position`, or what the instant `ns` saw. Zero is not given; both zero: now."""

    position: int = 0
    ns: int = 0


NOW = Moment()


class Standing(NamedTuple):
    """An account with its balances and open holds, and the position of the log they stand at."""

    account: Account
    position: int
    holds: list[Hold]


class Filters(NamedTuple):
    """Which entries, combined with AND; what is empty or zero is not asked for. At least one is."""

    account_id: str = ""
    order_id: str = ""
    execution_id: str = ""
    position: int = 0  # of the transaction
    trace_id: str = ""  # hex


class Period(NamedTuple):
    """New York days, both inclusive: of recording, or effective dates."""

    account_id: str
    first: date
    last: date
    effective: bool


class Statement(NamedTuple):
    """`lines` have path, asset, opening, closing; `entries` are one page."""

    lines: Sequence[db.Row]
    entries: Sequence[db.Row]
    next_page_token: str
    as_of_position: int


# The narrowest filter chooses the statement; an account alone has one of its own.
BY_FILTER = (
    ("position", SQL.entries_of_transaction),
    ("execution_id", SQL.entries_of_execution),
    ("order_id", SQL.entries_of_order),
    ("trace_id", SQL.entries_of_trace),
)


class Reads:
    def __init__(self, pool: db.Pool, config: Config, bell: log.Bell) -> None:
        self._pool, self._config, self._bell = pool, config, bell

    # --- accounts

    async def owner(self, account_id: str) -> Account:
        """The account without its balances. Refusal UNKNOWN_ACCOUNT."""
        row = await self._pool.fetchrow(SQL.owner, account_id)
        if row is None:
            raise _unknown(account_id)
        return _account(row)

    async def account(self, account_id: str, moment: Moment = NOW) -> tuple[Account, int]:
        """(account with balances, position of the log they stand at). Refusal UNKNOWN_ACCOUNT, INVALID_FILTER."""
        if moment != NOW:
            return await self._account_then(account_id, moment)
        rows = await self._pool.fetch(SQL.account_with_balances, account_id, self._config.partition)
        if not rows:
            raise _unknown(account_id)
        account = _account(rows[0])
        account.balances = _balances([row for row in rows if row["path"]])
        return account, rows[0]["position"] or 0

    async def standing(self, account_id: str) -> Standing:
        """Now, in one snapshot. Refusal UNKNOWN_ACCOUNT."""
        row = await self._pool.fetchrow(SQL.standing, account_id, self._config.partition)
        if row is None:
            raise _unknown(account_id)
        account = _account(row)
        account.balances = _balances(row["balances"])
        return Standing(account, row["position"], [read_hold(hold) for hold in row["holds"]])

    async def _account_then(self, account_id: str, moment: Moment) -> tuple[Account, int]:
        account = await self.owner(account_id)
        position = await self._position_of(moment)
        account.balances = _balances(await self._pool.fetch(SQL.balances_at, account_id, position))
        return account, position

    async def _position_of(self, moment: Moment) -> int:
        if moment.ns:
            return await self._position_at(moment.ns)
        head = await self._head()
        if moment.position > head:
            raise refuse(
                Reason.INVALID_FILTER,
                f"as_of_position {moment.position} is beyond the log's end, {head}; leave it out for now",
                field="as_of_position",
            )
        return moment.position

    async def _head(self) -> int:
        return int(await self._pool.fetchval(SQL.head, self._config.partition))

    async def _position_at(self, ns: int) -> int:
        """Of what is committed: a batch under way may be dated milliseconds before now, and is not in it yet."""
        return int(await self._pool.fetchval(chain.SQL.position_at, TRANSACTIONS, self._config.partition, ns))

    # --- holds

    async def hold(self, account_id: str, key: str) -> tuple[Hold, bytes]:
        """The hold made under `key`, and its trace id. Refusal UNKNOWN_HOLD if that key was refused, or never used."""
        row = await self._pool.fetchrow(SQL.hold_by_key, account_id, key)
        if row is None:
            raise refuse(Reason.UNKNOWN_HOLD, f"no hold was made under the key {key}", account_id=account_id, key=key)
        return read_hold(row), row["trace_id"]

    async def holds(self, before_ns: int, page_size: int, token: str) -> tuple[list[Hold], str]:
        """Open holds, oldest first, and the token of the next page."""
        limit, start = pages.size(page_size), pages.key("ListHolds", token, FIRST_HOLD)
        rows = await self._pool.fetch(SQL.list_holds, before_ns, *start, limit + 1)
        following = _following("ListHolds", rows, limit, "created_at_ns", "log_partition", "position")
        return [read_hold(row) for row in rows[:limit]], following

    # --- entries

    async def entries(self, asked: Filters, page_size: int, token: str) -> tuple[Sequence[db.Row], str]:
        """Oldest first, and the token of the next page."""
        of = "ListEntries of " + ", ".join(f"{name} {value}" for name, value in asked._asdict().items() if value)
        limit, start = pages.size(page_size), pages.key(of, token, FIRST_ENTRY)
        rows = await self._entries(asked, start, limit + 1)
        return rows[:limit], _following(of, rows, limit, "position", "leg")

    async def _entries(self, asked: Filters, start: pages.Key, limit: int) -> Sequence[db.Row]:
        statement = next((statement for name, statement in BY_FILTER if getattr(asked, name)), None)
        if statement is None:
            return await self._entries_between(asked.account_id, start, LAST_POSITION, limit)
        async with (
            self._pool.acquire(timeout=db.ACQUIRE_SECONDS) as connection,
            connection.transaction(readonly=True),
        ):
            await connection.execute(SQL.by_index)
            rows: Sequence[db.Row] = await connection.fetch(statement, self._config.partition, *start, limit, *asked)
        return rows

    async def _entries_between(self, account_id: str, after: pages.Key, through: int, limit: int) -> Sequence[db.Row]:
        """`after`: position and leg; `through`: a position."""
        rows: Sequence[db.Row] = await self._pool.fetch(SQL.entries_of_account, account_id, *after, through, limit)
        return rows

    # --- statements

    async def statement(self, period: Period, page_size: int, token: str) -> Statement:
        """A page, with the balances before and after the whole period."""
        basis = "EFFECTIVE" if period.effective else "RECORDED"
        of = f"GetStatement of {period.account_id}, {period.first} to {period.last}, {basis}"
        limit, start = pages.size(page_size), pages.key(of, token, FIRST_OF_STATEMENT)
        if period.effective:
            return await self._by_effective_date(period, of, start, limit)
        return await self._by_recording(period, of, start, limit)

    async def _by_recording(self, period: Period, of: str, start: pages.Key, limit: int) -> Statement:
        """The token holds the positions before and at the end of the period, and those of the last entry shown."""
        before, through, *after = start if start != FIRST_OF_STATEMENT else await self._recorded_bounds(period)
        lines = await self._pool.fetch(SQL.recorded_lines, period.account_id, before, through)
        rows = await self._entries_between(period.account_id, tuple(after), int(through), limit + 1)
        following = _following(of, rows, limit, "position", "leg", bounds=(before, through))
        return Statement(lines, rows[:limit], following, int(through))

    async def _recorded_bounds(self, period: Period) -> pages.Key:
        """The last position first: while the period has not ended the log goes on, and the first must not pass it."""
        through = await self._position_at(_midnight_ns(period.last + timedelta(1)) - 1)
        before = min(through, await self._position_at(_midnight_ns(period.first) - 1))
        return before, through, before, LAST_LEG

    async def _by_effective_date(self, period: Period, of: str, start: pages.Key, limit: int) -> Statement:
        """The token holds the position as of which it is told, and day, position and leg of the last entry shown."""
        account_id, first, last, _ = period
        if start == FIRST_OF_STATEMENT:
            start = (await self._head(), 0, 0, 0)
        through, *after = start
        lines = await self._pool.fetch(SQL.effective_lines, account_id, through, first, last)
        rows = await self._pool.fetch(SQL.effective_entries, account_id, through, first, last, *after, limit + 1)
        following = _following(of, rows, limit, "effective_day", "position", "leg", bounds=(through,))
        return Statement(lines, rows[:limit], following, int(through))

    # --- the log

    async def tail(self, after: int) -> AsyncIterator[list[tuple[db.Row, list[db.Row]]]]:
        """Transactions with their entries, from the row after `after`, for ever."""

        async def read(after: int, limit: int) -> Sequence[db.Row]:
            rows: Sequence[db.Row] = await self._pool.fetch(SQL.read_transactions, self._config.partition, after, limit)
            return rows

        async for rows in log.tail(self._bell, read, after):
            yield await self._with_entries(rows)

    async def _with_entries(self, rows: Sequence[db.Row]) -> list[tuple[db.Row, list[db.Row]]]:
        legs: dict[int, list[db.Row]] = {row["position"]: [] for row in rows}
        first, last = rows[0]["position"], rows[-1]["position"]
        for leg in await self._pool.fetch(SQL.read_entries, self._config.partition, first, last):
            legs[leg["position"]].append(leg)
        return [(row, legs[row["position"]]) for row in rows]


def _unknown(account_id: str) -> Exception:
    return refuse(Reason.UNKNOWN_ACCOUNT, f"there is no account {account_id}", account_id=account_id)


def _account(row: db.Row) -> Account:
    return Account(row["account_id"], row["customer_id"], row["opened_at_ns"])


def _balances(rows: Sequence[db.Row]) -> dict[str, Balance]:
    return {row["path"]: Balance(row["balance"], row["version"]) for row in rows}


def _midnight_ns(day: date) -> int:
    """When the day begins in New York."""
    return int(datetime.combine(day, time(), calendar.NEW_YORK).timestamp()) * 1_000_000_000


def _following(of: str, rows: Sequence[db.Row], limit: int, *columns: str, bounds: pages.Key = ()) -> str:
    """The next page's token, if `rows`, of which one more than the page was asked for, go on."""
    if len(rows) <= limit:
        return ""
    return pages.token(of, (*bounds, *(rows[limit - 1][column] for column in columns)))
