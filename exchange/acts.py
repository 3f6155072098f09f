"""The words of the venue's operator: one for each act. What an act does stands in `operations.py`."""

from dataclasses import dataclass

from exchange.orders import NewOrder


class ActRefused(Exception):
    """The act cannot be done; the text says why. Nothing has changed."""


@dataclass(frozen=True, slots=True)
class Halt:
    """Trading in a symbol stops: no new order, no replace, no trade; cancels pass."""

    symbol: str


@dataclass(frozen=True, slots=True)
class Resume:
    """A halted symbol trades again; what has come to cross meanwhile trades at one price."""

    symbol: str


@dataclass(frozen=True, slots=True)
class Bust:
    """A trade never happened, for both sides. `exec_id`: either side's ExecID(17)."""

    exec_id: str


@dataclass(frozen=True, slots=True)
class Correct:
    """A trade was of so many shares at this price instead, for both sides."""

    exec_id: str
    shares: int
    price: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """An order is cancelled, as its owner agreed by telephone."""

    order_id: str


@dataclass(frozen=True, slots=True)
class Restate:
    """An order's quantity, and price if it is not 0, change unasked. `reason`: ExecRestatementReason(378)."""

    order_id: str
    quantity: int
    price: int
    reason: str


@dataclass(frozen=True, slots=True)
class Trade:
    """An order traded by hand, even if it was cancelled since."""

    order_id: str
    shares: int
    price: int


@dataclass(frozen=True, slots=True)
class Mark:
    """An order is stopped (guaranteed), suspended, calculated or done for the day; `what` is the OrdStatus(39)."""

    order_id: str
    what: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Release:
    """A suspended order comes back to market, behind the others."""

    order_id: str


@dataclass(frozen=True, slots=True)
class Split:
    """A symbol's shares become `new` for each `old`: its lasting orders are restated. Only while nothing trades."""

    symbol: str
    new: int
    old: int


@dataclass(frozen=True, slots=True)
class Telephone:
    """An order that `comp_id` gave by telephone; its ClOrdID(11) is empty."""

    comp_id: str
    order: NewOrder
