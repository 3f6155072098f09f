"""What must have been posted for a row of the execution log, pure, and where that which was posted differs."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ledger.accounts import Kind
from ledger.on_execution import Execution, Unreferenced, trade_name
from ledger.trades import Traded
from runtime.units import to_decimal


class Posted(NamedTuple):
    """A trade, bust or correction as its entries have it."""

    execution_id: str
    position: int
    kind: Kind
    order_id: str
    reverses: int | None
    accounts: tuple[str, ...]  # customers'
    symbols: tuple[str, ...]
    shares: int  # of the street leg
    value: int  # of the clearing leg


class Expected(NamedTuple):
    kind: Kind
    shares: int
    value: int
    reverses: int | None = None


class Mismatch(NamedTuple):
    """openbell.ledger.v1.Mismatch."""

    what: str
    execution_id: str
    path: str
    expected: str
    posted: str


def compare(execution: Execution, posted: Sequence[Posted], of_order: Mapping[str, Traded]) -> list[Mismatch]:
    """Nothing if what is `posted` for the execution is right. `of_order`: the order's trades, for what reverses one."""
    try:
        expected = _expected(execution, of_order)
    except Unreferenced:
        return [Mismatch("reference", execution.execution_id, "", execution.exec_ref_id, "no such trade")]
    kinds, found = [sorted(each.kind for each in several) for several in (expected, posted)]
    if kinds != found:
        return [Mismatch("transactions", execution.execution_id, "", _names(kinds), _names(found))]
    return [
        mismatch
        for want, have in zip(sorted(expected), sorted(posted, key=lambda each: each.kind), strict=True)
        for mismatch in _differences(execution, want, have)
    ]


def _expected(execution: Execution, of_order: Mapping[str, Traded]) -> list[Expected]:
    sign = 1 if execution.buys else -1
    value = execution.quantity * execution.price
    traded = Expected(Kind.TRADE, -sign * execution.quantity, sign * value)
    if execution.reverses is None:
        return [traded] if execution.fills else []
    undone = _undone(execution, of_order)
    if execution.reverses == Kind.BUST and undone.undone_by not in (None, execution.exec_id):
        return []  # it was busted before
    trade = undone.trade
    sign = 1 if trade.buys else -1
    undo = Expected(execution.reverses, sign * trade.quantity, -sign * trade.value, undone.position)
    return [undo, traded] if execution.reverses == Kind.CORRECTION else [undo]


def _undone(execution: Execution, of_order: Mapping[str, Traded]) -> Traded:
    """The trade that a bust or correction undid, or should have. Unreferenced if there is none."""
    found = of_order.get(trade_name(execution.execution_id, execution.exec_ref_id))
    while found is not None and found.corrected and found.undone_by != execution.exec_id:
        found = of_order.get(trade_name(execution.execution_id, found.undone_by or ""))
    if found is None:
        raise Unreferenced(execution.execution_id)
    return found


def _differences(execution: Execution, want: Expected, have: Posted) -> list[Mismatch]:
    street = f"street/{execution.symbol}"
    facts = (
        ("account", "", execution.account_id, " ".join(sorted(set(have.accounts)))),
        ("order", "", execution.order_id, have.order_id),
        ("symbol", street, execution.symbol, " ".join(have.symbols)),
        ("shares", street, str(want.shares), str(have.shares)),
        ("value", "clearing", to_decimal(want.value), to_decimal(have.value)),
        ("reverses", "", str(want.reverses), str(have.reverses)),
    )
    return [
        Mismatch(f"{want.kind.name.lower()}: {what}", execution.execution_id, path, expected, posted)
        for what, path, expected, posted in facts
        if expected != posted
    ]


def _names(kinds: Sequence[Kind]) -> str:
    return ", ".join(kind.name.lower() for kind in kinds) or "none"
