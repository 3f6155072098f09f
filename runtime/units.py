"""Money, prices and quantities are integers; decimals exist only at the edges.

One unit of price or cash is 1/10,000 US dollar, so price x quantity is exact. Quantities are whole shares.
"""

import re
from decimal import Decimal, InvalidOperation

SCALE = 10_000
CASH = "$USD"  # the asset of cash: no ticker can be it (USD itself is one)
CHARACTERS_MAX = 24
MAX = 2**63 - 1  # what a PostgreSQL bigint and a protobuf int64 hold


_SYMBOL = re.compile(r"[A-Z][A-Z0-9.]{0,7}")


def is_symbol(text: str) -> bool:
    """Whether it can be a ticker: a capital, then up to seven capitals, digits or dots, as AAPL, BRK.B."""
    return _SYMBOL.fullmatch(text) is not None


def to_units(text: str) -> int:
    """'150.25' -> 1502500. ValueError if it is no decimal number, or finer than 1/10,000."""
    if len(text) > CHARACTERS_MAX:  # Decimal would round what has more digits than its context
        raise ValueError(f"a number of {len(text)} characters is too long")
    try:
        scaled = Decimal(text) * SCALE
    except InvalidOperation:
        raise ValueError(f"{text!r} is not a decimal number") from None
    if not scaled.is_finite() or abs(scaled) > MAX:
        raise ValueError(f"{text!r} is out of range")
    if scaled != scaled.to_integral_value():
        raise ValueError(f"{text!r} is finer than 1/10,000")
    return int(scaled)


def to_decimal(units: int) -> str:
    """1502500 -> '150.25': at least two decimals, at most four, never a float. What FIX prices and people see."""
    sign = "-" if units < 0 else ""
    whole, rest = divmod(abs(units), SCALE)
    return f"{sign}{whole}.{f'{rest:04d}'.rstrip('0').ljust(2, '0')}"


def to_dollars(units: int) -> str:
    """1502500 -> '150.25', 28000000 -> '2,800.00'. For people only."""
    whole, _, rest = to_decimal(units).partition(".")
    return f"{int(whole):,}.{rest}" if whole != "-0" else f"-0.{rest}"
