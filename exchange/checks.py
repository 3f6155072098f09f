"""What an order, a cancel and a replace must be: ladders of early returns, whose order is the precedence.

No I/O, no clock.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from exchange.events import Phase
from exchange.market import Listing, Market
from exchange.orders import (
    AT_THE_OPENING,
    DAY,
    FILL_OR_KILL,
    GOOD_TILL_CANCEL,
    GOOD_TILL_DATE,
    IMMEDIATE_OR_CANCEL,
    LIMIT,
    MARKET,
    STOP,
    STOP_LIMIT,
    CancelRequest,
    NewOrder,
    Order,
    OrdStatus,
    ReplaceRequest,
    Side,
)
from exchange.reasons import CancelRefusal, Refusal
from exchange.times import end_of_day, instant
from runtime.units import SCALE, to_units

CARRIED_MAX: Final = 2**32 - 1  # ITCH 5.0 carries shares and prices in 32 bits
LASTING: Final = (DAY, GOOD_TILL_CANCEL, GOOD_TILL_DATE)
_TIMES_IN_FORCE: Final = (*LASTING, AT_THE_OPENING, IMMEDIATE_OR_CANCEL, FILL_OR_KILL)
_PRICED: Final = (LIMIT, STOP_LIMIT)
_STOPS: Final = (STOP, STOP_LIMIT)


@dataclass(frozen=True, slots=True)
class Terms:
    """The numbers of a request; None where it has none, or none that can be read."""

    shares: int | None
    price: int | None
    stop: int | None
    expires_ns: int | None


def read_terms(request: NewOrder | ReplaceRequest) -> Terms:
    expires_ns = None
    if request.expire_date or request.expire_time:
        expires_ns = end_of_day(request.expire_date) if request.expire_date else instant(request.expire_time)
    return Terms(_shares(request.order_qty), _units(request.price), _units(request.stop_px), expires_ns)


def broken_rule(market: Market, comp_id: str, request: NewOrder, terms: Terms, now_ns: int) -> Refusal | None:
    """The first rule that a new order breaks, its name apart."""
    listing = market.listings.get(request.symbol)
    if listing is None:
        return Refusal.UNKNOWN_SYMBOL
    if market.phase is Phase.CLOSED:
        return Refusal.MARKET_CLOSED
    if listing.halted:
        return Refusal.HALTED
    if request.side not in (Side.BUY, Side.SELL):
        return Refusal.SIDE_UNSUPPORTED
    if request.ord_type not in (MARKET, LIMIT, *_STOPS):
        return Refusal.ORD_TYPE_UNSUPPORTED
    if request.time_in_force not in _TIMES_IN_FORCE:
        return Refusal.TIME_IN_FORCE_UNSUPPORTED
    if request.ord_type in _STOPS and request.time_in_force not in LASTING:
        return Refusal.STOP_MUST_WAIT
    if request.time_in_force == AT_THE_OPENING and market.phase is not Phase.PRE_OPEN:
        return Refusal.TOO_LATE_FOR_OPENING
    if request.repeated and telephoned(market, comp_id, request, terms.shares):
        return Refusal.VERBAL_DUPLICATE
    return broken_term(request, terms, listing.instrument.tick, now_ns)


def broken_term(request: NewOrder | ReplaceRequest, terms: Terms, tick: int, now_ns: int) -> Refusal | None:
    """The first rule that the numbers of an order, new or replaced, break."""
    return (
        _broken_quantity(terms.shares)
        or _broken_price(request, terms.price, tick)
        or _broken_stop(request, terms.stop, tick)
        or _broken_expiry(request, terms.expires_ns, now_ns)
    )


def broken_target(request: CancelRequest | ReplaceRequest, order: Order | None) -> CancelRefusal | None:
    """The first reason why a cancel or replace that comes in is not about this order, or comes too late. `order` is the
    one that bears, or once bore, the name in OrigClOrdID(41)."""
    if order is None:
        return CancelRefusal.UNKNOWN
    if request.order_id and request.order_id != order.order_id:
        return CancelRefusal.OTHER_ORDER_ID
    if request.symbol != order.request.symbol:
        return CancelRefusal.OTHER_SYMBOL
    if request.side != order.request.side:
        return CancelRefusal.OTHER_SIDE
    if is_over(order, request):
        return CancelRefusal.TOO_LATE
    if request.orig_cl_ord_id != order.last_name:
        return CancelRefusal.PENDING if order.waiting else CancelRefusal.REPLACED
    return None


def broken_replace(
    market: Market, listing: Listing, request: ReplaceRequest, order: Order, now_ns: int
) -> CancelRefusal | None:
    """The first rule that a replace breaks, its numbers apart."""
    if OrdStatus.SUSPENDED in order.marks:
        return CancelRefusal.SUSPENDED
    if market.phase is Phase.CLOSED:
        return CancelRefusal.MARKET_CLOSED
    if listing.halted:
        return CancelRefusal.HALTED
    if request.account != order.request.account:
        return CancelRefusal.OTHER_ACCOUNT
    if request.ord_type != order.request.ord_type:
        return CancelRefusal.OTHER_ORD_TYPE
    if is_late(market, order, now_ns):
        return CancelRefusal.TOO_LATE
    same = request.time_in_force == order.request.time_in_force
    if not same and not {request.time_in_force, order.request.time_in_force} <= set(LASTING):
        return CancelRefusal.OTHER_TIME_IN_FORCE
    return None


def is_over(order: Order, request: CancelRequest | ReplaceRequest) -> bool:
    """Whether the request comes too late. A filled order can still be given more shares (FIX 4.2, Appendix D8)."""
    if order.ended is None and (order.is_open or not order.accepted):
        return False
    if order.ended is not None or isinstance(request, CancelRequest):
        return True
    shares = _shares(request.order_qty)
    return shares is None or shares <= order.cum


def is_late(market: Market, order: Order, now_ns: int) -> bool:
    """Whether a filled order's time has passed, be it its day, its opening, its expiry or its session: it takes no more
    shares."""
    time_in_force = order.request.time_in_force
    if market.is_departed(order) or (order.expires_ns is not None and order.expires_ns <= now_ns):
        return True
    if time_in_force == AT_THE_OPENING:
        return market.phase is not Phase.PRE_OPEN or order.ref not in market.todays
    return time_in_force not in (GOOD_TILL_CANCEL, GOOD_TILL_DATE) and order.ref not in market.todays


def telephoned(market: Market, comp_id: str, request: NewOrder, shares: int | None) -> Order | None:
    """The order that the counterparty gave by telephone today, if this can be the same again."""
    wanted = (comp_id, request.account, request.symbol, request.side, shares)
    for each in market.telephoned:
        if wanted == (each.comp_id, each.request.account, each.request.symbol, each.request.side, each.quantity):
            return each
    return None


def _broken_quantity(shares: int | None) -> Refusal | None:
    if shares is None or shares <= 0:
        return Refusal.QUANTITY_INVALID
    return Refusal.QUANTITY_TOO_LARGE if shares > CARRIED_MAX else None


def _broken_price(request: NewOrder | ReplaceRequest, price: int | None, tick: int) -> Refusal | None:
    if request.ord_type not in _PRICED:
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


def _broken_stop(request: NewOrder | ReplaceRequest, stop: int | None, tick: int) -> Refusal | None:
    if request.ord_type not in _STOPS:
        return Refusal.STOP_PX_NOT_ALLOWED if request.stop_px else None
    if not request.stop_px:
        return Refusal.STOP_PX_MISSING
    if stop is None or not 0 < stop <= CARRIED_MAX or stop % tick:
        return Refusal.STOP_PX_INVALID
    return None


def _broken_expiry(request: NewOrder | ReplaceRequest, expires_ns: int | None, now_ns: int) -> Refusal | None:
    given = bool(request.expire_date or request.expire_time)
    if request.time_in_force != GOOD_TILL_DATE:
        return Refusal.EXPIRY_NOT_ALLOWED if given else None
    if not given:
        return Refusal.EXPIRY_MISSING
    if expires_ns is None:
        return Refusal.EXPIRY_INVALID
    return Refusal.EXPIRED_ALREADY if expires_ns <= now_ns else None


def _shares(text: str) -> int | None:
    """'100' and '100.0' are 100: FIX 4.2 writes quantities as decimal numbers."""
    units = _units(text)
    return units // SCALE if units is not None and units % SCALE == 0 else None


@lru_cache(maxsize=10_000)  # prices and quantities come again and again
def _units(text: str) -> int | None:
    try:
        return to_units(text)
    except (ValueError, ArithmeticError):  # the latter for exponents beyond what decimals can hold
        return None
