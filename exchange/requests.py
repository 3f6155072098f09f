"""What counterparties ask for: new orders, cancels, replaces. No I/O, no clock.

A venue with an answer delay acknowledges a request as pending first, and decides it later (`answer`); without one, it
decides at once and says nothing of pending.
"""

from collections import deque
from dataclasses import replace

from exchange.checks import (
    Terms,
    broken_replace,
    broken_rule,
    broken_target,
    broken_term,
    is_over,
    read_terms,
    telephoned,
)
from exchange.events import Outcome, Reduced
from exchange.market import Market, Pending
from exchange.orders import (
    CancelRequest,
    ExecType,
    NewOrder,
    Order,
    OrdStatus,
    ReplaceRequest,
    Restatement,
    Side,
)
from exchange.reasons import CancelRefusal, Refusal
from exchange.trading import settle, work

Change = CancelRequest | ReplaceRequest


def place(
    market: Market, session: str, request: NewOrder, outcome: Outcome, *, refused: bool = False, delayed: bool = False
) -> None:
    """A NewOrderSingle(D): a rejection, or the order's whole way until it rests or is done."""
    if (session, request.cl_ord_id) in market.names:
        _reject_duplicate(market, session, request, outcome)
        return
    order = market.create(session, request)
    if delayed:
        order.quantity = order.leaves = max(read_terms(request).shares or 0, 0)
        market.report(order, ExecType.PENDING_NEW, outcome)
        market.pending.append(Pending(session, request, refused, order, outcome.now_ns))
    else:
        _decide_order(market, order, refused, outcome)


def change(
    market: Market, session: str, request: Change, outcome: Outcome, *, refused: bool = False, delayed: bool = False
) -> None:
    """An OrderCancelRequest(F) or OrderCancelReplaceRequest(G)."""
    order = market.find(session, request.orig_cl_ord_id)
    if (session, request.cl_ord_id) in market.names:
        market.reject_cancel(session, request, order, CancelRefusal.DUPLICATE_CL_ORD_ID, outcome)
        return
    refusal = broken_target(request, order)
    market.names[session, request.cl_ord_id] = order
    if refusal or order is None:
        named = None if refusal is CancelRefusal.UNKNOWN else order
        market.reject_cancel(session, request, named, refusal or CancelRefusal.UNKNOWN, outcome)
    elif delayed:
        _acknowledge(market, session, request, order, refused, outcome)
    else:
        _decide_change(market, session, request, order, refused, outcome)


def answer(market: Market, outcome: Outcome) -> None:
    """Decides the request that has been pending longest."""
    pending = market.pending.popleft()
    order, request = pending.order, pending.body
    if isinstance(request, NewOrder):
        _decide_order(market, order, pending.refused, outcome)
        return
    order.waiting.remove(_kind(request))
    _decide_change(market, pending.session, request, order, pending.refused, outcome)


def disconnect(market: Market, session: str, outcome: Outcome) -> None:
    """Cancel on disconnect: of the session's orders none lives on, and what is not decided yet never will be."""
    dropped = [each for each in market.pending if each.session == session]
    market.pending = deque(each for each in market.pending if each.session != session)
    for pending in dropped:
        pending.order.waiting.clear()
        if isinstance(pending.body, NewOrder):
            _reject(market, pending.order, Refusal.DISCONNECTED, outcome)
    for order in [each for each in market.open.values() if each.comp_id == session]:
        market.end(order, OrdStatus.CANCELED, outcome, "cancelled on disconnect", Restatement.BROKER_OPTION)
    for pending in dropped:
        if not isinstance(pending.body, NewOrder):
            pending.order.last_name = pending.order.request.cl_ord_id
            market.reject_cancel(session, pending.body, pending.order, CancelRefusal.DISCONNECTED, outcome)
    market.departed[session] = market.latest.get(session, 0)
    for listing in market.listings.values():
        settle(market, listing, outcome)


def _acknowledge(market: Market, session: str, request: Change, order: Order, refused: bool, outcome: Outcome) -> None:
    kind = _kind(request)
    order.waiting.append(kind)
    order.last_name = request.cl_ord_id
    exec_type = ExecType.PENDING_CANCEL if kind == "F" else ExecType.PENDING_REPLACE
    market.report(order, exec_type, outcome, name=request.cl_ord_id, orig=order.request.cl_ord_id)
    market.pending.append(Pending(session, request, refused, order, outcome.now_ns))


def _decide_order(market: Market, order: Order, refused: bool, outcome: Outcome) -> None:
    terms = read_terms(order.request)
    refusal = broken_rule(market, order.comp_id, order.request, terms, outcome.now_ns)
    if refusal is Refusal.VERBAL_DUPLICATE:
        given = telephoned(market, order.comp_id, order.request, terms.shares)
        market.telephoned = [each for each in market.telephoned if each is not given]  # it explains one, not all
    if refusal or refused:
        _reject(market, order, refusal or Refusal.AT_RANDOM, outcome)
        return
    assert terms.shares is not None
    order.side = Side(order.request.side)
    order.quantity = order.leaves = terms.shares
    order.price, order.stop = terms.price, terms.stop
    market.expires(order, terms.expires_ns)
    order.accepted = True
    market.open[order.ref] = order
    market.todays.add(order.ref)
    market.report(order, ExecType.NEW, outcome)
    work(market, order, outcome)
    settle(market, market.listing_of(order), outcome)


def _reject(market: Market, order: Order, refusal: Refusal, outcome: Outcome) -> None:
    order.refusal = refusal
    order.end(OrdStatus.REJECTED)
    market.report(order, ExecType.REJECTED, outcome, text=refusal.text, refusal=refusal)


def _reject_duplicate(market: Market, session: str, request: NewOrder, outcome: Outcome) -> None:
    """Tells how the order stands whose name it is (FIX 4.2, Appendix D22), and does not touch it."""
    refusal = Refusal.DUPLICATE_CL_ORD_ID
    first = market.find(session, request.cl_ord_id)
    if first is None:  # the name of a cancel or replace of no order
        _reject(market, market.nameless(session, request), refusal, outcome)
    else:
        name = request.cl_ord_id
        market.report(first, ExecType.REJECTED, outcome, name=name, text=refusal.text, refusal=refusal)


def _decide_change(
    market: Market, session: str, request: Change, order: Order, refused: bool, outcome: Outcome
) -> None:
    refusal, text = _refusal(market, request, order, refused, outcome.now_ns)
    if refusal:
        market.reject_cancel(session, request, order, refusal, outcome, text)
    elif isinstance(request, CancelRequest):
        _cancel(market, request, order, outcome)
    else:
        _replace(market, request, order, read_terms(request), outcome)
    if not order.waiting:
        order.last_name = order.request.cl_ord_id


def _refusal(
    market: Market, request: Change, order: Order, refused: bool, now_ns: int
) -> tuple[CancelRefusal | None, str]:
    """Why the order stays as it is, and a text where the reason has none of its own."""
    if is_over(order, request):
        return CancelRefusal.TOO_LATE, ""
    if request.orig_cl_ord_id != order.request.cl_ord_id:
        return CancelRefusal.REPLACED, ""
    if isinstance(request, ReplaceRequest):
        listing = market.listing_of(order)
        refusal = broken_replace(market, listing, request, order, now_ns)
        if refusal:
            return refusal, ""
        broken = broken_term(request, read_terms(request), listing.instrument.tick, now_ns)
        if broken:
            return CancelRefusal.TERMS, broken.text
    return (CancelRefusal.AT_RANDOM if refused else None), ""


def _cancel(market: Market, request: CancelRequest, order: Order, outcome: Outcome) -> None:
    orig = order.request.cl_ord_id
    order.request = replace(order.request, cl_ord_id=request.cl_ord_id)
    market.finish(order, OrdStatus.CANCELED, outcome)
    market.report(order, ExecType.CANCELED, outcome, orig=orig)
    settle(market, market.listing_of(order), outcome)


def _replace(market: Market, request: ReplaceRequest, order: Order, terms: Terms, outcome: Outcome) -> None:
    """Less at the same price keeps its place; anything else goes to the end of the queue, and may trade at once. What
    is filled already cannot be taken back: asked for less than that, the order ends filled (FIX 4.2, Appendix D12)."""
    assert terms.shares is not None
    quantity = max(terms.shares, order.cum)
    leaves = quantity - order.cum
    lost = order.leaves - leaves
    waits = bool(order.book_ref) or (order.asleep and terms.stop == order.stop)
    stays = waits and leaves > 0 and lost >= 0 and terms.price == order.price
    orig = order.request.cl_ord_id
    if not stays:
        market.withdraw(order, outcome)
    elif lost and order.book_ref:
        _reduce(market, order, lost, outcome)
    order.request = _replaced(order.request, request, order.cum if quantity == order.cum else None)
    order.quantity, order.leaves, order.replaced = quantity, leaves, True
    order.price = terms.price
    market.expires(order, terms.expires_ns)
    order.stop = terms.stop if order.stop is not None else None  # reached once, it stays so
    if leaves:
        market.open[order.ref] = order
        order.marks.discard(OrdStatus.CALCULATED)
    else:
        order.end(OrdStatus.CANCELED)  # its balance; what it has makes it read Filled
        order.marks.clear()
    if order.ref not in market.todays:
        market.begin_day(order)  # filled on an earlier day
    market.report(order, ExecType.REPLACED, outcome, orig=orig)
    if leaves and not stays and not market.is_held(order):
        work(market, order, outcome)
    settle(market, market.listing_of(order), outcome)


def _reduce(market: Market, order: Order, shares: int, outcome: Outcome) -> None:
    listing = market.listing_of(order)
    listing.book.reduce(order.book_ref, shares)
    if order.displayed:
        outcome.feed.append(Reduced(listing.locate, order.book_ref, shares))


def _replaced(old: NewOrder, request: ReplaceRequest, filled: int | None) -> NewOrder:
    """The terms in force; `filled` when the order ends with what it has."""
    return replace(
        old,
        cl_ord_id=request.cl_ord_id,
        time_in_force=request.time_in_force,
        order_qty=request.order_qty if filled is None else str(filled),
        price=request.price,
        stop_px=request.stop_px,
        expire_date=request.expire_date,
        expire_time=request.expire_time,
    )


def _kind(request: Change) -> str:
    """MsgType(35)."""
    return "F" if isinstance(request, CancelRequest) else "G"
