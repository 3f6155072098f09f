"""The OMS's domain to its wire messages."""

import json

from oms.orders import Ask, Order, Status
from openbell.fix.v1 import fix_pb2
from openbell.oms.v1 import oms_pb2 as pb
from runtime.db import Row


def order(found: Order) -> pb.Order:
    return pb.Order(
        order_id=found.order_id,
        status=fix_pb2.OrdStatus.ValueType(found.status),
        reason=found.reason,
        cum_quantity=found.cum_quantity,
        leaves_quantity=found.leaves_quantity,
        filled_value=found.filled_value,
        accepted_at_ns=found.accepted_at_ns,
        updated_at_ns=found.updated_at_ns,
        trace_id=found.trace_id.hex(),
        **{name: getattr(found.ask, name) for name in Ask.__slots__},
    )


def event(row: Row) -> pb.OrderEvent:
    """A row of the order log, with the order as it stood then. A refusal has only what was asked, and the reason."""
    asked = json.loads(row["asked"]) if row["asked"] else {name: row[name] for name in Ask.__slots__}
    then = pb.Order(
        order_id=row["order_id"] or "",
        status=row["status"],
        reason=row["reason"],
        cum_quantity=row["cum_quantity"],
        filled_value=row["filled_value"],
        accepted_at_ns=row["accepted_at_ns"] or 0,
        updated_at_ns=row["at_ns"],
        trace_id=(row["trace_id"] or b"").hex(),
        **asked,
    )
    if row["status"] in (Status.PENDING_NEW, Status.NEW, Status.PARTIALLY_FILLED):
        then.leaves_quantity = then.quantity - then.cum_quantity
    return pb.OrderEvent(
        position=row["position"],
        at_ns=row["at_ns"],
        kind=row["kind"],
        order=then,
        execution_id=row["execution_id"] or "",
    )
