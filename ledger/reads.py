"""Queries of the ledger: accounts with balances at one position, open holds, entries, the log."""

from collections.abc import AsyncIterator, Sequence

from ledger.accounts import Account, Balance, Hold
from ledger.config import Config
from ledger.reasons import Reason, refuse
from ledger.writer import SQL, read_hold
from runtime import db, log, pages

START: pages.Key = (0, 0, 0)


class Reads:
    def __init__(self, pool: db.Pool, config: Config, bell: log.Bell) -> None:
        self._pool, self._config, self._bell = pool, config, bell

    async def account(self, account_id: str) -> tuple[Account, int]:
        """(account with balances, position of the log they stand at), in one snapshot. Refusal UNKNOWN_ACCOUNT."""
        rows = await self._pool.fetch(SQL.account_with_balances, account_id, self._config.partition)
        if not rows:
            raise refuse(Reason.UNKNOWN_ACCOUNT, f"there is no account {account_id}", account_id=account_id)
        account = Account(rows[0]["account_id"], rows[0]["customer_id"], rows[0]["opened_at_ns"])
        account.balances = {row["path"]: Balance(row["balance"], row["version"]) for row in rows if row["path"]}
        return account, rows[0]["position"] or 0

    async def hold(self, account_id: str, key: str) -> tuple[Hold, bytes]:
        """The hold made under `key`, and its trace id. Refusal UNKNOWN_HOLD if that key was refused, or never used."""
        row = await self._pool.fetchrow(SQL.hold_by_key, account_id, key)
        if row is None:
            raise refuse(Reason.UNKNOWN_HOLD, f"no hold was made under the key {key}", account_id=account_id, key=key)
        return read_hold(row), row["trace_id"]

    async def holds(self, before_ns: int, page_size: int, token: str) -> tuple[list[Hold], str]:
        limit, start = pages.size(page_size), pages.key("ListHolds", token, START)
        rows = await self._pool.fetch(SQL.list_holds, before_ns, *start, limit)
        return [read_hold(row) for row in rows], _next(
            "ListHolds", rows, limit, "created_at_ns", "log_partition", "position"
        )

    async def entries(self, account_id: str, order_id: str, page_size: int, token: str) -> tuple[Sequence[db.Row], str]:
        limit, start = pages.size(page_size), pages.key("ListEntries", token, START)
        rows = await self._pool.fetch(SQL.list_entries, account_id, order_id, *start, limit)
        return rows, _next("ListEntries", rows, limit, "log_partition", "position", "leg")

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


def _next(of: str, rows: Sequence[db.Row], limit: int, *columns: str) -> str:
    return pages.token(of, tuple(rows[-1][column] for column in columns)) if len(rows) == limit else ""
