"""`openbell quotes`: what the venue lists, and at what prices."""

from openbell.marketdata.v1 import marketdata_pb2 as pb
from ops.client import Client, operator
from ops.options import DEFAULT_DATA, Data, Json, print_json
from ops.show import console, table
from runtime.units import to_decimal, to_dollars

NUMBERS = ("bid", "bid size", "ask", "ask size", "last")


def quotes(data: Data = DEFAULT_DATA, as_json: Json = False) -> None:
    """Show every symbol with its best prices."""
    client = operator(data)
    request, found = pb.ListInstrumentsRequest(page_size=500), []
    while True:
        page = client.call(client.marketdata.ListInstruments, request)
        found += [_quote(client, row.symbol) for row in page.instruments]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    if as_json:
        print_json([_row(quote) for quote in found])
        return
    rows = table("symbol", *NUMBERS, "", right=NUMBERS)
    for quote in found:
        sizes = str(quote.bid_quantity), str(quote.ask_quantity)
        bid, ask, last = (to_dollars(price) for price in (quote.bid_price, quote.ask_price, quote.last_price))
        rows.add_row(quote.symbol, bid, sizes[0], ask, sizes[1], last, "stale" if quote.stale else "")
    console().print(rows if found else "the venue lists nothing")


def _quote(client: Client, symbol: str) -> pb.Quote:
    found: pb.Quote = client.call(client.marketdata.GetQuote, pb.GetQuoteRequest(symbol=symbol)).quote
    return found


def _row(quote: pb.Quote) -> dict[str, str | int | bool]:
    return {
        "symbol": quote.symbol,
        "bid": to_decimal(quote.bid_price),
        "bid_size": quote.bid_quantity,
        "ask": to_decimal(quote.ask_price),
        "ask_size": quote.ask_quantity,
        "last": to_decimal(quote.last_price),
        "stale": quote.stale,
    }
