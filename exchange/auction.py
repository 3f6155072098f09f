"""The price of an auction. No I/O, no clock.

Prices are integers of 1/10,000 dollar, quantities whole shares. None is the price of an unpriced (market) order, which
takes part at any price.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple


class _Candidate(NamedTuple):
    price: int
    bought: int  # shares wanted at this price
    sold: int  # shares offered at it

    @property
    def volume(self) -> int:
        return min(self.bought, self.sold)

    @property
    def surplus(self) -> int:
        """Above 0 on the buy side, below 0 on the sell side."""
        return self.bought - self.sold


def clearing(
    bids: Sequence[tuple[int | None, int]], asks: Sequence[tuple[int | None, int]], reference: int, tick: int = 1
) -> tuple[int, int] | None:
    """The one price at which the (price, shares) of both sides execute, and how many shares do; None if none can.

    The prices compared are the multiples of `tick`, as limits and `reference` should be, from the lowest to the highest
    of these. One is chosen by the first of these rules that leaves only one:

    1. the most shares are executed;
    2. the surplus, what one side wants beyond the other, is least;
    3. if every price left has its surplus on the buy side the highest, on the sell side the lowest;
    4. the one nearest to `reference`.

    No fifth is needed, for two prices are never equally near: with rising prices less is wanted and more is offered, so
    rules 1 and 2 leave a run of prices without a gap. Unpriced orders alone execute at the reference.
    """
    candidates = _candidates(bids, asks, reference, tick)
    volume = max(each.volume for each in candidates)
    if not volume:
        return None
    candidates = [each for each in candidates if each.volume == volume]
    least = min(abs(each.surplus) for each in candidates)
    candidates = [each for each in candidates if abs(each.surplus) == least]
    return _by_price([each.price for each in candidates], {each.surplus for each in candidates}, reference), volume


def _by_price(prices: list[int], surpluses: set[int], reference: int) -> int:
    """Rules 3 and 4; `prices` ascend, and `reference` is one of them if it lies between."""
    if min(surpluses) > 0:
        return prices[-1]
    if max(surpluses) < 0:
        return prices[0]
    return min(max(reference, prices[0]), prices[-1])


def _candidates(
    bids: Iterable[tuple[int | None, int]], asks: Iterable[tuple[int | None, int]], reference: int, tick: int
) -> list[_Candidate]:
    """The prices among which the best one is, ascending."""
    wanted, offered = _by_limit(bids), _by_limit(asks)
    sold = offered.pop(None, 0)
    bought = wanted.total()
    candidates = []
    for price in _prices({price for price in (*wanted, *offered, reference) if price is not None}, reference, tick):
        sold += offered[price]
        candidates.append(_Candidate(price, bought, sold))
        bought -= wanted[price]
    return candidates


def _by_limit(levels: Iterable[tuple[int | None, int]]) -> Counter[int | None]:
    total: Counter[int | None] = Counter()
    for price, shares in levels:
        total[price] += shares
    return total


def _prices(limits: set[int], reference: int, tick: int) -> list[int]:
    """Limits and reference, ascending, and from each gap between two of them the price nearest to the reference.

    A price in a gap can be the best: a bid at the gap's lower end and an ask at its upper end each make a surplus that
    is not there in between. All prices in a gap execute the same shares with the same surplus, so only rule 4 chooses
    among them. Where rule 3 decides, an end of the gap does as well as what is in it, and goes before it.
    """
    ascending = sorted(limits)
    prices = ascending[:1]
    for lower, upper in pairwise(ascending):
        lowest = (lower // tick + 1) * tick
        highest = (upper - 1) // tick * tick
        if lowest <= highest:
            prices.append(lowest if reference <= lower else highest)
        prices.append(upper)
    return prices
