"""What the venue lists, as reference data."""

from dataclasses import dataclass
from typing import Final

from marketdata.book import Listing
from runtime.units import SCALE

_PENNY: Final = SCALE // 100
_SUB_PENNY: Final = 1


@dataclass(frozen=True, slots=True)
class Instrument:
    """One line of the list. `tick` is in units of 1/10,000 dollar."""

    symbol: str
    tick: int
    round_lot: int
    halted: bool


def instrument(listing: Listing) -> Instrument:
    """ITCH has no tick: SEC rule 612 gives it, a cent from 1 dollar on and 1/10,000 dollar below.

    The price that decides is the last trade's, else the best bid's, else the best offer's; without any, a cent.
    """
    price = listing.last_price or listing.bids.best or listing.asks.best
    tick = _SUB_PENNY if 0 < price < SCALE else _PENNY
    return Instrument(listing.symbol, tick, listing.round_lot, listing.halted)


def page_after(listings: dict[str, Listing], last_symbol: str, size: int) -> tuple[list[Instrument], bool]:
    """At most `size` instruments behind `last_symbol`, by symbol, and whether more follow."""
    symbols = sorted(symbol for symbol in listings if symbol > last_symbol)
    return [instrument(listings[symbol]) for symbol in symbols[:size]], len(symbols) > size
