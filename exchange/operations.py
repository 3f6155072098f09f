"""What the venue's operator does by hand: halts, busts, corrections, unasked changes of orders. No I/O, no clock.

Each first looks whether it can be done, and raises ActRefused before anything has changed.
"""

from dataclasses import replace
from typing import Final

from exchange.acts import (
    ActRefused,
    Bust,
    Cancel,
    Correct,
    Halt,
    Mark,
    Release,
    Restate,
    Resume,
    Split,
    Telephone,
    Trade,
)
from exchange.checks import CARRIED_MAX
from exchange.events import Broken, Outcome, Phase, Reduced, Traded, TradingState
from exchange.market import Listing, Market
from exchange.orders import (
    GOOD_TILL_CANCEL,
    GOOD_TILL_DATE,
    ExecType,
    Execution,
    Order,
    OrdStatus,
    Restatement,
    Side,
    TransType,
)
from exchange.phases import is_past, revive
from exchange.requests import place
from exchange.trading import settle, uncross, work
from runtime.units import to_decimal

_LASTING: Final = (GOOD_TILL_CANCEL, GOOD_TILL_DATE)
TRADES_AGAIN: Final = "it would trade again at once"
_MARKS: Final = (OrdStatus.STOPPED, OrdStatus.SUSPENDED, OrdStatus.CALCULATED, OrdStatus.DONE_FOR_DAY)


def halt(market: Market, act: Halt, outcome: Outcome) -> None:
    listing = _listing(market, act.symbol)
    _refuse_unless(not listing.halted, f"{act.symbol} is halted already")
    _set_halted(listing, True, outcome)


def resume(market: Market, act: Resume, outcome: Outcome) -> None:
    listing = _listing(market, act.symbol)
    _refuse_unless(listing.halted, f"{act.symbol} is not halted")
    _set_halted(listing, False, outcome)
    if market.phase is Phase.OPEN:
        uncross(market, listing, "H", outcome)
        settle(market, listing, outcome)


def bust(market: Market, act: Bust, outcome: Outcome) -> None:
    """What was taken from an order that still lives comes back to it."""
    listing, sides = _standing(market, act.exec_id)
    del market.sides[sides[0].match]
    outcome.feed.append(Broken(listing.locate, sides[0].match))
    for side in sides:
        _refill(market, side, 0, 0, outcome)
        market.report(
            side.order,
            ExecType.PARTIAL_FILL,
            outcome,
            trans_type=TransType.BUST,
            ref_id=side.exec_id,
            match=side.match,
        )
    _bring_back(market, listing, sides, outcome)


def correct(market: Market, act: Correct, outcome: Outcome) -> None:
    listing, sides = _standing(market, act.exec_id)
    _refuse_bad_numbers(listing, act.shares, act.price)
    for side in sides:
        room = side.order.quantity - side.order.cum + side.last_shares
        _refuse_unless(act.shares <= room, f"{side.order.order_id} has room for {room} shares")
    del market.sides[sides[0].match]
    match = market.next_match()
    outcome.feed.append(Broken(listing.locate, sides[0].match))
    symbol, aggressor = listing.instrument.symbol, sides[0].order.side
    outcome.feed.append(Traded(listing.locate, symbol, aggressor, act.shares, act.price, match))
    for side in sides:
        _refill(market, side, act.shares, act.price, outcome)
        _report_trade(market, side.order, act.shares, act.price, match, outcome, side)
    _bring_back(market, listing, sides, outcome)


def trade(market: Market, act: Trade, outcome: Outcome) -> None:
    order = _order(market, act.order_id)
    _refuse_unless(order.accepted, f"{act.order_id} is {order.status.name}")
    listing = market.listing_of(order)
    _refuse_bad_numbers(listing, act.shares, act.price)
    room = order.quantity - order.cum
    _refuse_unless(act.shares <= room, f"{act.order_id} has room for {room} shares")
    match = market.next_match()
    listing.last = act.price
    outcome.feed.append(Traded(listing.locate, listing.instrument.symbol, order.side, act.shares, act.price, match))
    if order.ended is None:
        _resize(market, order, -act.shares, outcome)
    order.cum += act.shares
    order.notional += act.shares * act.price
    _report_trade(market, order, act.shares, act.price, match, outcome, None)
    settle(market, listing, outcome)


def cancel(market: Market, act: Cancel, outcome: Outcome) -> None:
    order = _open_order(market, act.order_id)
    market.end(order, OrdStatus.CANCELED, outcome, "cancelled by the venue", Restatement.VERBAL)
    settle(market, market.listing_of(order), outcome)


def restate(market: Market, act: Restate, outcome: Outcome) -> None:
    order = _open_order(market, act.order_id)
    listing = market.listing_of(order)
    price = act.price or order.price
    reasons = (Restatement.VERBAL, Restatement.REPRICING, Restatement.BROKER_OPTION, Restatement.PARTIAL_DECLINE)
    _refuse_unless(act.reason in reasons, f"reason must be one of {', '.join(reasons)}")
    _refuse_unless(
        max(order.cum, 1) <= act.quantity <= CARRIED_MAX, f"{order.cum} shares of {act.order_id} are filled already"
    )
    _refuse_unless(not act.price or order.price is not None, f"{act.order_id} has no limit price")
    if act.price:
        _refuse_bad_numbers(listing, act.quantity, act.price)
    if price != order.price:
        market.withdraw(order, outcome)
        order.price = price
        order.request = replace(order.request, price=to_decimal(act.price))
    _resize(market, order, act.quantity - order.quantity, outcome)
    order.quantity = act.quantity
    order.request = replace(order.request, order_qty=str(act.quantity))
    market.report(order, ExecType.RESTATED, outcome, why=Restatement(act.reason))
    _return(market, order, outcome)
    settle(market, listing, outcome)


def mark(market: Market, act: Mark, outcome: Outcome) -> None:
    order = _order(market, act.order_id)
    _refuse_unless(act.what in _MARKS, f"what must be one of {', '.join(_MARKS)}")
    status = OrdStatus(act.what)
    wants_open = status is not OrdStatus.CALCULATED
    _refuse_unless(order.accepted and order.is_open == wants_open, f"{act.order_id} is {order.status.name}")
    _refuse_unless(status not in order.marks, f"{act.order_id} is {order.status.name} already")
    if status is OrdStatus.DONE_FOR_DAY and order.request.time_in_force not in _LASTING:
        market.finish(order, status, outcome)
    else:
        order.marks.add(status)
    if status in (OrdStatus.SUSPENDED, OrdStatus.DONE_FOR_DAY):
        market.withdraw(order, outcome)
    market.report(order, ExecType(act.what), outcome, text=act.text)
    settle(market, market.listing_of(order), outcome)


def release(market: Market, act: Release, outcome: Outcome) -> None:
    order = _open_order(market, act.order_id)
    _refuse_unless(OrdStatus.SUSPENDED in order.marks, f"{act.order_id} is not suspended")
    order.marks.remove(OrdStatus.SUSPENDED)
    market.report(order, ExecType.RESTATED, outcome, why=Restatement.BROKER_OPTION)
    _return(market, order, outcome)
    settle(market, market.listing_of(order), outcome)


def split(market: Market, act: Split, outcome: Outcome) -> None:
    listing = _listing(market, act.symbol)
    _refuse_unless(market.phase is Phase.CLOSED, "only while the market is closed")
    pending = any(each.order.request.symbol == act.symbol for each in market.pending)
    _refuse_unless(not pending, f"a request for {act.symbol} is pending")
    _refuse_unless(0 < act.new <= 100 and 0 < act.old <= 100 and act.new != act.old, "new and old: 1 to 100, unequal")
    lasting = [
        order
        for order in market.orders.values()
        if order.request.symbol == act.symbol and order.request.time_in_force in _LASTING
    ]
    orders = sorted((order for order in lasting if order.ref in market.open), key=lambda order: order.place)
    for order in orders:
        _refuse_unless(_splits(order, listing, act), f"{order.order_id} does not come out even")
    last, price = (_split_price(each, listing, act) for each in (listing.last, listing.instrument.price))
    for order in lasting:
        order.split_at = len(market.reports)  # filled ones too: their trades were of the old shares
    listing.last = last  # before stop orders look at it
    for order in orders:
        _split_order(market, order, act, outcome)
    market.requote(listing, price, outcome)


def telephone(market: Market, act: Telephone, outcome: Outcome) -> None:
    _refuse_unless(not act.order.cl_ord_id, "an order by telephone has no ClOrdID(11)")
    place(market, act.comp_id, act.order, outcome)
    order = outcome.reports[0]
    if isinstance(order, Execution) and order.order.accepted:
        market.telephoned.append(order.order)


def _refuse_unless(fine: bool, text: str) -> None:
    if not fine:
        raise ActRefused(text)


def _listing(market: Market, symbol: str) -> Listing:
    listing = market.listings.get(symbol)
    if listing is None:
        raise ActRefused(f"{symbol} is not traded here")
    return listing


def _order(market: Market, order_id: str) -> Order:
    order = market.order(order_id)
    if order is None:
        raise ActRefused(f"no order {order_id}")
    return order


def _open_order(market: Market, order_id: str) -> Order:
    order = _order(market, order_id)
    _refuse_unless(order.is_open, f"{order_id} is {order.status.name}")
    return order


def _standing(market: Market, exec_id: str) -> tuple[Listing, list[Execution]]:
    """The executions of the trade that `exec_id` is a side of: one, or one for the buyer and one for the seller."""
    done = market.execution(exec_id)
    if done is None or not done.last_shares:
        raise ActRefused(f"{exec_id} is no trade's ExecID(17)")
    numbers = market.sides.get(done.match, [])
    _refuse_unless(done.number in numbers, f"{exec_id} was busted or corrected already")
    sides = [each for each in (market.reports[number - 1] for number in numbers) if isinstance(each, Execution)]
    for side in sides:
        _refuse_unless(side.number > side.order.split_at, f"{side.order.order_id} was split since")
    return market.listing_of(done.order), sides


def _refuse_bad_numbers(listing: Listing, shares: int, price: int) -> None:
    _refuse_unless(0 < shares <= CARRIED_MAX, "shares must be positive")
    good = 0 < price <= CARRIED_MAX and price % listing.instrument.tick == 0
    _refuse_unless(good, "the price must be a positive multiple of the tick")


def _set_halted(listing: Listing, halted: bool, outcome: Outcome) -> None:
    listing.halted = halted
    outcome.feed.append(TradingState(listing.locate, listing.instrument.symbol, halted))
    outcome.notices.append(listing.instrument.symbol)


def _refill(market: Market, side: Execution, shares: int, price: int, outcome: Outcome) -> None:
    """The order has these shares of the trade instead of those it had."""
    order = side.order
    more = shares - side.last_shares
    notional = shares * price - side.last_shares * side.last_px
    if order.ended is None:
        _resize(market, order, -more, outcome)
        order.marks.discard(OrdStatus.CALCULATED)  # it was not of this
    order.cum += more
    order.notional += notional
    if _first(market, side).number < order.renewed_at:
        order.base_cum += more
        order.base_notional += notional


def _first(market: Market, done: Execution) -> Execution:
    """The execution that this one corrects, or corrects a correction of: it happened on that one's day."""
    while done.exec_ref_id:
        corrected = market.execution(done.exec_ref_id)
        assert corrected is not None
        done = corrected
    return done


def _report_trade(
    market: Market, order: Order, shares: int, price: int, match: int, outcome: Outcome, instead: Execution | None
) -> None:
    done = market.report(
        order,
        ExecType.FILL if order.cum == order.quantity else ExecType.PARTIAL_FILL,
        outcome,
        trans_type=TransType.CORRECT if instead else TransType.NEW,
        ref_id=instead.exec_id if instead else "",
        shares=shares,
        price=price,
        match=match,
    )
    market.sides.setdefault(match, []).append(done.number)


def _resize(market: Market, order: Order, more: int, outcome: Outcome) -> None:
    """Changes what is left of an order. Less keeps its place in the book, more leaves it for `_return`."""
    if order.book_ref and more < 0 < order.leaves + more:
        listing = market.listing_of(order)
        listing.book.reduce(order.book_ref, -more)
        if order.displayed:
            outcome.feed.append(Reduced(listing.locate, order.book_ref, -more))
    elif order.book_ref and more:
        market.withdraw(order, outcome)
    order.leaves += more
    if order.asleep and not order.leaves:
        market.withdraw(order, outcome)


def _bring_back(market: Market, listing: Listing, sides: list[Execution], outcome: Outcome) -> None:
    """What a bust or correction gave back to orders that nobody had ended goes to market, with what they had left: the
    one that had been resting first. One that would trade at once ends instead, or nothing would have been undone."""
    kept: list[Order] = []
    for side in reversed(sides):
        if side.order.is_open and not side.order.asleep:
            _bring_one_back(market, listing, side.order, kept, outcome)
            kept.append(side.order)
    settle(market, listing, outcome)


def _bring_one_back(market: Market, listing: Listing, order: Order, kept: list[Order], outcome: Outcome) -> None:
    is_new = order.ref not in market.open
    if order.book_ref or (market.is_held(order) and not is_new):
        return
    ends = is_new and is_past(market, order, outcome.now_ns)
    if not ends and order.stop is None and order.price is not None and _would_trade(listing, order, order.price, kept):
        market.end(order, OrdStatus.CANCELED, outcome, TRADES_AGAIN, Restatement.BROKER_OPTION)
    elif is_new:
        revive(market, order, outcome)
    else:
        work(market, order, outcome)


def _would_trade(listing: Listing, order: Order, price: int, kept: list[Order]) -> bool:
    """`kept`: the other side, which may be waiting for its next day and so not be in the book."""
    sign = 1 if order.side is Side.BUY else -1
    meets = any(each.is_open and each.price is not None and sign * (price - each.price) >= 0 for each in kept)
    return meets or listing.book.crosses(order.side, price)


def _return(market: Market, order: Order, outcome: Outcome) -> None:
    """To market, unless it is there or is kept from it."""
    if order.is_open and not order.book_ref and not order.asleep and not market.is_held(order):
        work(market, order, outcome)


def _splits(order: Order, listing: Listing, act: Split) -> bool:
    shares = (order.quantity, order.cum, order.base_cum)
    prices = [price for price in (order.price, order.stop) if price is not None]
    tick = listing.instrument.tick
    return (
        all(number * act.new % act.old == 0 for number in shares)
        and order.quantity * act.new // act.old <= CARRIED_MAX
        and all(price * act.old % (act.new * tick) == 0 for price in prices)
        and all(price * act.old // act.new <= CARRIED_MAX for price in prices)
    )


def _split_price(price: int, listing: Listing, act: Split) -> int:
    """On the tick. ActRefused if it, or the house's liquidity around it, is more than the feed can carry."""
    instrument = listing.instrument
    tick = instrument.tick
    after = max(price * act.old // act.new // tick, 1) * tick
    furthest = (instrument.first_level_ticks + instrument.levels * instrument.level_step_ticks) * tick
    _refuse_unless(after + furthest <= CARRIED_MAX, "the price would be too high")
    return after


def _split_order(market: Market, order: Order, act: Split, outcome: Outcome) -> None:
    market.withdraw(order, outcome)
    order.quantity = order.quantity * act.new // act.old
    order.cum = order.cum * act.new // act.old
    order.base_cum = order.base_cum * act.new // act.old
    order.leaves = order.quantity - order.cum
    order.price = order.price * act.old // act.new if order.price is not None else None
    order.stop = order.stop * act.old // act.new if order.stop is not None else None
    order.request = replace(
        order.request,
        order_qty=str(order.quantity),
        price=to_decimal(order.price) if order.price is not None else "",
        stop_px=to_decimal(order.stop) if order.stop is not None else order.request.stop_px,
    )
    market.report(order, ExecType.RESTATED, outcome, why=Restatement.CORPORATE_ACTION)
    _return(market, order, outcome)
