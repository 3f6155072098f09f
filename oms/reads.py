"""Queries of the OMS: one order, an account's orders, the log."""

from collections.abc import AsyncIterator, Sequence

from oms.config import Config
from oms.orders import Order
from oms.reasons import Reason, refuse
from oms.writer import SQL, read_order
from runtime import db, log, pages
from runtime.auth import Caller

NEWEST = (2**63 - 1,)


class Reads:
    def __init__(self, pool: db.Pool, config: Config, bell: log.Bell) -> None:
        self._pool, self._config, self._bell = pool, config, bell

    async def order(self, order_id: str, caller: Caller) -> Order:
        """Refusal UNKNOWN_ORDER also for another customer's: it does not exist for this caller."""
        row = await self._pool.fetchrow(SQL.order, order_id)
        if row is None or not caller.may_use(row["customer_id"]):
            raise refuse(Reason.UNKNOWN_ORDER, f"there is no order {order_id}", order_id=order_id)
        return read_order(row)

    async def orders(self, account_id: str, page_size: int, token: str) -> tuple[list[Order], str]:
        """Newest first, and the token of the next page."""
        limit, (before,) = pages.size(page_size), pages.key("ListOrders", token, NEWEST)
        rows = await self._pool.fetch(SQL.list_orders, account_id, before, limit)
        following = pages.token("ListOrders", (rows[-1]["accepted_position"],)) if len(rows) == limit else ""
        return [read_order(row) for row in rows], following

    def tail(self, after: int) -> AsyncIterator[Sequence[db.Row]]:
        """The order log from the row after `after`, for ever."""

        async def read(after: int, limit: int) -> Sequence[db.Row]:
            rows: Sequence[db.Row] = await self._pool.fetch(SQL.read_log, self._config.partition, after, limit)
            return rows

        return log.tail(self._bell, read, after)
