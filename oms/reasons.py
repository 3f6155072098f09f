"""Why the OMS refuses: reason -> gRPC status, FIX OrdRejReason(103), whether the same request may succeed later.

A refusal that a retry can help is not stored: the same key may be sent again. All others are the stored answer.
Names are never renumbered or reused. In order of precedence: the first broken rule is the answer.
"""

from dataclasses import dataclass
from enum import StrEnum

from grpc import StatusCode

from runtime.errors import Refusal


class Reason(StrEnum):
    MISSING_KEY = "MISSING_KEY"
    INVALID_KEY = "INVALID_KEY"
    INVALID_SYMBOL = "INVALID_SYMBOL"
    UNKNOWN_ACCOUNT = "UNKNOWN_ACCOUNT"
    ACCOUNT_NOT_YOURS = "ACCOUNT_NOT_YOURS"
    KEY_REUSED = "KEY_REUSED"
    INVALID_SIDE = "INVALID_SIDE"
    UNSUPPORTED_ORDER_TYPE = "UNSUPPORTED_ORDER_TYPE"
    UNSUPPORTED_TIME_IN_FORCE = "UNSUPPORTED_TIME_IN_FORCE"
    INVALID_QUANTITY = "INVALID_QUANTITY"
    INSTRUMENTS_UNAVAILABLE = "INSTRUMENTS_UNAVAILABLE"
    UNKNOWN_SYMBOL = "UNKNOWN_SYMBOL"
    SYMBOL_HALTED = "SYMBOL_HALTED"
    MISSING_PRICE = "MISSING_PRICE"
    PRICE_ON_MARKET_ORDER = "PRICE_ON_MARKET_ORDER"
    PRICE_OFF_TICK = "PRICE_OFF_TICK"
    ORDER_TOO_LARGE = "ORDER_TOO_LARGE"
    MARKET_CLOSED = "MARKET_CLOSED"
    REFERENCE_PRICE_MISSING = "REFERENCE_PRICE_MISSING"
    INSUFFICIENT_FUNDS = "INSUFFICIENT_FUNDS"
    INSUFFICIENT_SHARES = "INSUFFICIENT_SHARES"
    ACCOUNT_OWES = "ACCOUNT_OWES"
    LEDGER_REFUSED = "LEDGER_REFUSED"
    LEDGER_UNAVAILABLE = "LEDGER_UNAVAILABLE"
    UNKNOWN_ORDER = "UNKNOWN_ORDER"
    UNKNOWN_PARTITION = "UNKNOWN_PARTITION"
    NOT_BUILT = "NOT_BUILT"


@dataclass(frozen=True, slots=True)
class Rule:
    status: StatusCode
    # OrdRejReason(103): 0 broker option, 1 unknown symbol, 2 exchange closed, 3 exceeds limit, 6 duplicate
    ord_rej_reason: int | None = None
    retry_helps: bool = False


_INVALID = Rule(StatusCode.INVALID_ARGUMENT, 0)
_LATER = Rule(StatusCode.UNAVAILABLE, retry_helps=True)

RULES = {
    Reason.MISSING_KEY: _INVALID,
    Reason.INVALID_KEY: _INVALID,
    Reason.INVALID_SYMBOL: _INVALID,
    Reason.UNKNOWN_ACCOUNT: Rule(StatusCode.NOT_FOUND, 0),
    Reason.ACCOUNT_NOT_YOURS: Rule(StatusCode.PERMISSION_DENIED, 0),
    Reason.KEY_REUSED: Rule(StatusCode.ALREADY_EXISTS, 6),
    Reason.INVALID_SIDE: _INVALID,
    Reason.UNSUPPORTED_ORDER_TYPE: _INVALID,
    Reason.UNSUPPORTED_TIME_IN_FORCE: _INVALID,
    Reason.INVALID_QUANTITY: _INVALID,
    Reason.INSTRUMENTS_UNAVAILABLE: _LATER,
    Reason.UNKNOWN_SYMBOL: Rule(StatusCode.NOT_FOUND, 1),
    Reason.SYMBOL_HALTED: Rule(StatusCode.FAILED_PRECONDITION, 2),
    Reason.MISSING_PRICE: _INVALID,
    Reason.PRICE_ON_MARKET_ORDER: _INVALID,
    Reason.PRICE_OFF_TICK: _INVALID,
    Reason.ORDER_TOO_LARGE: Rule(StatusCode.INVALID_ARGUMENT, 3),
    Reason.MARKET_CLOSED: Rule(StatusCode.FAILED_PRECONDITION, 2),
    Reason.REFERENCE_PRICE_MISSING: _LATER,
    Reason.INSUFFICIENT_FUNDS: Rule(StatusCode.FAILED_PRECONDITION, 3),
    Reason.INSUFFICIENT_SHARES: Rule(StatusCode.FAILED_PRECONDITION, 3),
    Reason.ACCOUNT_OWES: Rule(StatusCode.FAILED_PRECONDITION, 0),
    Reason.LEDGER_REFUSED: Rule(StatusCode.FAILED_PRECONDITION, 0),
    Reason.LEDGER_UNAVAILABLE: _LATER,
    Reason.UNKNOWN_ORDER: Rule(StatusCode.NOT_FOUND),
    Reason.UNKNOWN_PARTITION: _INVALID,
    Reason.NOT_BUILT: Rule(StatusCode.UNIMPLEMENTED),
}


def refuse(reason: Reason, message: str, **metadata: str) -> Refusal:
    return Refusal(reason, RULES[reason].status, message, **metadata)
