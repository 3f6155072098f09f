"""Reference prices and instruments, kept from the market data service's stream."""

import asyncio
import time

import grpc
import structlog

from oms.orders import Instrument, Side
from oms.reasons import Reason, refuse
from openbell.marketdata.v1 import marketdata_pb2 as pb
from openbell.marketdata.v1 import marketdata_pb2_grpc
from runtime import connect

RETRY_SECONDS = 0.5
INSTRUMENTS_SECONDS = 30.0

log = structlog.get_logger()


class Prices:
    def __init__(self, channel: grpc.aio.Channel, token: str, age_seconds_max: float) -> None:
        self._stub = marketdata_pb2_grpc.MarketDataServiceStub(channel)
        self._metadata = connect.metadata(token)
        self._age_ns_max = int(age_seconds_max * 1e9)
        self._quotes: dict[str, pb.Quote] = {}
        self._heard_at_ns = 0
        self.instruments: dict[str, Instrument] = {}

    def reference(self, symbol: str, side: Side) -> int:
        """What a market order is priced by: the best price of the other side, else the last trade."""
        quote = self._quotes.get(symbol)
        if quote is None or quote.stale or time.monotonic_ns() - self._heard_at_ns > self._age_ns_max:
            raise refuse(Reason.REFERENCE_PRICE_MISSING, f"no fresh price of {symbol}; try again", symbol=symbol)
        price = (quote.ask_price if side == Side.BUY else quote.bid_price) or quote.last_price
        if not price:
            raise refuse(Reason.REFERENCE_PRICE_MISSING, f"nobody quotes {symbol}; place a limit order", symbol=symbol)
        return price

    async def run(self) -> None:
        """Follows the stream for ever; what is kept grows stale by itself when the stream is gone."""
        while True:
            try:
                await self._list_instruments()
                await self._follow()
            except grpc.aio.AioRpcError as error:
                log.info("market data unreachable", status=error.code().name)
            await asyncio.sleep(RETRY_SECONDS)

    async def _follow(self) -> None:
        listed_at = time.monotonic()
        async for update in self._stub.SubscribeQuotes(pb.SubscribeQuotesRequest(), metadata=self._metadata):
            self._heard_at_ns = time.monotonic_ns()
            for quote in update.quotes:
                self._quotes[quote.symbol] = quote
            if not self.instruments or time.monotonic() - listed_at > INSTRUMENTS_SECONDS:
                await self._list_instruments()
                listed_at = time.monotonic()

    async def _list_instruments(self) -> None:
        found: dict[str, Instrument] = {}
        request = pb.ListInstrumentsRequest(page_size=500)
        while True:
            page = await self._stub.ListInstruments(request, metadata=self._metadata, timeout=5)
            found |= {row.symbol: Instrument(row.symbol, row.tick, row.halted) for row in page.instruments}
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        self.instruments = found
