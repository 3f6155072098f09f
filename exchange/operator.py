"""The operator's socket: one JSON object a line in, one a line out. `operate.py` is its command.

A Unix socket in `data_dir` that only the venue's own user can open. A request names an `act`: one of `rules.OPERATOR`
with its words, and perhaps a `key` by which it is done once however often it is given; `phase`; or a question
(`status`, `book`, `orders`, `reports`). Prices are decimal strings.
"""

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Final

import structlog

from exchange.acts import ActRefused, Telephone
from exchange.config import Config
from exchange.events import Phase
from exchange.journal import row_of
from exchange.orders import NewOrder, Order, Side
from exchange.rules import OPERATOR
from exchange.venue import Venue
from runtime.units import SCALE, to_decimal, to_units

SOCKET_NAME: Final = "operator.sock"
PATIENCE_SECONDS: Final = 0.5  # for a client that is slow to ask or to read; the sessions wait as long
REQUEST_BYTES_MAX: Final = 65536
ROWS_MAX: Final = 1000  # of one answer; `after` asks for the next

log = structlog.get_logger()

Words = dict[str, Any]


class Operator:
    """Answers one request a connection, in the sessions' thread."""

    def __init__(self, venue: Venue, flush: Callable[[], None], config: Config, clock: Callable[[], int]) -> None:
        self._venue = venue
        self._traders = {party.comp_id for party in config.counterparties if not party.copies}
        self._flush = flush
        self._clock = clock
        self._questions: dict[str, Callable[[Words], Words]] = {
            "status": self._status,
            "book": self._book,
            "orders": self._orders,
            "reports": self._reports,
            "phase": self._phase,
        }
        self.listener = _listen(config.data_dir / SOCKET_NAME)

    def serve(self) -> None:
        """To be called when `listener` can be read."""
        try:
            connection, _ = self.listener.accept()
        except OSError as problem:  # it has gone again, or no descriptor is left
            log.warning("an operator cannot be served", problem=str(problem))
            return
        with connection:
            try:
                answer = self._answer(_read_line(connection))
                self._flush()  # nothing is said before the journal has it
                connection.settimeout(PATIENCE_SECONDS)
                connection.sendall(json.dumps(answer).encode() + b"\n")
            except TimeoutError:
                log.warning("an operator is too slow")
            except ConnectionError as problem:
                log.warning("an operator left", problem=str(problem))

    def _answer(self, line: bytes) -> Words:
        try:
            with _understanding():
                words = json.loads(line)
                act = words.pop("act")
                question = self._questions.get(act)
            return question(words) if question else self._operate(act, words)
        except ActRefused as refused:
            return {"refused": str(refused)}

    def _operate(self, act: str, words: Words) -> Words:
        if act not in OPERATOR:
            raise ActRefused(f"no act {act}: one of {', '.join((*OPERATOR, *self._questions))}")
        with _understanding():
            key = _word("key", str, words.pop("key", ""))
            body = _body(OPERATOR[act].body, words)
        if isinstance(body, Telephone) and body.comp_id not in self._traders:
            raise ActRefused(f"comp_id must be one of {', '.join(sorted(self._traders))}")
        reports = self._venue.operate(act, body, self._clock(), key)
        log.info("the operator acts", act=act, key=key, **words)
        return {"done": act, "reports": [row_of(each) for each in reports]}

    def _phase(self, words: Words) -> Words:
        with _understanding():
            phase = Phase[words["name"].upper()]
        self._venue.enter(phase, self._clock())
        log.info("the operator acts", act="phase", phase=phase.name)
        return self._status({})

    def _status(self, _: Words) -> Words:
        market = self._venue.market
        return {
            "phase": market.phase.name,
            "trade_date": market.trade_date,
            "halted": [symbol for symbol, listing in market.listings.items() if listing.halted],
            "last": {symbol: to_decimal(listing.last) for symbol, listing in market.listings.items()},
            "open_orders": len(market.open),
            "pending": len(market.pending),
            "reports": len(market.reports),
        }

    def _book(self, words: Words) -> Words:
        """Both sides, best first: whose each order is ("" the house), what is left of it, at which price."""
        market = self._venue.market
        with _understanding():
            symbol = words["symbol"]
            listing = market.listings.get(symbol)
        if listing is None:
            raise ActRefused(f"{symbol} is not traded here")
        return {
            side.name.lower(): [
                {
                    "price": to_decimal(price) if price is not None else None,
                    "shares": shares,
                    "order_id": market.resting[ref].order_id if ref in market.resting else "",
                }
                for price, ref, shares in listing.book.orders(side)
            ]
            for side in Side
        }

    def _orders(self, words: Words) -> Words:
        """Open orders, by their number."""
        after = _after(words)
        found = [order for ref, order in sorted(self._venue.market.open.items()) if ref > after][:ROWS_MAX]
        return {"orders": [_order_row(each) for each in found], "after": found[-1].ref if found else None}

    def _reports(self, words: Words) -> Words:
        """Everything ever reported, executions and cancel rejects, by number."""
        after = _after(words)
        found = self._venue.market.reports[after : after + ROWS_MAX]
        return {"reports": [row_of(each) for each in found], "after": found[-1].number if found else None}


@contextmanager
def _understanding() -> Iterator[None]:
    """Around what reads a request, and never around what acts: a rule that fails must not be taken for a bad word."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        raise ActRefused(f"not understood: {problem!r}") from None


def _after(words: Words) -> int:
    with _understanding():
        return max(0, int(str(words.get("after", 0))))


def _order_row(order: Order) -> Words:
    request = order.request
    return {
        "order_id": order.order_id,
        "comp_id": order.comp_id,
        "cl_ord_id": request.cl_ord_id,
        "account": request.account,
        "symbol": request.symbol,
        "side": request.side,
        "ord_status": order.status,
        "quantity": order.quantity,
        "cum_qty": order.cum,
        "leaves_qty": order.leaves,
        "price": to_decimal(order.price) if order.price is not None else None,
    }


def _body(kind: type, words: Words) -> Any:
    """The words of an act as its type has them. ValueError, KeyError or TypeError if they do not fit."""
    if kind is Telephone:
        comp_id = _word("comp_id", str, words.pop("comp_id"))
        return Telephone(comp_id, _body(NewOrder, {"cl_ord_id": "", **_written(words)}))
    wanted = {field.name: field for field in fields(kind)}
    unknown = words.keys() - wanted.keys()
    if unknown:
        raise ActRefused(f"{', '.join(sorted(unknown))}: not one of {', '.join(wanted)}")
    missing = [name for name, field in wanted.items() if name not in words and field.default is MISSING]
    if missing:
        raise ActRefused(f"{', '.join(missing)} must be given")
    return kind(**{name: _word(name, wanted[name].type, value) for name, value in words.items()})


def _written(words: Words) -> Words:
    """The numbers of an order by telephone as FIX writes them, for they go out on its reports."""
    said = {name: to_units(str(words[name])) for name in ("order_qty", "price", "stop_px") if words.get(name)}
    if said.get("order_qty", 0) % SCALE:
        raise ActRefused("order_qty must be whole shares")
    return words | {
        name: str(units // SCALE) if name == "order_qty" else to_decimal(units) for name, units in said.items()
    }


def _word(name: str, kind: Any, value: Any) -> Any:
    text = str(value)
    if kind is not str:
        return to_units(text) if name == "price" else int(text)
    if not (text.isascii() and text.isprintable()):  # it may have to go out by FIX
        raise ActRefused(f"{name} must be printable ASCII")
    return text


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    path.unlink(missing_ok=True)
    # A socket's path has 108 bytes at most; by way of its directory's descriptor any will do.
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    before = os.umask(0o177)
    try:
        listener.bind(f"/proc/self/fd/{directory}/{path.name}")
    finally:
        os.umask(before)
        os.close(directory)
    listener.listen()
    listener.setblocking(False)
    return listener


def _read_line(connection: socket.socket) -> bytes:
    """TimeoutError if it does not end in time, however it drips."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    line = b""
    while not line.endswith(b"\n") and len(line) < REQUEST_BYTES_MAX:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        more = connection.recv(65536)
        if not more:
            break
        line += more
    return line
