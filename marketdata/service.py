"""MarketDataService: decode, call, encode."""

import time
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

import grpc

from marketdata.book import Quote
from marketdata.instruments import Instrument, page_after
from marketdata.plant import Plant
from marketdata.reasons import refusal
from marketdata.subscribers import Subscribers
from openbell.marketdata.v1 import marketdata_pb2 as pb
from openbell.marketdata.v1 import marketdata_pb2_grpc
from runtime import pages

HEARTBEAT_SECONDS: Final = 1.0

_SERVICE: Final = "/openbell.marketdata.v1.MarketDataService/"
SCOPES: Final = {_SERVICE + method: "read" for method in ("GetQuote", "SubscribeQuotes", "ListInstruments")}

Context = grpc.aio.ServicerContext[Any, Any]


class MarketDataService(marketdata_pb2_grpc.MarketDataServiceServicer):
    """Answers from the plant's memory; nothing here waits for the venue."""

    def __init__(self, plant: Plant, subscribers: Subscribers) -> None:
        self._plant = plant
        self._subscribers = subscribers

    async def GetQuote(self, request: pb.GetQuoteRequest, context: Context) -> pb.GetQuoteResponse:
        self._require_known([request.symbol])
        return pb.GetQuoteResponse(quote=self._quote(request.symbol))

    async def SubscribeQuotes(
        self, request: pb.SubscribeQuotesRequest, context: Context
    ) -> AsyncIterator[pb.SubscribeQuotesResponse]:
        """While a client is slow to take an update, further changes gather, the latest per symbol."""
        symbols = frozenset(request.symbols)
        self._require_known(symbols)
        with self._subscribers.subscribed(symbols) as subscription:
            yield self._update(sorted(symbols or self._plant.market.listings))
            while True:
                yield self._update(await subscription.changes(HEARTBEAT_SECONDS))

    async def ListInstruments(self, request: pb.ListInstrumentsRequest, context: Context) -> pb.ListInstrumentsResponse:
        size = pages.size(request.page_size)
        (after,) = pages.key("ListInstruments", request.page_token, ("",))
        self._require_ready()
        page, more = page_after(self._plant.market.listings, str(after), size)
        return pb.ListInstrumentsResponse(
            instruments=[_instrument(instrument) for instrument in page],
            next_page_token=pages.token("ListInstruments", (page[-1].symbol,)) if more else "",
        )

    def _require_known(self, symbols: Iterable[str]) -> None:
        unknown = next((symbol for symbol in symbols if symbol not in self._plant.market.listings), None)
        if unknown is None:
            return
        self._require_ready()
        raise refusal("UNKNOWN_SYMBOL", f"the venue lists no {unknown[:20]!r}", symbol=unknown[:20])

    def _require_ready(self) -> None:
        if not self._plant.ready:
            raise refusal("FEED_NOT_READY", "the venue's list of symbols is not complete yet; ask again")

    def _quote(self, symbol: str) -> pb.Quote:
        return _encode(self._plant.quote(symbol, time.monotonic_ns()))

    def _update(self, symbols: Iterable[str]) -> pb.SubscribeQuotesResponse:
        return pb.SubscribeQuotesResponse(quotes=[self._quote(symbol) for symbol in symbols])


def _encode(quote: Quote) -> pb.Quote:
    return pb.Quote(
        symbol=quote.symbol,
        bid_price=quote.bid_price,
        bid_quantity=quote.bid_quantity,
        ask_price=quote.ask_price,
        ask_quantity=quote.ask_quantity,
        last_price=quote.last_price,
        last_quantity=quote.last_quantity,
        changed_at_ns=quote.changed_at_ns,
        stale=quote.stale,
    )


def _instrument(instrument: Instrument) -> pb.Instrument:
    return pb.Instrument(
        symbol=instrument.symbol,
        tick=instrument.tick,
        round_lot=instrument.round_lot,
        halted=instrument.halted,
    )
