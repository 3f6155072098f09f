"""Why the ledger refuses: reason -> gRPC status. Names are never renumbered or reused."""

from enum import StrEnum

from grpc import StatusCode

from runtime.errors import Refusal


class Reason(StrEnum):
    MISSING_KEY = "MISSING_KEY"
    KEY_REUSED = "KEY_REUSED"
    UNKNOWN_ACCOUNT = "UNKNOWN_ACCOUNT"
    ACCOUNT_NOT_YOURS = "ACCOUNT_NOT_YOURS"
    MISSING_CUSTOMER = "MISSING_CUSTOMER"
    INVALID_AMOUNT = "INVALID_AMOUNT"
    INVALID_ASSET = "INVALID_ASSET"
    MISSING_ORDER = "MISSING_ORDER"
    ORDER_HAS_HOLD = "ORDER_HAS_HOLD"
    INSUFFICIENT_FUNDS = "INSUFFICIENT_FUNDS"
    INSUFFICIENT_SHARES = "INSUFFICIENT_SHARES"
    ACCOUNT_OWES = "ACCOUNT_OWES"
    UNKNOWN_HOLD = "UNKNOWN_HOLD"
    HOLD_RELEASED = "HOLD_RELEASED"
    UNKNOWN_PARTITION = "UNKNOWN_PARTITION"


STATUS = {
    Reason.MISSING_KEY: StatusCode.INVALID_ARGUMENT,
    Reason.KEY_REUSED: StatusCode.ALREADY_EXISTS,
    Reason.UNKNOWN_ACCOUNT: StatusCode.NOT_FOUND,
    Reason.ACCOUNT_NOT_YOURS: StatusCode.PERMISSION_DENIED,
    Reason.MISSING_CUSTOMER: StatusCode.INVALID_ARGUMENT,
    Reason.INVALID_AMOUNT: StatusCode.INVALID_ARGUMENT,
    Reason.INVALID_ASSET: StatusCode.INVALID_ARGUMENT,
    Reason.MISSING_ORDER: StatusCode.INVALID_ARGUMENT,
    Reason.ORDER_HAS_HOLD: StatusCode.ALREADY_EXISTS,
    Reason.INSUFFICIENT_FUNDS: StatusCode.FAILED_PRECONDITION,
    Reason.INSUFFICIENT_SHARES: StatusCode.FAILED_PRECONDITION,
    Reason.ACCOUNT_OWES: StatusCode.FAILED_PRECONDITION,
    Reason.UNKNOWN_HOLD: StatusCode.NOT_FOUND,
    Reason.HOLD_RELEASED: StatusCode.FAILED_PRECONDITION,
    Reason.UNKNOWN_PARTITION: StatusCode.INVALID_ARGUMENT,
}


def refuse(reason: Reason, message: str, **metadata: str) -> Refusal:
    return Refusal(reason, STATUS[reason], message, **metadata)
