"""Nasdaq TotalView-ITCH 5.0: where the fields of each message stand.

Big-endian. Every message begins with type (1 byte), stock locate (2), tracking number (2) and nanoseconds since
midnight in New York (6). Prices are integers of 1/10,000 dollar, the unit of this code base.
"""

from struct import Struct
from typing import Any, Final

_HEADER: Final = ">x H 2x HI"  # locate; the time as its upper 2 and lower 4 bytes

LAYOUTS: Final = {
    ord(kind): Struct(_HEADER + fields)
    for kind, fields in {
        "S": "c",  # system event (4.1): event code
        "R": "8s 2x I 14x",  # stock directory (4.2.1): stock, round lot
        "H": "8s c 5x",  # trading action (4.2.2): stock, trading state
        "A": "Q c I 8x I",  # add order: reference, side, shares, price
        "F": "Q c I 8x I 4x",  # add order with attribution: the same
        "E": "Q I 8x",  # executed: reference, shares
        "C": "Q I 8x c I",  # executed at another price: reference, shares, printable, price
        "X": "Q I",  # cancelled in part: reference, shares taken away
        "D": "Q",  # deleted: reference
        "U": "Q Q I I",  # replaced: old reference, new reference, shares, price
        "P": "9x I 8x I 8x",  # trade of a hidden order: shares, price
        "Q": "Q 8x I 8x x",  # cross: shares, price
    }.items()
}
"""Type byte -> fields after the type: locate, time (upper, lower), then what the comment names. What a quote does not
need is padding; types that no quote needs are not here."""

BUY, SELL = b"B", b"S"
TRADING = b"T"
PRINTABLE = b"Y"


def decode(message: bytes) -> tuple[Any, ...]:
    """(locate, upper time, lower time, ...) of one message. KeyError for a type that is not in LAYOUTS, struct.error
    for a wrong length."""
    return LAYOUTS[message[0]].unpack(message)


def time_ns(message: bytes) -> int:
    """Nanoseconds since midnight in New York."""
    return int.from_bytes(message[5:11])


def symbol(stock: bytes) -> str:
    """Stock fields are ASCII, padded with blanks on the right."""
    return stock.decode("ascii", "replace").rstrip()
