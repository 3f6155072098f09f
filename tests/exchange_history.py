"""What killed venues leave behind, and what a journal alone says of the book."""

import time
from pathlib import Path
from typing import Any

from exchange.config import Config, conduct, instruments, opening_hours
from exchange.journal import Journal
from exchange.market import Market
from exchange.orders import NewOrder, Side
from exchange.recovery import recover
from exchange.venue import Venue
from runtime.units import to_decimal
from tests.exchange_process import VenueProcess


def decide(data_dir: Path, *cl_ord_ids: str, session: str = "OPENBELL") -> None:
    """What a venue leaves that is killed after the journal and before any store: of each order New and Fill."""
    data_dir.mkdir(parents=True, exist_ok=True)
    journal = Journal(data_dir / "journal.jsonl", "XSIM", time.time_ns())
    try:
        recovered = recover(Market(journal.header.feed_session), journal.records(), lambda _, __: None)
        config = Config()
        venue = Venue(recovered, journal, lambda _, __: None, opening_hours(config), conduct(config), time.time_ns)
        venue.open(instruments(config), time.time_ns())
        for cl_ord_id in cl_ord_ids:
            request = NewOrder(cl_ord_id, "acc", "AAPL", "1", "1", "0", "10", "", "")
            venue.receive(session, request, time.time_ns())
        venue.flush()
        venue.publish()
    finally:
        journal.close()


def replayed_book(venue: VenueProcess) -> dict[str, Any]:
    """The book of AAPL by the journal alone, as the operator's `book` shows it."""
    header, *records = venue.records()
    market = recover(Market(header["feed_session"]), records, lambda _, __: None).market
    orders = market.listings["AAPL"].book.orders
    return {
        side.name.lower(): [
            {
                "price": to_decimal(price or 0),
                "shares": shares,
                "order_id": market.resting[ref].order_id if ref in market.resting else "",
            }
            for price, ref, shares in orders(side)
        ]
        for side in Side
    }
