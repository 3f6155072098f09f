"""Why the venue refuses an order: OrdRejReason(103) and Text(58), one table.

FIX 4.2 knows the codes 0 to 8 only; what it has no code for is 0 (broker option), and the text tells.
"""

from enum import Enum


class Refusal(Enum):
    """A broken rule. None of them can be cured by sending the same order again, except MARKET_CLOSED."""

    DUPLICATE_CL_ORD_ID = (6, "ClOrdID(11) was used before")
    UNKNOWN_SYMBOL = (1, "Symbol(55) is not traded here")
    MARKET_CLOSED = (2, "the market is closed")
    SIDE_UNSUPPORTED = (0, "Side(54) must be 1 (buy) or 2 (sell)")
    ORD_TYPE_UNSUPPORTED = (0, "OrdType(40) must be 1 (market) or 2 (limit)")
    TIME_IN_FORCE_UNSUPPORTED = (0, "TimeInForce(59) must be 0 (day), 1 (GTC) or 3 (IOC)")
    QUANTITY_INVALID = (0, "OrderQty(38) must be a positive whole number of shares")
    QUANTITY_TOO_LARGE = (3, "OrderQty(38) is more than 4,294,967,295 shares")
    PRICE_MISSING = (0, "a limit order needs Price(44)")
    PRICE_ON_MARKET_ORDER = (0, "a market order has no Price(44)")
    PRICE_NOT_POSITIVE = (0, "Price(44) must be positive")
    PRICE_OFF_TICK = (0, "Price(44) is not a multiple of the tick")
    PRICE_TOO_HIGH = (3, "Price(44) is more than 429,496.7295")
    UNKNOWN_ORDER = (5, "no order has this ClOrdID(11)")

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        self.text = text
