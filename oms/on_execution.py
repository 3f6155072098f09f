"""Rows of the execution log, as what moves orders."""

from oms.orders import Event
from oms.writer import Execution
from openbell.ems.v1 import ems_pb2


def decode(row: ems_pb2.Execution) -> Execution:
    """ValueError for a kind this OMS has no rule for: the log stops."""
    fills = row.kind == ems_pb2.EXECUTION_KIND_FILL
    return Execution(
        row.position,
        row.execution_id,
        Event(row.kind),
        row.order_id,
        row.last_shares if fills else 0,
        row.last_price if fills else 0,
        row.text,
    )
