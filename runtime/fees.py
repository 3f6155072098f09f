"""Fees of a trade by a schedule, pure. The OMS holds the most they can come to; the ledger posts what they are."""

from dataclasses import dataclass
from typing import Final

from runtime.settings import SettingsError
from runtime.units import SCALE

MILLION: Final = 1_000_000 * SCALE  # a million dollars, in units
# A hundred dollars a share, all of the principal: what is beyond is mistyped, and would overflow with large orders.
MOST: Final = {"per_share": 100 * SCALE, "buy_per_million": MILLION, "sell_per_million": MILLION}


@dataclass(frozen=True)
class FeeSchedule:
    """[fees], in 1/10,000 dollar. SettingsError for a value below zero or beyond MOST.

    A fee per million is what a million dollars of principal (quantity x price) costs: 27.80 dollars are 278_000.
    """

    per_share: int = 0  # of buys and sells
    buy_per_million: int = 0
    sell_per_million: int = 0  # as SEC section 31

    def __post_init__(self) -> None:
        for name, most in MOST.items():
            value = getattr(self, name)
            if not 0 <= value <= most:
                raise SettingsError(f"openbell.toml: [fees] {name} must be from 0 to {most}, not {value}")

    def per_million(self, buys: bool) -> int:
        return self.buy_per_million if buys else self.sell_per_million


def fee(schedule: FeeSchedule, buys: bool, quantity: int, price: int) -> int:
    """Of one fill, in 1/10,000 dollar; the part by principal is rounded up."""
    by_principal = -(-quantity * price * schedule.per_million(buys) // MILLION)
    return quantity * schedule.per_share + by_principal


def fee_bound(schedule: FeeSchedule, buys: bool, quantity: int, price: int) -> int:
    """The most that `quantity` shares at up to `price` can cost in fees, filled in whatever parts.

    Each part is rounded up by itself, so single shares cost most.
    """
    return quantity * fee(schedule, buys, 1, price)


def price_covered(schedule: FeeSchedule, quantity: int, cash: int) -> int:
    """The highest price at which `cash` pays for `quantity` shares and their fee_bound; not positive if none does."""
    a_share = cash // quantity - schedule.per_share
    return a_share * MILLION // (MILLION + schedule.buy_per_million)
