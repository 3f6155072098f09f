"""How an accepted order trades: at once while the market is open, at one price when a call ends. No I/O, no clock."""

from typing import Final

from exchange.book import Fill
from exchange.events import Crossed, ExecutedAt, Outcome
from exchange.market import Listing, Market
from exchange.orders import (
    FILL_OR_KILL,
    IMMEDIATE_OR_CANCEL,
    Order,
    OrdStatus,
    Restatement,
    Side,
)

SELF_TRADE: Final = "it would have traded with an order of the same account"
_IMMEDIATE: Final = (IMMEDIATE_OR_CANCEL, FILL_OR_KILL)


def work(market: Market, order: Order, outcome: Outcome) -> None:
    """Brings an accepted order to market: it waits for its stop price, gathers for an auction, or trades and rests."""
    listing = market.listing_of(order)
    if order.stop is not None and not _has_reached(order, listing.last):
        market.wait(order)
        return
    order.stop = None  # reached once, it is an order like others
    if not market.is_call(listing):
        _match(market, listing, order, outcome)
    elif order.request.time_in_force in _IMMEDIATE:
        market.end(order, OrdStatus.CANCELED, outcome)
    else:
        market.rest(order, outcome, shown=False)


def settle(market: Market, listing: Listing, outcome: Outcome) -> None:
    """After whatever traded: stop orders whose price was reached come to market, oldest first, which may wake others;
    then the house shows again what was used up."""
    while not market.is_call(listing) and (reached := listing.stops.reached(listing.last)):
        for ref in reached:
            order = market.orders[ref]
            order.asleep, order.stop = False, None
            _match(market, listing, order, outcome)
    market.replenish(listing, outcome)


def uncross(market: Market, listing: Listing, kind: str, outcome: Outcome) -> None:
    """The auction that ends a call: all that can trade does, at one price; what is left is shown, market orders end."""
    crossed = listing.book.uncross(listing.last, listing.instrument.tick)
    if crossed:
        listing.last = crossed.price
        match = 0
        for trade in crossed.trades:
            match = market.next_match()
            for ref, left in ((trade.buy, trade.buy_left), (trade.sell, trade.sell_left)):
                if _is_shown(market, ref):
                    outcome.feed.append(ExecutedAt(listing.locate, ref, trade.shares, match, crossed.price))
                fill = Fill(ref, crossed.price, trade.shares, left)
                market.fill_resting(listing, fill, match, outcome)
        symbol = listing.instrument.symbol
        outcome.feed.append(Crossed(listing.locate, symbol, crossed.shares, crossed.price, match, kind))
    for order in list(listing.hidden.values()):  # in the order in which they came
        if order.price is None:
            market.end(order, OrdStatus.CANCELED, outcome)
        else:
            market.show(order, outcome)


def _match(market: Market, listing: Listing, order: Order, outcome: Outcome) -> None:
    book, side, price = listing.book, order.side, order.price
    kills = order.request.time_in_force == FILL_OR_KILL
    if not kills or book.takeable(side, price, order.leaves, order.owner) == order.leaves:
        for fill in book.take(side, price, order.leaves, order.owner):
            market.trade(order, fill, listing, outcome)
    if not order.leaves:
        return
    own = _meets(listing, order) and not kills
    if own:
        market.end(order, OrdStatus.CANCELED, outcome, SELF_TRADE, Restatement.BROKER_OPTION)
    elif price is None or order.request.time_in_force in _IMMEDIATE:
        market.end(order, OrdStatus.CANCELED, outcome)
    else:
        market.rest(order, outcome, shown=True)


def _meets(listing: Listing, order: Order) -> bool:
    """Whether there is still something to trade with: then it is the same owner's, or taking would not have ended."""
    if order.price is not None:
        return listing.book.crosses(order.side, order.price)
    return listing.book.best(Side.SELL if order.side is Side.BUY else Side.BUY) is not None


def _has_reached(order: Order, last: int) -> bool:
    assert order.stop is not None
    return last >= order.stop if order.side is Side.BUY else last <= order.stop


def _is_shown(market: Market, ref: int) -> bool:
    order = market.resting.get(ref)
    return order.displayed if order else True  # the house's always are
