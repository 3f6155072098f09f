"""Nasdaq TotalView-ITCH 5.0, as far as this venue has messages: big-endian, four decimals, text padded right.

Layouts: Nasdaq's "TotalView-ITCH 5.0" specification, sections 1.1 (S), 1.2.1 (R), 1.2.2 (H), 1.3.1 (A), 1.4 (E, C, X,
D), 1.5 (P, Q, B). Tracking Number is 0 throughout. No I/O, no clock.
"""

from collections.abc import Callable
from struct import Struct
from typing import Any, Final

from exchange.events import (
    Added,
    Broken,
    Crossed,
    Deleted,
    Executed,
    ExecutedAt,
    FeedEvent,
    Hours,
    Listed,
    Reduced,
    Traded,
    TradingState,
)
from exchange.orders import Side

_SYSTEM_EVENT: Final = Struct(">cHH6sc")
_STOCK_DIRECTORY: Final = Struct(">cHH6s8sccIcc2scccccIc")
_STOCK_TRADING_ACTION: Final = Struct(">cHH6s8scc4s")
_ADD_ORDER: Final = Struct(">cHH6sQcI8sI")
_ORDER_EXECUTED: Final = Struct(">cHH6sQIQ")
_ORDER_EXECUTED_WITH_PRICE: Final = Struct(">cHH6sQIQcI")
_ORDER_CANCEL: Final = Struct(">cHH6sQI")
_ORDER_DELETE: Final = Struct(">cHH6sQ")
_TRADE: Final = Struct(">cHH6sQcI8sIQ")
_CROSS_TRADE: Final = Struct(">cHH6sQ8sIQc")
_BROKEN_TRADE: Final = Struct(">cHH6sQ")

START_OF_MESSAGES: Final = b"O"
START_OF_SYSTEM_HOURS: Final = b"S"
START_OF_MARKET_HOURS: Final = b"Q"
END_OF_MARKET_HOURS: Final = b"M"
SYMBOL_LENGTH_MAX: Final = 8


def system_event(code: bytes, timestamp: int) -> bytes:
    """`timestamp` here and below: nanoseconds since New York's midnight."""
    return _SYSTEM_EVENT.pack(b"S", 0, 0, timestamp.to_bytes(6, "big"), code)


def encode(event: FeedEvent, timestamp: int) -> tuple[bytes, ...]:
    """The messages that tell of the event."""
    return _ENCODERS[type(event)](event, timestamp.to_bytes(6, "big"))


def _hours(event: Hours, stamp: bytes) -> tuple[bytes, ...]:
    code = START_OF_MARKET_HOURS if event.begin else END_OF_MARKET_HOURS
    return (_SYSTEM_EVENT.pack(b"S", 0, 0, stamp, code),)


def _listed(event: Listed, stamp: bytes) -> tuple[bytes, ...]:
    return _directory(event, stamp), _trading(event.locate, event.symbol, b"T", stamp)


def _trading_state(event: TradingState, stamp: bytes) -> tuple[bytes, ...]:
    return (_trading(event.locate, event.symbol, b"H" if event.halted else b"T", stamp),)


def _added(event: Added, stamp: bytes) -> tuple[bytes, ...]:
    symbol, side = _stock(event.symbol), _side(event.side)
    return (_ADD_ORDER.pack(b"A", event.locate, 0, stamp, event.ref, side, event.shares, symbol, event.price),)


def _executed(event: Executed, stamp: bytes) -> tuple[bytes, ...]:
    return (_ORDER_EXECUTED.pack(b"E", event.locate, 0, stamp, event.ref, event.shares, event.match),)


def _executed_at(event: ExecutedAt, stamp: bytes) -> tuple[bytes, ...]:
    """Not printable: the cross message has the shares."""
    ref, shares, match, price = event.ref, event.shares, event.match, event.price
    return (_ORDER_EXECUTED_WITH_PRICE.pack(b"C", event.locate, 0, stamp, ref, shares, match, b"N", price),)


def _reduced(event: Reduced, stamp: bytes) -> tuple[bytes, ...]:
    return (_ORDER_CANCEL.pack(b"X", event.locate, 0, stamp, event.ref, event.shares),)


def _deleted(event: Deleted, stamp: bytes) -> tuple[bytes, ...]:
    return (_ORDER_DELETE.pack(b"D", event.locate, 0, stamp, event.ref),)


def _traded(event: Traded, stamp: bytes) -> tuple[bytes, ...]:
    """Order Reference Number is 0, as Nasdaq has it."""
    symbol, side = _stock(event.symbol), _side(event.side)
    return (_TRADE.pack(b"P", event.locate, 0, stamp, 0, side, event.shares, symbol, event.price, event.match),)


def _crossed(event: Crossed, stamp: bytes) -> tuple[bytes, ...]:
    symbol, kind = _stock(event.symbol), event.kind.encode("ascii")
    return (_CROSS_TRADE.pack(b"Q", event.locate, 0, stamp, event.shares, symbol, event.price, event.match, kind),)


def _broken(event: Broken, stamp: bytes) -> tuple[bytes, ...]:
    return (_BROKEN_TRADE.pack(b"B", event.locate, 0, stamp, event.match),)


_ENCODERS: Final[dict[type, Callable[[Any, bytes], tuple[bytes, ...]]]] = {
    Hours: _hours,
    Listed: _listed,
    TradingState: _trading_state,
    Added: _added,
    Executed: _executed,
    ExecutedAt: _executed_at,
    Reduced: _reduced,
    Deleted: _deleted,
    Traded: _traded,
    Crossed: _crossed,
    Broken: _broken,
}


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


def _trading(locate: int, symbol: str, state: bytes, stamp: bytes) -> bytes:
    return _STOCK_TRADING_ACTION.pack(b"H", locate, 0, stamp, _stock(symbol), state, b" ", b"    ")


def _side(side: Side) -> bytes:
    return b"B" if side is Side.BUY else b"S"


def _stock(symbol: str) -> bytes:
    return symbol.encode("ascii").ljust(SYMBOL_LENGTH_MAX)
