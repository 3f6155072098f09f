"""What an order must be to enter the book: a ladder of early returns, whose order is the precedence.

No I/O, no clock.
"""

from dataclasses import dataclass
from typing import Final

from exchange.orders import DAY, GOOD_TILL_CANCEL, IMMEDIATE_OR_CANCEL, LIMIT, MARKET, NewOrder, Side
from exchange.reasons import Refusal
from runtime.units import SCALE, to_units

CARRIED_MAX: Final = 2**32 - 1  # ITCH 5.0 carries shares and prices in 32 bits


@dataclass(frozen=True, slots=True)
class Terms:
    """The numbers of a request; None where it has none that can be read."""

    shares: int | None
    price: int | None


def read_terms(request: NewOrder) -> Terms:
    return Terms(_shares(request.order_qty), _price(request.price))


def broken_rule(request: NewOrder, terms: Terms, tick: int | None, known: bool, is_open: bool) -> Refusal | None:
    """The first rule that the order breaks. `tick` is None for a symbol that is not traded here, `known` says whether
    the counterparty used the ClOrdID(11) before."""
    if known:
        return Refusal.DUPLICATE_CL_ORD_ID
    if tick is None:
        return Refusal.UNKNOWN_SYMBOL
    if not is_open:
        return Refusal.MARKET_CLOSED
    if request.side not in (Side.BUY, Side.SELL):
        return Refusal.SIDE_UNSUPPORTED
    if request.ord_type not in (MARKET, LIMIT):
        return Refusal.ORD_TYPE_UNSUPPORTED
    if request.time_in_force not in (DAY, GOOD_TILL_CANCEL, IMMEDIATE_OR_CANCEL):
        return Refusal.TIME_IN_FORCE_UNSUPPORTED
    return _broken_quantity(terms.shares) or _broken_price(request, terms.price, tick)


def _broken_quantity(shares: int | None) -> Refusal | None:
    if shares is None or shares <= 0:
        return Refusal.QUANTITY_INVALID
    if shares > CARRIED_MAX:
        return Refusal.QUANTITY_TOO_LARGE
    return None


def _broken_price(request: NewOrder, price: int | None, tick: int) -> Refusal | None:
    if request.ord_type == MARKET:
        return Refusal.PRICE_ON_MARKET_ORDER if request.price else None
    if not request.price:
        return Refusal.PRICE_MISSING
    if price is None:
        return Refusal.PRICE_OFF_TICK
    if price <= 0:
        return Refusal.PRICE_NOT_POSITIVE
    if price > CARRIED_MAX:
        return Refusal.PRICE_TOO_HIGH
    return Refusal.PRICE_OFF_TICK if price % tick else None


def _shares(text: str) -> int | None:
    """'100' and '100.0' are 100: FIX 4.2 writes quantities as decimal numbers."""
    units = _price(text)
    return units // SCALE if units is not None and units % SCALE == 0 else None


def _price(text: str) -> int | None:
    try:
        return to_units(text)
    except (ValueError, ArithmeticError):  # the latter for exponents beyond what decimals can hold
        return None
