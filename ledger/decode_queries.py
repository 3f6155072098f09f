"""Wire messages of queries to what is asked: what cannot be meant is refused, with the way out."""

import re

from ledger.book import day, position
from ledger.reads import Filters, Moment, Period
from ledger.reasons import Reason, refuse
from openbell.ledger.v1 import ledger_pb2 as pb
from runtime import ids
from runtime.errors import Refusal

STATEMENT_DAYS_MAX = 3_653  # ten years
TRACE_ID = re.compile("[0-9a-f]{32}")


def moment(asked: pb.GetBalancesRequest | pb.GetPositionsRequest, now_ns: int) -> Moment:
    """Refusal INVALID_FILTER. Whether the log reaches that far is not known here."""
    at, ns = asked.as_of_position, asked.as_of_ns
    if at and ns:
        raise _invalid("as_of_ns", "give as_of_position or as_of_ns, not both")
    if at < 0:
        raise _invalid("as_of_position", f"as_of_position {at} is negative; the log's positions count from 1")
    if ns < 0:
        raise _invalid("as_of_ns", f"as_of_ns {ns} is before 1970")
    if ns > now_ns:
        raise _invalid("as_of_ns", f"as_of_ns {ns} has not come: it is {now_ns}; leave it out for now")
    return Moment(at, ns)


def filters(asked: pb.ListEntriesRequest, partition: int) -> Filters:
    """Refusal MISSING_FILTER, INVALID_FILTER. A transaction of another partition's log has no entries here."""
    if asked.trace_id and not TRACE_ID.fullmatch(asked.trace_id):
        raise _invalid("trace_id", f"trace_id {asked.trace_id!r} is not 32 hex digits in lower case")
    if asked.execution_id:
        _check_id("execution_id", asked.execution_id, "exe")
    of_transaction = 0
    if asked.transaction_id:
        _check_id("transaction_id", asked.transaction_id, "txn")
        of_transaction = position(partition, "txn", asked.transaction_id)
    found = Filters(asked.account_id, asked.order_id, asked.execution_id, of_transaction, asked.trace_id)
    if found == Filters():
        raise refuse(
            Reason.MISSING_FILTER, "give one at least of account_id, order_id, execution_id, transaction_id, trace_id"
        )
    return found


def period(asked: pb.GetStatementRequest) -> Period:
    """Refusal INVALID_DATE, INVALID_FILTER."""
    first, last = day(asked.from_date, "from_date"), day(asked.to_date, "to_date")
    if first > last:
        raise refuse(Reason.INVALID_DATE, f"from_date {first} is after to_date {last}", field="from_date")
    if (last - first).days >= STATEMENT_DAYS_MAX:
        raise refuse(Reason.INVALID_DATE, f"{first} to {last} is more than ten years: ask in parts", field="from_date")
    if asked.basis not in pb.StatementBasis.values():
        raise _invalid("basis", f"basis {asked.basis} is neither RECORDED nor EFFECTIVE")
    effective = asked.basis == pb.STATEMENT_BASIS_EFFECTIVE
    if effective and asked.account_id.startswith("house/"):
        # Every transaction has an entry there: no index leads to those of a date.
        raise _invalid("basis", "statements of the house are by recording; its entries tell their effective dates")
    return Period(asked.account_id, first, last, effective)


def _check_id(field: str, text: str, prefix: str) -> None:
    """As runtime/ids.py writes them: typed prefix, partition, position of at least 12 digits."""
    try:
        place = ids.place(text)
    except ValueError:
        place = (0, 0)
    if not place[1] or text != f"{prefix}_{place[0]}_{place[1]:012d}":
        raise _invalid(field, f"{field} {text!r} is not an id like {prefix}_0_000000000007")


def _invalid(field: str, message: str) -> Refusal:
    return refuse(Reason.INVALID_FILTER, message, field=field)
