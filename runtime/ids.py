"""Ids: typed, prefixed, ordered by time.

Rows of a log are named by their position in it, which is dense and unique; orders, which need a name before they have
a position, by time and chance.
"""

import re
import secrets
from typing import NewType

AccountId = NewType("AccountId", str)
OrderId = NewType("OrderId", str)
HoldId = NewType("HoldId", str)
TransactionId = NewType("TransactionId", str)
ExecutionId = NewType("ExecutionId", str)
ClOrdId = NewType("ClOrdId", str)

_PLACED = re.compile(r"(?:hld|txn|exe)_(0|[1-9]\d{0,8})_(\d{12}|[1-9]\d{12,17})", re.ASCII)  # one way to write each
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: sorts like the number, no i, l, o, u
_TIME_CHARACTERS = 10  # 50 bits: milliseconds until the year 37,000
_CHANCE_CHARACTERS = 8  # 40 bits


def _base32(number: int, characters: int) -> str:
    return "".join(_ALPHABET[(number >> 5 * i) & 31] for i in reversed(range(characters)))


def _timed(now_ns: int) -> str:
    chance = secrets.randbits(5 * _CHANCE_CHARACTERS)
    return _base32(now_ns // 1_000_000, _TIME_CHARACTERS) + _base32(chance, _CHANCE_CHARACTERS)


def new_order_id(now_ns: int) -> OrderId:
    return OrderId("ord_" + _timed(now_ns))


def new_account_id(now_ns: int) -> AccountId:
    return AccountId("acc_" + _timed(now_ns))


def cl_ord_id(order_id: OrderId, submission: int) -> ClOrdId:
    """ClOrdID(11): 18 characters of the order's id, two that count its submissions (new, cancel, replace) from 0."""
    if not 0 <= submission < 1024:
        raise ValueError(f"submission {submission} does not fit two characters")
    return ClOrdId(order_id.removeprefix("ord_") + _base32(submission, 2))


def hold_id(partition: int, position: int) -> HoldId:
    """A hold is named by the position of the transaction that made it."""
    return HoldId(f"hld_{partition}_{position:012d}")


def transaction_id(partition: int, position: int) -> TransactionId:
    return TransactionId(f"txn_{partition}_{position:012d}")


def execution_id(partition: int, position: int) -> ExecutionId:
    return ExecutionId(f"exe_{partition}_{position:012d}")


def place(log_id: str) -> tuple[int, int]:
    """(partition, position) of a hold, transaction or execution id. ValueError if it is none."""
    match = _PLACED.fullmatch(log_id)
    if match is None:
        raise ValueError(f"{log_id!r} names no row of a log")
    return int(match[1]), int(match[2])
