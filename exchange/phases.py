"""What the hours of the day do: calls, auctions, what ends at the close and what is renewed. No I/O, no clock."""

from heapq import heappop
from typing import Final

from exchange.checks import is_late
from exchange.events import Hours, Outcome, Phase
from exchange.market import Market
from exchange.orders import (
    AT_THE_OPENING,
    FILL_OR_KILL,
    GOOD_TILL_CANCEL,
    GOOD_TILL_DATE,
    IMMEDIATE_OR_CANCEL,
    ExecType,
    Order,
    OrdStatus,
    Restatement,
)
from exchange.times import end_of_day
from exchange.trading import settle, uncross, work

_AT_ONCE: Final = (IMMEDIATE_OR_CANCEL, FILL_OR_KILL)
_LASTING: Final = (GOOD_TILL_CANCEL, GOOD_TILL_DATE)


def enter(market: Market, phase: Phase, trade_date: str, outcome: Outcome) -> None:
    """The venue goes over to `phase` of `trade_date` (YYYY-MM-DD). An auction ends each call; a new date ends the day
    before, whatever the operator has left out."""
    outcome.notices.append("")
    if market.phase is not Phase.CLOSED and (phase is Phase.CLOSED or trade_date != market.trade_date):
        _end(market, outcome)
    before, market.trade_date = market.phase, trade_date
    if phase is Phase.CLOSED:
        return
    if before is Phase.CLOSED:
        _begin(market, outcome)  # still closed: what comes back gathers with the others for the auction
    market.phase = phase
    if phase is Phase.OPEN:
        outcome.feed.append(Hours(begin=True))
        _hold_auctions(market, "O", outcome)
        _end_those_for_the_opening(market, outcome)
    for listing in market.listings.values():
        settle(market, listing, outcome)


def expire(market: Market, outcome: Outcome) -> None:
    """GTD orders whose time has come."""
    while (due_ns := next_expiry_ns(market)) is not None and due_ns <= outcome.now_ns:
        _, ref = heappop(market.expiries)
        order = market.open[ref]
        market.end(order, OrdStatus.EXPIRED, outcome)
        settle(market, market.listing_of(order), outcome)


def revive(market: Market, order: Order, outcome: Outcome) -> None:
    """An order that was filled has shares left again, as a trade was busted or corrected. It comes back to market, if
    its time has not passed; what was to execute at once or not at all ends."""
    unpriced = order.price is None and order.stop is None
    if unpriced or order.request.time_in_force in _AT_ONCE or market.is_departed(order):
        market.end(order, OrdStatus.CANCELED, outcome)
    elif is_past(market, order, outcome.now_ns):
        market.end(order, OrdStatus.EXPIRED, outcome)
    else:
        _reopen(market, order, outcome)


def next_expiry_ns(market: Market) -> int | None:
    """When the next GTD order ends."""
    while market.expiries:
        expires_ns, ref = market.expiries[0]
        order = market.open.get(ref)
        if order is not None and order.expires_ns == expires_ns:
            return expires_ns
        heappop(market.expiries)
    return None


def _hold_auctions(market: Market, kind: str, outcome: Outcome) -> None:
    for listing in market.listings.values():
        if not listing.halted:
            uncross(market, listing, kind, outcome)


def _end_those_for_the_opening(market: Market, outcome: Outcome) -> None:
    for order in list(market.open.values()):
        if order.request.time_in_force == AT_THE_OPENING:
            market.end(order, OrdStatus.EXPIRED, outcome)


def _end(market: Market, outcome: Outcome) -> None:
    before, market.phase = market.phase, Phase.CLOSED
    if before is Phase.PRE_CLOSE:
        _hold_auctions(market, "C", outcome)
    outcome.feed.append(Hours(begin=False))
    _close(market, outcome)


def _begin(market: Market, outcome: Outcome) -> None:
    """The house is there before anybody else, so that it takes part in the auction. Not so where orders gather unseen
    from the day before: shown now, it would seem to stand ahead of them."""
    for listing in market.listings.values():
        if not listing.hidden:
            market.show_house(listing, outcome)
    _renew(market, outcome)


def _close(market: Market, outcome: Outcome) -> None:
    """Orders of the day expire. Those that last are done for the day, keep their place, and are renewed."""
    market.telephoned.clear()
    day_ends_ns = _midnight_after(market.trade_date)
    for order in list(market.open.values()):
        if not _lasts_beyond(order, day_ends_ns):
            market.end(order, OrdStatus.EXPIRED, outcome)
        elif OrdStatus.DONE_FOR_DAY not in order.marks:
            _end_day(market, order, outcome)


def _midnight_after(trade_date: str) -> int:
    day_ends_ns = end_of_day(trade_date.replace("-", ""))
    assert day_ends_ns is not None
    return day_ends_ns


def _lasts_beyond(order: Order, day_ends_ns: int) -> bool:
    ends_ns = order.expires_ns
    return order.request.time_in_force in _LASTING and (ends_ns is None or ends_ns > day_ends_ns)


def _end_day(market: Market, order: Order, outcome: Outcome) -> None:
    order.marks.add(OrdStatus.DONE_FOR_DAY)
    market.report(order, ExecType.DONE_FOR_DAY, outcome)


def _renew(market: Market, outcome: Outcome) -> None:
    market.todays.clear()
    for order in sorted(market.open.values(), key=lambda order: order.place):  # those a split took out come back so
        market.begin_day(order)
        market.report(order, ExecType.RESTATED, outcome, why=Restatement.RENEWAL)
        if not order.book_ref and not order.asleep and not market.is_held(order):
            work(market, order, outcome)


def is_past(market: Market, order: Order, now_ns: int) -> bool:
    """Whether a filled order could no longer be open."""
    if order.expires_ns is not None and order.expires_ns <= now_ns:
        return True
    if market.phase is Phase.CLOSED:
        return not _lasts_beyond(order, _midnight_after(market.trade_date))
    return is_late(market, order, now_ns)


def _reopen(market: Market, order: Order, outcome: Outcome) -> None:
    market.open[order.ref] = order
    market.expires(order, order.expires_ns)
    if market.phase is Phase.CLOSED:
        if OrdStatus.DONE_FOR_DAY not in order.marks:
            _end_day(market, order, outcome)
        return
    if order.ref not in market.todays:
        market.begin_day(order)
        market.report(order, ExecType.RESTATED, outcome, why=Restatement.RENEWAL)
    if not market.is_held(order):
        work(market, order, outcome)
