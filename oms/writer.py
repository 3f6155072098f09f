"""The writer of an OMS partition: orders, answers, log rows and cursors, one transaction a batch."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import Counter

from oms.orders import Ask, Done, Event, Order, OrdType, Pending, Side, Status, TimeInForce, contradicts, move
from oms.reasons import Reason, refuse
from openbell.oms.v1 import oms_pb2 as pb
from runtime import crash, db, executions, log
from runtime.errors import Refusal, Unknown
from runtime.writer import FencedWriter, columns

SQL = db.Queries(Path(__file__).parent / "sql" / "queries.sql")
ORDERS = "orders"

events = structlog.get_logger()
contradictions = Counter("openbell_late_executions_total", "Fills and ends told of an order that had ended")


@dataclass(frozen=True, slots=True)
class Accept:
    """An order whose hold is committed."""

    order: Order
    request_hash: bytes


@dataclass(frozen=True, slots=True)
class Refuse:
    """A refusal to be the stored answer."""

    ask: Ask
    refusal: Refusal
    request_hash: bytes


@dataclass(frozen=True, slots=True)
class Recall:
    """The stored answer to a key, if there is one."""

    ask: Ask
    request_hash: bytes


@dataclass(frozen=True, slots=True)
class Abandon:
    """Never make an order of this id: its hold is to be released. Answered with whether it was still free."""

    order_id: str


@dataclass(frozen=True, slots=True)
class Execution:
    """What the OMS needs of one row of the execution log."""

    position: int
    execution_id: str
    event: Event
    order_id: str
    quantity: int
    price: int
    text: str


@dataclass(frozen=True, slots=True)
class Facts:
    """Rows of one partition of the execution log, after the cursor `before`."""

    partition: int
    before: int
    executions: Sequence[Execution]


Item = Accept | Refuse | Recall | Abandon | Facts
Answer = Order | bool | None
# (account, client's id) -> (request hash, order id or refusal)
Keys = dict[tuple[str, str], tuple[bytes, str | Refusal]]


@dataclass(slots=True)
class Batch:
    """What one transaction will insert and move."""

    orders: list[tuple[Any, ...]] = field(default_factory=list)
    answers: list[tuple[Any, ...]] = field(default_factory=list)
    log: list[tuple[Any, ...]] = field(default_factory=list)
    moved: dict[str, Order] = field(default_factory=dict)
    abandoned: list[tuple[Any, ...]] = field(default_factory=list)
    cursors: list[tuple[int, int, int]] = field(default_factory=list)


class Writer(FencedWriter[Item, Answer]):
    """Remembers the orders that are not done."""

    def __init__(self, pool: db.Pool, partition: int, bell: log.Bell) -> None:
        super().__init__(pool, ORDERS, partition, bell)
        self._orders: dict[str, Order] = {}

    def forget(self) -> None:
        self._orders = {}

    async def write(
        self, connection: db.Connection, head: log.Head, items: Sequence[Item]
    ) -> Sequence[Answer | Exception]:
        keys = await self._keys(connection, items)
        await self._load(connection, items, keys)
        abandoned = await self._abandoned(connection, items)
        batch = Batch()
        answers = [self._decide(item, batch, keys, abandoned, head) for item in items]
        if batch.log or batch.answers or batch.abandoned or batch.cursors:
            await self._store(connection, head, batch)
        for order_id in self._named(items, keys):
            if (order := self._orders.get(order_id)) is not None and order.done:
                del self._orders[order_id]
        return answers

    def _named(self, items: Sequence[Item], keys: Keys) -> set[str]:
        """Orders that the batch looked at."""
        moved = {execution.order_id for item in items if isinstance(item, Facts) for execution in item.executions}
        return moved | {answer for _, answer in keys.values() if isinstance(answer, str)}

    def committed(self, items: Sequence[Item]) -> None:
        if any(isinstance(item, Accept) for item in items):
            crash.point("oms.order_committed")
        if any(isinstance(item, Facts) for item in items):
            crash.point("oms.cursor_moved")

    # --- what the batch needs

    async def _keys(self, connection: db.Connection, items: Sequence[Item]) -> Keys:
        asks = [_ask(item) for item in items if isinstance(item, Accept | Refuse | Recall)]
        if not asks:
            return {}
        rows = await connection.fetch(
            SQL.answers, [ask.account_id for ask in asks], [ask.client_order_id for ask in asks]
        )
        return {
            (row["account_id"], row["client_order_id"]): (row["request_hash"], row["order_id"] or stored_refusal(row))
            for row in rows
        }

    async def _load(self, connection: db.Connection, items: Sequence[Item], keys: Keys) -> None:
        missing = self._named(items, keys) - self._orders.keys()
        if missing:
            for row in await connection.fetch(SQL.orders, list(missing)):
                self._orders[row["order_id"]] = read_order(row)

    async def _abandoned(self, connection: db.Connection, items: Sequence[Item]) -> dict[str, bool]:
        """Order id -> abandoned (True) or an order already (False), for those that are either."""
        wanted = [item.order_id for item in items if isinstance(item, Abandon)]
        wanted += [item.order.order_id for item in items if isinstance(item, Accept)]
        if not wanted:
            return {}
        given_up = {row["order_id"]: True for row in await connection.fetch(SQL.abandoned, wanted)}
        if any(isinstance(item, Abandon) for item in items):
            return given_up | {row["order_id"]: False for row in await connection.fetch(SQL.existing, wanted)}
        return given_up

    # --- decisions

    def _decide(
        self, item: Item, batch: Batch, keys: Keys, abandoned: dict[str, bool], head: log.Head
    ) -> Answer | Exception:
        if isinstance(item, Facts):
            self._apply(item, batch)
            return None
        if isinstance(item, Abandon):
            return _abandon(item, batch, abandoned)
        key = _ask(item).account_id, _ask(item).client_order_id
        if key in keys:
            return self._known(item.request_hash, *keys[key])
        if isinstance(item, Recall):
            return None
        if isinstance(item, Refuse):
            keys[key] = (item.request_hash, item.refusal)
            batch.answers.append((*key, item.request_hash, None, _refusal_json(item.refusal), time.time_ns()))
            batch.log.append(_refused_row(item))
            return item.refusal
        if abandoned.get(item.order.order_id):
            return Unknown("the order took too long and its hold is given up; ask again with the same key")
        return self._accept(item, batch, keys, abandoned, head)

    def _known(self, request_hash: bytes, stored_hash: bytes, answer: str | Refusal) -> Answer | Exception:
        if request_hash != stored_hash:
            return refuse(Reason.KEY_REUSED, "client_order_id was used for another order")
        return self._orders[answer] if isinstance(answer, str) else answer

    def _accept(self, item: Accept, batch: Batch, keys: Keys, abandoned: dict[str, bool], head: log.Head) -> Order:
        now_ns = time.time_ns()
        order = replace(item.order, accepted_at_ns=now_ns, updated_at_ns=now_ns)
        key = order.ask.account_id, order.ask.client_order_id
        keys[key] = (item.request_hash, order.order_id)
        abandoned[order.order_id] = False
        self._orders[order.order_id] = order
        batch.log.append(_log_row(order, pb.ORDER_EVENT_KIND_ACCEPTED, None))
        batch.orders.append(_order_row(order, head.partition, head.position + len(batch.log)))
        batch.answers.append((*key, item.request_hash, order.order_id, None, now_ns))
        return order

    def _apply(self, facts: Facts, batch: Batch) -> None:
        for execution in facts.executions:
            before = self._orders[execution.order_id]
            if contradicts(before, execution.event):
                contradictions.inc()
                events.warning("late execution", order_id=before.order_id, execution_id=execution.execution_id)
            order = move(
                before,
                execution.event,
                execution.quantity,
                execution.price,
                execution.text,
                time.time_ns(),
            )
            self._orders[order.order_id] = batch.moved[order.order_id] = order
            batch.log.append(_log_row(order, pb.ORDER_EVENT_KIND_EXECUTION, execution.execution_id))
        batch.cursors.append((facts.partition, facts.before, facts.before + len(facts.executions)))

    # --- one transaction

    async def _store(self, connection: db.Connection, head: log.Head, batch: Batch) -> None:
        async with connection.transaction():
            await log.advance(connection, head, len(batch.log))
            for partition, before, after in batch.cursors:
                await log.move_cursor(connection, executions.SOURCE, partition, before, after)
            if batch.orders:
                await connection.execute(SQL.insert_orders, *columns(batch.orders))
            if batch.answers:
                await connection.execute(SQL.insert_answers, *columns(batch.answers))
            if batch.abandoned:
                await connection.execute(SQL.insert_abandoned, *columns(batch.abandoned))
            if batch.moved:
                await connection.execute(SQL.move_orders, *columns([_moved_row(o) for o in batch.moved.values()]))
            if batch.log:
                numbered = [(head.position + number, *row) for number, row in enumerate(batch.log, 1)]
                await connection.execute(SQL.insert_log, head.partition, *columns(numbered))
        head.position += len(batch.log)


def _abandon(item: Abandon, batch: Batch, abandoned: dict[str, bool]) -> bool:
    fate = abandoned.get(item.order_id)
    if fate is None:
        abandoned[item.order_id] = True
        batch.abandoned.append((item.order_id, time.time_ns()))
    return fate is not False


def _ask(item: Accept | Refuse | Recall) -> Ask:
    return item.order.ask if isinstance(item, Accept) else item.ask


def stored_refusal(row: db.Row) -> Refusal:
    told = json.loads(row["refusal"])
    return refuse(Reason(told["reason"]), told["message"], **told["metadata"])


def _refusal_json(refusal: Refusal) -> str:
    return json.dumps({"reason": refusal.reason, "message": refusal.message, "metadata": refusal.metadata})


def read_order(row: db.Row) -> Order:
    ask = Ask(
        row["account_id"],
        row["client_order_id"],
        row["symbol"],
        Side(row["side"]),
        OrdType(row["ord_type"]),
        row["quantity"],
        row["limit_price"],
        TimeInForce(row["time_in_force"]),
    )
    return Order(
        row["order_id"],
        row["customer_id"],
        ask,
        row["route_price"],
        row["hold_id"],
        row["received_at_ns"],
        row["accepted_at_ns"],
        row["trace_id"],
        row["span_id"],
        row["parent_span_id"],
        Done(row["done"]),
        Pending(row["pending"]),
        row["reason"],
        row["cum_quantity"],
        row["filled_value"],
        row["updated_at_ns"],
    )


def _order_row(order: Order, partition: int, position: int) -> tuple[Any, ...]:
    ask = order.ask
    return (
        order.order_id,
        partition,
        position,
        order.customer_id,
        ask.account_id,
        ask.client_order_id,
        ask.symbol,
        ask.side,
        ask.ord_type,
        ask.time_in_force,
        ask.quantity,
        ask.limit_price,
        order.route_price,
        order.hold_id,
        order.received_at_ns,
        order.accepted_at_ns,
        order.trace_id,
        order.span_id,
        order.parent_span_id,
        order.pending,
        order.status,
        order.updated_at_ns,
    )


def _moved_row(order: Order) -> tuple[Any, ...]:
    return (
        order.order_id,
        order.done,
        order.pending,
        order.status,
        order.reason,
        order.cum_quantity,
        order.filled_value,
        order.updated_at_ns,
    )


def _log_row(order: Order, kind: int, execution_id: str | None) -> tuple[Any, ...]:
    return (
        order.updated_at_ns,
        kind,
        order.order_id,
        order.status,
        order.reason,
        order.cum_quantity,
        order.filled_value,
        execution_id,
        None,
    )


def _refused_row(item: Refuse) -> tuple[Any, ...]:
    ask = item.ask
    asked = {name: getattr(ask, name) for name in Ask.__slots__}
    return (
        time.time_ns(),
        pb.ORDER_EVENT_KIND_REFUSED,
        None,
        Status.REJECTED,
        item.refusal.reason,
        0,
        0,
        None,
        json.dumps(asked),
    )
