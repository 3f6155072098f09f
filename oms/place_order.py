"""PlaceOrder: check, hold, accept. Two commits before the answer: the ledger's hold, then the order.

Where a kill hurts: between the two. The client's retry finds the hold again by its key and goes on with it; if no retry
comes, the sweep gives the order id up and releases the hold.
"""

import time
from collections.abc import Callable

from oms.holds import ATTEMPTS_MAX, Held, Holds
from oms.orders import Ask, Instrument, Order, OrdType, Side, adopted_price, check, hold_of, route_price
from oms.prices import Prices
from oms.reasons import RULES, Reason
from oms.writer import Accept, Answer, Item, Recall, Refuse
from runtime import crash, ids, telemetry
from runtime.batch import Batcher
from runtime.errors import Refusal, Unknown
from runtime.fees import FeeSchedule

HOLD_SECONDS_MAX = 10.0


class PlaceOrder:
    def __init__(
        self,
        writer: Batcher[Item, Answer],
        holds: Holds,
        prices: Prices,
        collar_basis_points: int,
        fees: FeeSchedule,
        market_open: Callable[[int], bool],
    ) -> None:
        self._writer, self._holds, self._prices = writer, holds, prices
        self._collar_basis_points, self._fees, self._market_open = collar_basis_points, fees, market_open

    async def __call__(
        self, ask: Ask, customer_id: str, request_hash: bytes, trace: telemetry.Trace, seconds: float | None
    ) -> Order:
        """The accepted order, of this attempt or an earlier one. Refusal, stored unless a retry can help."""
        received_at_ns = time.time_ns()
        try:
            instrument = check(ask, self._prices.instruments, self._market_open(received_at_ns))
            price = self._price(ask, instrument)
            held, price, trace = await self._hold(ask, instrument, price, request_hash, trace, seconds)
        except Known as known:
            return known.order
        except Refusal as refusal:
            return await self._refused(ask, refusal, request_hash)
        crash.point("oms.hold_committed")
        order = Order(
            held.order_id,
            customer_id,
            ask,
            price,
            held.hold_id,
            received_at_ns,
            received_at_ns,
            trace.trace_id,
            telemetry.span_id("accept", held.order_id),
            trace.parent_span_id,
        )
        return _order(await self._writer.submit(Accept(order, request_hash)))

    async def _refused(self, ask: Ask, refusal: Refusal, request_hash: bytes) -> Order:
        """The first answer to the key, if there is one; else raises the refusal, stored unless a retry can help."""
        rule = RULES.get(refusal.reason)  # type: ignore[call-overload]  # other rooms' reasons are strings
        if rule is not None and not rule.retry_helps:
            return _order(await self._writer.submit(Refuse(ask, refusal, request_hash)))
        answer = await self._writer.submit(Recall(ask, request_hash))
        if answer is None:
            raise refusal
        return _order(answer)

    def _price(self, ask: Ask, instrument: Instrument) -> int:
        reference = 0
        if ask.ord_type == OrdType.MARKET:
            reference = self._prices.reference(ask.symbol, Side(ask.side))
        return route_price(ask, instrument.tick, reference, self._collar_basis_points)

    async def _hold(
        self,
        ask: Ask,
        instrument: Instrument,
        price: int,
        request_hash: bytes,
        trace: telemetry.Trace,
        seconds: float | None,
    ) -> tuple[Held, int, telemetry.Trace]:
        """(hold, price to route at, trace): a new hold, or the one an earlier attempt left, with the trace it began.

        Known if that attempt succeeded.
        """
        deadline = min(seconds or HOLD_SECONDS_MAX, HOLD_SECONDS_MAX)
        asset, amount = hold_of(ask, price, self._fees)
        for attempt in range(ATTEMPTS_MAX):
            order_id = ids.new_order_id(time.time_ns())
            key = f"{ask.client_order_id}/{attempt}"
            traceparent = telemetry.format_traceparent(trace.trace_id, telemetry.span_id("accept", order_id))
            try:
                held = await self._holds.place(ask.account_id, key, order_id, asset, amount, traceparent, deadline)
                return held, price, trace
            except Refusal as refusal:
                if refusal.reason != Reason.KEY_REUSED:
                    raise
            answer = await self._writer.submit(Recall(ask, request_hash))
            if answer is not None:
                raise Known(_order(answer))
            left = await self._holds.find(ask.account_id, key, deadline)
            adopted = left and self._adopt(ask, instrument, price, *left, trace)
            if adopted:
                return adopted
        raise Unknown("too many earlier attempts under this key; use another client_order_id")

    def _adopt(
        self, ask: Ask, instrument: Instrument, price: int, held: Held, trace_id: bytes, trace: telemetry.Trace
    ) -> tuple[Held, int, telemetry.Trace] | None:
        """The order goes on in the trace that its hold is in; a retry that started another one joins it there."""
        adopted = adopted_price(ask, instrument.tick, held.asset, held.amount, price, self._fees)
        if adopted is None:
            return None
        return held, adopted, trace if trace.trace_id == trace_id else telemetry.Trace(trace_id, None)


class Known(Exception):
    """An earlier attempt was accepted: its order is the answer."""

    def __init__(self, order: Order) -> None:
        super().__init__(order.order_id)
        self.order = order


def _order(answer: Answer) -> Order:
    assert isinstance(answer, Order)  # refusals are raised by submit
    return answer
