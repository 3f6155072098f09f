"""Nasdaq TotalView-ITCH 5.0, as far as this venue has messages: big-endian, four decimals, text padded right.

Layouts: Nasdaq's "TotalView-ITCH 5.0" specification, sections 1.1 (S), 1.2.1 (R), 1.2.2 (H), 1.3.1 (A), 1.4.1 (E).
Tracking Number is 0 throughout. No I/O, no clock.
"""

from struct import Struct
from typing import Final

from exchange.market import Added, Executed, FeedEvent, Listed
from exchange.orders import Side

_SYSTEM_EVENT: Final = Struct(">cHH6sc")
_STOCK_DIRECTORY: Final = Struct(">cHH6s8sccIcc2scccccIc")
_STOCK_TRADING_ACTION: Final = Struct(">cHH6s8scc4s")
_ADD_ORDER: Final = Struct(">cHH6sQcI8sI")
_ORDER_EXECUTED: Final = Struct(">cHH6sQIQ")

START_OF_MESSAGES: Final = b"O"
START_OF_SYSTEM_HOURS: Final = b"S"
SYMBOL_LENGTH_MAX: Final = 8


def system_event(code: bytes, timestamp: int) -> bytes:
    """`timestamp` here and below: nanoseconds since New York's midnight."""
    return _SYSTEM_EVENT.pack(b"S", 0, 0, timestamp.to_bytes(6, "big"), code)


def encode(event: FeedEvent, timestamp: int) -> tuple[bytes, ...]:
    """The messages that tell of the event."""
    stamp = timestamp.to_bytes(6, "big")
    if isinstance(event, Executed):
        return (_ORDER_EXECUTED.pack(b"E", event.locate, 0, stamp, event.ref, event.shares, event.match),)
    if isinstance(event, Added):
        return (_add_order(event, stamp),)
    return _directory(event, stamp), _trading(event, stamp)


def _add_order(event: Added, stamp: bytes) -> bytes:
    side = b"B" if event.side is Side.BUY else b"S"
    symbol = _stock(event.symbol)
    return _ADD_ORDER.pack(b"A", event.locate, 0, stamp, event.ref, side, event.shares, symbol, event.price)


def _directory(event: Listed, stamp: bytes) -> bytes:
    return _STOCK_DIRECTORY.pack(
        b"R",
        event.locate,
        0,
        stamp,
        _stock(event.symbol),
        b"Q",  # Market Category: Nasdaq Global Select
        b"N",  # Financial Status Indicator: normal
        100,  # Round Lot Size
        b"N",  # Round Lots Only: no
        b"C",  # Issue Classification: common stock
        b"Z ",  # Issue Sub-Type: not applicable
        b"P",  # Authenticity: production
        b"N",  # Short Sale Threshold Indicator: not restricted
        b"N",  # IPO Flag
        b"1",  # LULD Reference Price Tier
        b"N",  # ETP Flag
        0,  # ETP Leverage Factor
        b"N",  # Inverse Indicator
    )


def _trading(event: Listed, stamp: bytes) -> bytes:
    return _STOCK_TRADING_ACTION.pack(b"H", event.locate, 0, stamp, _stock(event.symbol), b"T", b" ", b"    ")


def _stock(symbol: str) -> bytes:
    return symbol.encode("ascii").ljust(SYMBOL_LENGTH_MAX)
