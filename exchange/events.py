"""What an event of the venue leads to: reports for counterparties, messages for the feed, notices. No I/O, no clock.

Feed events name a symbol by `locate`, its number on the feed, and an order by the reference under which it rests.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from exchange.orders import Report, Side


class Phase(StrEnum):
    """TradSesStatus(340). Orders are taken in all but CLOSED; they trade in OPEN, and at one price when a call ends."""

    OPEN = "2"
    CLOSED = "3"
    PRE_OPEN = "4"
    PRE_CLOSE = "5"


class Listed(NamedTuple):
    """A symbol is traded; `locate` counts from 1."""

    locate: int
    symbol: str


class TradingState(NamedTuple):
    """A symbol is halted, or trades again."""

    locate: int
    symbol: str
    halted: bool


class Hours(NamedTuple):
    """The market hours begin or end."""

    begin: bool


class Added(NamedTuple):
    """An order rests in the book and is shown."""

    locate: int
    ref: int
    side: Side
    shares: int
    symbol: str
    price: int


class Executed(NamedTuple):
    """Shares of a resting order traded at its price."""

    locate: int
    ref: int
    shares: int
    match: int


class ExecutedAt(NamedTuple):
    """Shares of a resting order traded in an auction; the auction is told as a whole by `Crossed`."""

    locate: int
    ref: int
    shares: int
    match: int
    price: int


class Crossed(NamedTuple):
    """An auction: all its shares at its one price. `kind`: O opening, C closing, H after a halt."""

    locate: int
    symbol: str
    shares: int
    price: int
    match: int
    kind: str


class Traded(NamedTuple):
    """A trade that touched no shown order: by hand, or what a correction made of one."""

    locate: int
    symbol: str
    side: Side
    shares: int
    price: int
    match: int


class Broken(NamedTuple):
    """A trade was busted or corrected."""

    locate: int
    match: int


class Reduced(NamedTuple):
    """A resting order lost shares without a trade and kept its place."""

    locate: int
    ref: int
    shares: int


class Deleted(NamedTuple):
    """An order left the book without a trade."""

    locate: int
    ref: int


FeedEvent = (
    Listed | TradingState | Hours | Added | Executed | ExecutedAt | Crossed | Traded | Broken | Reduced | Deleted
)


@dataclass(slots=True)
class Outcome:
    """What one event led to, each list in order. `notices`: symbols whose trading state changed, "" for the phase."""

    now_ns: int
    reports: list[Report] = field(default_factory=list)
    feed: list[FeedEvent] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
