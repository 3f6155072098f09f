"""The life of an order, pure: what may be asked, and how executions move it.

Status is FIX OrdStatus(39), derived from what ended the order, what is pending and what is filled; the one table below
says which events move it (FIX 4.2, Appendix D).
"""

from dataclasses import dataclass, replace
from enum import IntEnum

from oms.reasons import Reason, refuse
from runtime.fees import FeeSchedule, fee_bound, price_covered
from runtime.units import CASH, is_symbol, to_decimal

QUANTITY_MAX = 10**9
VALUE_MAX = 10**15  # 100 billion dollars
KEY_CHARACTERS_MAX = 64
BASIS_POINTS = 10_000


class Side(IntEnum):
    """Side(54), numbered as in openbell.fix.v1."""

    BUY = 1
    SELL = 2


class OrdType(IntEnum):
    """OrdType(40), numbered as in openbell.fix.v1."""

    MARKET = 1
    LIMIT = 2


class TimeInForce(IntEnum):
    """TimeInForce(59), numbered as in openbell.fix.v1."""

    DAY = 1
    GOOD_TILL_CANCEL = 2
    IMMEDIATE_OR_CANCEL = 4


class Status(IntEnum):
    """OrdStatus(39), numbered as in openbell.fix.v1."""

    PENDING_NEW = 1
    NEW = 2
    PARTIALLY_FILLED = 3
    FILLED = 4
    CANCELED = 6
    REJECTED = 10
    EXPIRED = 12


class Done(IntEnum):
    """What ended the order."""

    NOT_DONE = 0
    FILLED = 1
    CANCELED = 2
    REJECTED = 3
    EXPIRED = 4


class Pending(IntEnum):
    """What the venue has not answered yet."""

    NOTHING = 0
    NEW = 1


class Event(IntEnum):
    """A row of the execution log, numbered as openbell.ems.v1.ExecutionKind."""

    NEW = 1
    FILL = 2
    DONE_FOR_DAY = 3  # moves nothing: the order goes on tomorrow, or an Expired follows
    CANCELED = 4
    REPLACED = 5  # this and the pending ones answer requests that are not built yet
    PENDING_CANCEL = 6
    REJECTED = 7
    PENDING_NEW = 8
    EXPIRED = 9
    PENDING_REPLACE = 10
    STATUS = 11
    NOT_SENT = 14


@dataclass(frozen=True, slots=True)
class Instrument:
    symbol: str
    tick: int
    halted: bool


@dataclass(frozen=True, slots=True)
class Ask:
    """What PlaceOrder asks for; enumerations as they came."""

    account_id: str
    client_order_id: str
    symbol: str
    side: int
    ord_type: int
    quantity: int
    limit_price: int
    time_in_force: int


@dataclass(frozen=True, slots=True)
class Order:
    order_id: str
    customer_id: str
    ask: Ask
    route_price: int
    hold_id: str
    received_at_ns: int
    accepted_at_ns: int
    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes | None
    done: Done = Done.NOT_DONE
    pending: Pending = Pending.NEW
    reason: str = ""
    cum_quantity: int = 0
    filled_value: int = 0
    updated_at_ns: int = 0

    @property
    def status(self) -> Status:
        if self.done:
            return Status[self.done.name]
        if self.cum_quantity:
            return Status.PARTIALLY_FILLED
        return Status.PENDING_NEW if self.pending == Pending.NEW else Status.NEW

    @property
    def leaves_quantity(self) -> int:
        return 0 if self.done else self.ask.quantity - self.cum_quantity


_ENDS = {
    Event.CANCELED: Done.CANCELED,
    Event.REJECTED: Done.REJECTED,
    Event.EXPIRED: Done.EXPIRED,
    Event.NOT_SENT: Done.REJECTED,
}
# (done, event) -> done, for every pair. FILL ends an order only once it is filled whole. What comes after the end is a
# late reality: messages crossed, or the venue traded on after it had answered otherwise. It is a fact, it counts its
# fills, and it keeps what ended the order (`contradicts` tells which of them deserve an alarm).
MOVES = {
    **{(Done.NOT_DONE, event): _ENDS.get(event, Done.NOT_DONE) for event in Event},
    **{(done, event): done for done in Done if done for event in Event},
}
# What leaves the venue's first answer outstanding.
_KEEPS_PENDING = frozenset({Event.STATUS, Event.PENDING_NEW})


def contradicts(order: Order, event: Event) -> bool:
    """Whether an order that is done is told another end, or filled after it: somebody has to look."""
    return bool(order.done) and (event == Event.FILL or event in _ENDS)


def move(order: Order, event: Event, quantity: int, price: int, text: str, now_ns: int) -> Order:
    """The order after one row of the execution log. `quantity` and `price` are those of a fill, else 0."""
    done = MOVES[order.done, event]
    cum_quantity = order.cum_quantity + quantity
    if event == Event.FILL and not done and cum_quantity >= order.ask.quantity:
        done = Done.FILLED
    return replace(
        order,
        done=done,
        pending=order.pending if event in _KEEPS_PENDING else Pending.NOTHING,
        reason=text if done and not order.done and done != Done.FILLED else order.reason,
        cum_quantity=cum_quantity,
        filled_value=order.filled_value + quantity * price,
        updated_at_ns=now_ns,
    )


def check_names(ask: Ask) -> None:
    """Without a usable key nothing can be stored, not even a refusal; and what is no symbol shall not be."""
    if not ask.client_order_id:
        raise refuse(Reason.MISSING_KEY, "client_order_id is missing")
    if len(ask.client_order_id) > KEY_CHARACTERS_MAX or not ask.client_order_id.isprintable():
        raise refuse(Reason.INVALID_KEY, f"client_order_id must be 1 to {KEY_CHARACTERS_MAX} printable characters")
    if not is_symbol(ask.symbol):
        raise refuse(Reason.INVALID_SYMBOL, f"{ask.symbol[:16]!r} is no symbol: one has capitals, as AAPL or BRK.B")


def check(ask: Ask, instruments: dict[str, Instrument], market_open: bool) -> Instrument:
    """The instrument, if no rule is broken; else Refusal with the first that is, in the order of reasons.py."""
    if ask.side not in list(Side):
        raise refuse(Reason.INVALID_SIDE, "side must be BUY or SELL")
    if ask.ord_type not in list(OrdType):
        raise refuse(Reason.UNSUPPORTED_ORDER_TYPE, "ord_type must be MARKET or LIMIT")
    if ask.time_in_force not in list(TimeInForce):
        raise refuse(Reason.UNSUPPORTED_TIME_IN_FORCE, "time_in_force must be DAY, GTC or IOC")
    if not 0 < ask.quantity <= QUANTITY_MAX:
        raise refuse(Reason.INVALID_QUANTITY, f"quantity must be from 1 to {QUANTITY_MAX} shares, not {ask.quantity}")
    instrument = _instrument(ask.symbol, instruments)
    _check_price(ask, instrument)
    if not market_open:
        raise refuse(Reason.MARKET_CLOSED, "the market is closed")
    return instrument


def _instrument(symbol: str, instruments: dict[str, Instrument]) -> Instrument:
    if not instruments:
        raise refuse(Reason.INSTRUMENTS_UNAVAILABLE, "market data is not there yet; try again in a moment")
    instrument = instruments.get(symbol)
    if instrument is None:
        raise refuse(Reason.UNKNOWN_SYMBOL, f"{symbol!r} is not listed", symbol=symbol)
    if instrument.halted:
        raise refuse(Reason.SYMBOL_HALTED, f"{symbol} is halted", symbol=symbol)
    return instrument


def _check_price(ask: Ask, instrument: Instrument) -> None:
    if ask.ord_type == OrdType.MARKET:
        if ask.limit_price:
            raise refuse(Reason.PRICE_ON_MARKET_ORDER, "a market order has no limit_price")
        return
    if ask.limit_price <= 0:
        raise refuse(Reason.MISSING_PRICE, "a limit order needs a positive limit_price")
    if ask.limit_price % instrument.tick:
        raise refuse(
            Reason.PRICE_OFF_TICK,
            f"limit_price must be a multiple of {to_decimal(instrument.tick)}",
            tick=str(instrument.tick),
        )
    _check_value(ask.quantity, ask.limit_price)


def _check_value(quantity: int, price: int) -> None:
    if quantity * price > VALUE_MAX:
        raise refuse(Reason.ORDER_TOO_LARGE, "the order's value exceeds 100 billion dollars")


def route_price(ask: Ask, tick: int, reference: int, collar_basis_points: int) -> int:
    """The limit that goes to the venue: the order's own, or for a market order the reference price plus a collar.

    A fill cannot be worse than it, so it cannot outrun its hold. Rounded to the tick, away from the reference.
    """
    if ask.ord_type == OrdType.LIMIT:
        return ask.limit_price
    collar = reference * collar_basis_points // BASIS_POINTS
    if ask.side == Side.BUY:
        price = -(-(reference + collar) // tick) * tick
    else:
        price = max((reference - collar) // tick * tick, tick)
    _check_value(ask.quantity, price)
    return price


def hold_of(ask: Ask, price: int, fees: FeeSchedule) -> tuple[str, int]:
    """(asset, amount) to set aside: cash at the worst price with the fees for a buy, the shares for a sell."""
    if ask.side == Side.SELL:
        return ask.symbol, ask.quantity
    return CASH, ask.quantity * price + fee_bound(fees, True, ask.quantity, price)


def adopted_price(ask: Ask, tick: int, asset: str, held: int, fresh: int, fees: FeeSchedule) -> int | None:
    """The price at which an order goes out on the hold of an earlier attempt; None if that hold was for other content.

    A market buy goes out at the price its hold was made for, if that is within today's collar.
    """
    market_buy = ask.side == Side.BUY and ask.ord_type == OrdType.MARKET
    price = price_covered(fees, ask.quantity, held) if market_buy else fresh
    fits = (asset, held) == hold_of(ask, price, fees) and price > 0 and price % tick == 0
    return price if fits and price <= fresh else None
