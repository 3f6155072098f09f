"""The book: tables of messages and the quote they come to, and any stream against a book without cleverness."""

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketdata.book import Market
from marketdata.instruments import Instrument, instrument, page_after
from tests import itch_wire as wire
from tests.itch_wire import AAPL, GOOGL, OPENING

BEST = (149_9900, 1000, 150_0100, 1000)  # of AAPL after OPENING

# What happens after OPENING; best bid, its quantity, best offer, its quantity; last price and quantity.
SCENARIOS = {
    "nothing": ([], BEST, (0, 0)),
    "a better bid is the best": ([wire.add(AAPL, 9, b"B", 7, 150_0000)], (150_0000, 7, 150_0100, 1000), (0, 0)),
    "an attributed order counts": (
        [wire.add_attributed(AAPL, 9, b"S", 7, 150_0000)],
        (149_9900, 1000, 150_0000, 7),
        (0, 0),
    ),
    "a worse offer changes nothing": ([wire.add(AAPL, 9, b"S", 7, 150_0200)], BEST, (0, 0)),
    "orders at one price add up": (
        [wire.add(AAPL, 9, b"S", 7, 150_0100)],
        (149_9900, 1000, 150_0100, 1007),
        (0, 0),
    ),
    "an execution trades at the order's price": (
        [wire.executed(AAPL, 2, 300)],
        (149_9900, 1000, 150_0100, 700),
        (150_0100, 300),
    ),
    "an order executed whole is gone": ([wire.executed(AAPL, 2, 1000)], (149_9900, 1000, 0, 0), (150_0100, 1000)),
    "an execution may name its price": (
        [wire.executed_at(AAPL, 2, 300, 150_0050)],
        (149_9900, 1000, 150_0100, 700),
        (150_0050, 300),
    ),
    "an execution that is not printable is no trade": (
        [wire.executed_at(AAPL, 2, 300, 150_0050, b"N")],
        (149_9900, 1000, 150_0100, 700),
        (0, 0),
    ),
    "a cancel takes its shares": ([wire.cancelled(AAPL, 1, 400)], (149_9900, 600, 150_0100, 1000), (0, 0)),
    "a delete takes the order": ([wire.deleted(AAPL, 1)], (0, 0, 150_0100, 1000), (0, 0)),
    "the next level becomes the best": (
        [wire.add(AAPL, 9, b"B", 7, 149_9800), wire.deleted(AAPL, 1)],
        (149_9800, 7, 150_0100, 1000),
        (0, 0),
    ),
    "a level may come back": (
        [wire.deleted(AAPL, 1), wire.add(AAPL, 9, b"B", 7, 149_9900)],
        (149_9900, 7, 150_0100, 1000),
        (0, 0),
    ),
    "a replace moves the order and keeps its side": (
        [wire.replaced(AAPL, 1, 9, 200, 149_9500), wire.cancelled(AAPL, 9, 50)],
        (149_9500, 150, 150_0100, 1000),
        (0, 0),
    ),
    "a hidden order's trade leaves the book": ([wire.hidden_trade(AAPL, 60, 150_0000)], BEST, (150_0000, 60)),
    "a cross is a trade": ([wire.cross(AAPL, 5000, 150_0000)], BEST, (150_0000, 5000)),
    "a cross of nothing is none": ([wire.cross(AAPL, 0, 0)], BEST, (0, 0)),
}


def market_after(*messages: bytes) -> Market:
    market = Market(Counter(), Counter())
    for message in (*OPENING, *messages):
        market.apply(message)
    return market


def best(market: Market, symbol: str) -> tuple[int, int, int, int]:
    listing = market.listings[symbol]
    return listing.bids.best, listing.bids.quantity, listing.asks.best, listing.asks.quantity


def last(market: Market, symbol: str) -> tuple[int, int]:
    return market.listings[symbol].last_price, market.listings[symbol].last_quantity


@pytest.mark.parametrize(("messages", "quote", "trade"), SCENARIOS.values(), ids=SCENARIOS)
def test_each_message_has_its_effect_on_the_quote(
    messages: list[bytes], quote: tuple[int, int, int, int], trade: tuple[int, int]
) -> None:
    market = market_after(*messages)
    assert best(market, "AAPL") == quote
    assert last(market, "AAPL") == trade
    assert best(market, "GOOGL") == (2799_9900, 500, 2800_0100, 500)
    assert not any(listing.doubtful for listing in market.listings.values())


CONTRADICTIONS = {
    "execution of an unknown order": wire.executed(AAPL, 99, 1),
    "cancel of an unknown order": wire.cancelled(AAPL, 99, 1),
    "delete of an unknown order": wire.deleted(AAPL, 99),
    "replace of an unknown order": wire.replaced(AAPL, 99, 100, 1, 1),
    "replace by a known order": wire.replaced(AAPL, 1, 2, 1, 1),
    "more shares executed than there are": wire.executed(AAPL, 2, 1001),
    "execution of no shares": wire.executed(AAPL, 2, 0),
    "a reference used twice": wire.add(AAPL, 1, b"B", 1, 149_9900),
    "an order without shares": wire.add(AAPL, 9, b"B", 0, 149_9900),
    "an order without a price": wire.add(AAPL, 9, b"B", 1, 0),
    "a side that is none": wire.add(AAPL, 9, b"?", 1, 149_9900),
    "a trade of nothing": wire.hidden_trade(AAPL, 0, 150_0000),
    "a message that is too short": wire.add(AAPL, 9, b"B", 1, 149_9900)[:-1],
    "a message that is too long": wire.deleted(AAPL, 1) + b" ",
}


@pytest.mark.parametrize("message", CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_a_message_that_contradicts_the_book_puts_its_symbol_in_doubt_and_no_other(message: bytes) -> None:
    counts: Counter[str] = Counter()
    market = Market(counts, Counter())
    for each in (*OPENING, message):
        market.apply(each)
    assert market.listings["AAPL"].doubtful
    assert not market.listings["GOOGL"].doubtful
    assert counts["contradictory"] + counts["misshapen"] == 1


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"A",
        wire.add(99, 9, b"B", 1, 1),
        wire.hidden_trade(99, 1, 1),
        wire.cross(99, 1, 1),
        wire.trading(99, "NONE"),
        wire.itch("L", AAPL, b"x" * 15),
    ],
)
def test_a_message_of_no_known_symbol_or_type_disturbs_nothing(message: bytes) -> None:
    counts: Counter[str] = Counter()
    skipped: Counter[int] = Counter()
    market = Market(counts, skipped)
    for each in (*OPENING, message):
        market.apply(each)
    assert best(market, "AAPL") == BEST
    assert not any(listing.doubtful for listing in market.listings.values())
    assert counts.total() + skipped.total() == 1


def test_a_symbol_is_halted_until_it_is_said_to_trade() -> None:
    market = Market(Counter(), Counter())
    market.apply(wire.directory(AAPL, "AAPL"))
    assert market.listings["AAPL"].halted
    market.apply(wire.trading(AAPL, "AAPL"))
    assert not market.listings["AAPL"].halted
    market.apply(wire.trading(AAPL, "AAPL", b"H"))
    assert market.listings["AAPL"].halted


def test_a_system_event_sets_the_phase() -> None:
    assert market_after(wire.system_event(b"Q")).phase == "Q"


def test_a_change_below_the_best_price_is_not_told() -> None:
    market = market_after()
    market.changed.clear()
    market.apply(wire.add(AAPL, 9, b"B", 7, 149_0000))
    market.apply(wire.deleted(AAPL, 9))
    assert not market.changed
    market.apply(wire.executed(GOOGL, 3, 1))
    assert market.changed == {"GOOGL"}


def test_a_level_that_comes_and_goes_leaves_nothing_behind() -> None:
    market = market_after()
    for reference in range(100, 1100):
        market.apply(wire.add(AAPL, reference, b"B", 1, 140_0000))
        market.apply(wire.deleted(AAPL, reference))
    assert len(market.listings["AAPL"].bids._heap) <= 2
    assert market.orders.keys() == {1, 2, 3, 4}


@pytest.mark.parametrize(("price", "tick"), [(9_999, 1), (1_0000, 100), (150_0000, 100)])
def test_the_tick_is_a_cent_from_one_dollar_on(price: int, tick: int) -> None:
    market = market_after(wire.hidden_trade(AAPL, 1, price))
    assert instrument(market.listings["AAPL"]) == Instrument("AAPL", tick, 100, False)


def test_the_tick_of_a_symbol_without_a_price_is_a_cent() -> None:
    market = Market(Counter(), Counter())
    market.apply(wire.directory(AAPL, "AAPL", 40))
    assert instrument(market.listings["AAPL"]) == Instrument("AAPL", 100, 40, True)


def test_pages_by_symbol_leave_nothing_out() -> None:
    market = market_after(*(wire.directory(locate, f"S{locate:03}") for locate in range(10, 20)))
    seen, after, more = list[str](), "", True
    while more:
        page, more = page_after(market.listings, after, 5)
        assert 0 < len(page) <= 5
        seen += [item.symbol for item in page]
        after = seen[-1]
    assert seen == sorted(market.listings)


@dataclass
class PlainBook:
    """The same rules by walking over all orders."""

    orders: dict[int, tuple[bool, int, int]] = field(default_factory=dict)  # is a bid, price, shares

    def best(self) -> tuple[int, int, int, int]:
        bids = [price for is_bid, price, _ in self.orders.values() if is_bid]
        asks = [price for is_bid, price, _ in self.orders.values() if not is_bid]
        bid, ask = max(bids, default=0), min(asks, default=0)
        return bid, self._shares(True, bid), ask, self._shares(False, ask)

    def _shares(self, wanted: bool, at: int) -> int:
        return sum(shares for is_bid, price, shares in self.orders.values() if is_bid == wanted and price == at)


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[bytes], list[tuple[int, int, int, int]]]:
    """Messages about AAPL that fit each other, and the best prices after each."""
    book, messages, quotes = PlainBook(), list[bytes](), list[tuple[int, int, int, int]]()
    for reference in range(10, 10 + draw(st.integers(1, 40))):
        act = draw(st.sampled_from("AAAEXDU")) if book.orders else "A"
        price, shares = draw(st.integers(100, 108)), draw(st.integers(1, 9))
        if act == "A":
            is_bid = draw(st.booleans())
            messages.append(wire.add(AAPL, reference, b"B" if is_bid else b"S", shares, price))
            book.orders[reference] = (is_bid, price, shares)
        else:
            messages.append(_change(draw(st.sampled_from(sorted(book.orders))), act, reference, price, shares, book))
        quotes.append(book.best())
    return messages, quotes


def _change(old: int, act: str, reference: int, price: int, shares: int, book: PlainBook) -> bytes:
    is_bid, old_price, old_shares = book.orders.pop(old)
    if act == "U":
        book.orders[reference] = (is_bid, price, shares)
        return wire.replaced(AAPL, old, reference, shares, price)
    if act == "D":
        return wire.deleted(AAPL, old)
    taken = min(shares, old_shares)
    if taken < old_shares:
        book.orders[old] = (is_bid, old_price, old_shares - taken)
    return wire.executed(AAPL, old, taken) if act == "E" else wire.cancelled(AAPL, old, taken)


@given(streams())
def test_any_stream_gives_the_best_prices_of_a_plain_book_and_tells_each_change(
    stream: tuple[list[bytes], list[tuple[int, int, int, int]]],
) -> None:
    market = Market(Counter(), Counter())
    market.apply(wire.directory(AAPL, "AAPL"))
    before = (0, 0, 0, 0)
    for message, quote in zip(*stream, strict=True):
        market.changed.clear()
        market.apply(message)
        assert best(market, "AAPL") == quote
        assert quote == before or market.changed == {"AAPL"}
        before = quote
