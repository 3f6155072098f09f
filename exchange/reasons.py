"""Why the venue refuses: one table for orders, one for cancels and replaces.

FIX 4.2 knows OrdRejReason(103) 0 to 8 and CxlRejReason(102) 0 to 3 only; what has no code there is 0 and 2 (broker
option), and Text(58) tells.
"""

from enum import Enum


class Refusal(Enum):
    """OrdRejReason(103) and Text(58)."""

    DUPLICATE_CL_ORD_ID = (6, "ClOrdID(11) was used before")
    VERBAL_DUPLICATE = (7, "the order was given by telephone already")
    UNKNOWN_SYMBOL = (1, "Symbol(55) is not traded here")
    MARKET_CLOSED = (2, "the market is closed")
    HALTED = (2, "trading in this symbol is halted")
    SIDE_UNSUPPORTED = (0, "Side(54) must be 1 (buy) or 2 (sell)")
    ORD_TYPE_UNSUPPORTED = (0, "OrdType(40) must be 1 (market), 2 (limit), 3 (stop) or 4 (stop limit)")
    TIME_IN_FORCE_UNSUPPORTED = (
        0,
        "TimeInForce(59) must be 0 (day), 1 (GTC), 2 (OPG), 3 (IOC), 4 (FOK) or 6 (GTD)",
    )
    STOP_MUST_WAIT = (0, "a stop order is DAY, GTC or GTD")
    TOO_LATE_FOR_OPENING = (4, "orders for the opening (OPG) are taken before it only")
    QUANTITY_INVALID = (0, "OrderQty(38) must be a positive whole number of shares")
    QUANTITY_TOO_LARGE = (3, "OrderQty(38) is more than 4,294,967,295 shares")
    PRICE_MISSING = (0, "a limit order needs Price(44)")
    PRICE_ON_MARKET_ORDER = (0, "a market order has no Price(44)")
    PRICE_NOT_POSITIVE = (0, "Price(44) must be positive")
    PRICE_OFF_TICK = (0, "Price(44) is not a multiple of the tick")
    PRICE_TOO_HIGH = (3, "Price(44) is more than 429,496.7295")
    STOP_PX_MISSING = (0, "a stop order needs StopPx(99)")
    STOP_PX_NOT_ALLOWED = (0, "only a stop order has StopPx(99)")
    STOP_PX_INVALID = (0, "StopPx(99) must be a positive multiple of the tick, at most 429,496.7295")
    EXPIRY_MISSING = (0, "a GTD order needs ExpireDate(432) or ExpireTime(126)")
    EXPIRY_NOT_ALLOWED = (0, "only a GTD order has ExpireDate(432) or ExpireTime(126)")
    EXPIRY_INVALID = (0, "ExpireDate(432) and ExpireTime(126) must be a date and a time")
    EXPIRED_ALREADY = (4, "ExpireDate(432) or ExpireTime(126) has passed")
    DISCONNECTED = (0, "the session ended before the order was decided")
    AT_RANDOM = (0, "refused at random, as this venue is configured")
    UNKNOWN_ORDER = (5, "no order has this ClOrdID(11)")

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        self.text = text


class CancelRefusal(Enum):
    """CxlRejReason(102) and Text(58)."""

    TOO_LATE = (0, "the order is done")
    UNKNOWN = (1, "no order has this OrigClOrdID(41)")
    REPLACED = (1, "OrigClOrdID(41) is not the order's present ClOrdID")
    OTHER_ORDER_ID = (1, "OrderID(37) is not this order's")
    OTHER_SYMBOL = (1, "Symbol(55) is not this order's")
    OTHER_SIDE = (1, "Side(54) is not this order's")
    OTHER_ACCOUNT = (2, "Account(1) cannot be changed")
    OTHER_ORD_TYPE = (2, "OrdType(40) cannot be changed")
    OTHER_TIME_IN_FORCE = (2, "TimeInForce(59) can be changed among DAY, GTC and GTD only")
    DUPLICATE_CL_ORD_ID = (2, "ClOrdID(11) was used before")
    PENDING = (3, "another request for this order is pending")
    SUSPENDED = (2, "the order is suspended")
    HALTED = (2, "trading in this symbol is halted")
    MARKET_CLOSED = (2, "the market is closed: an order can be cancelled, not replaced")
    DISCONNECTED = (2, "the session ended before the request was decided")
    AT_RANDOM = (2, "refused at random, as this venue is configured")
    TERMS = (2, "")  # the new terms break a rule for orders: the text is that rule's

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        self.text = text
