"""The same inputs at the same times make the same journal, byte for byte, also across a restart after any line.

Here too: the stage on which the venue's rules are tested without processes, and scripts of what may happen on it.
"""

import itertools
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
from exchange.events import FeedEvent, Phase
from exchange.hours import Hours, next_change
from exchange.journal import Journal, event_of
from exchange.market import Instrument, Market
from exchange.orders import CancelRequest, Execution, NewOrder, Order, ReplaceRequest, Side
from exchange.phases import next_expiry_ns
from exchange.reasons import Refusal
from exchange.recovery import Recovered, recover
from exchange.rules import OPERATOR
from exchange.venue import Conduct, Venue
from runtime.units import to_decimal

LONG = bool(os.environ.get("OPENBELL_LONG"))
PROFILE = settings(
    max_examples=1_000 if LONG else 15,
    derandomize=not LONG,  # the same histories each time: a build does not fail by chance
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
    print_blob=True,
)

SECOND, HOUR = 10**9, 3600 * 10**9
FRIDAY_NOON = int(datetime(2026, 11, 20, 17, tzinfo=UTC).timestamp()) * SECOND  # in New York
DELAY = 3_000_000  # of answers, where there is one; a millisecond passes between two inputs
BASE, TICK, STEP = 100_000, 50, 1_000  # prices lie a few steps around the base, so that most splits come out even
SYMBOLS = ("AAA", "BBB")
PARTIES = ("ANN", "BOB")
MANUAL = Hours("manual", time(9, 30), time(16), 0, 0)
REGULAR = Hours("regular", time(9, 30), time(16), 1800, 600)
ALWAYS = Hours("always", time(9, 30), time(16), 0, 0)
MARKET, LIMIT, STOP, STOP_LIMIT = "1234"


def instrument(symbol: str, levels: int = 1) -> Instrument:
    return Instrument(symbol, BASE, TICK, levels, 30, first_level_ticks=40, level_step_ticks=20)


# The stage: a venue, a clock, and what is done there


class Stage:
    """A venue of its own in a directory of its own; `inputs` do something there and let a millisecond pass."""

    def __init__(
        self, directory: Path, hours: Hours, conduct: Conduct, levels: int = 1, opens_at_ns: int = FRIDAY_NOON
    ) -> None:
        self.path = directory / "journal.jsonl"
        self.hours, self.conduct, self.levels = hours, conduct, levels
        self.now_ns = opens_at_ns
        self.published: list[tuple[int, list[FeedEvent]]] = []
        self.refused = Counter[str]()
        self._names = itertools.count(1)
        self.open(self.now_ns)

    def open(self, now_ns: int) -> Recovered:
        self.journal = Journal(self.path, "XSIM", FRIDAY_NOON)
        recovered = recover(Market(self.journal.header.feed_session), self.journal.records(), self._publish)
        self.venue = Venue(recovered, self.journal, self._publish, self.hours, self.conduct, lambda: FRIDAY_NOON)
        self.venue.open([instrument(symbol, self.levels) for symbol in SYMBOLS], now_ns)
        self.venue.flush()
        self.venue.publish()
        return recovered

    def close(self) -> None:
        self.venue.flush()
        self.venue.publish()
        self.journal.close()

    @property
    def market(self) -> Market:
        return self.venue.market

    def name(self, reuse: int = 0) -> str:
        """A new ClOrdID(11), or now and then one that is known."""
        known = list(self.market.names)
        return known[reuse % len(known)][1] if reuse and known else f"c{next(self._names)}"

    def pick(self, index: int) -> Order | None:
        """An order: mostly one that is open, at times any."""
        pool = list(self.market.open.values()) if index % 4 and self.market.open else list(self.market.orders.values())
        return pool[-1 - index // 4 % len(pool)] if pool else None

    def send(self, session: str, request: NewOrder | CancelRequest | ReplaceRequest) -> None:
        self.venue.receive(session, request, self.now_ns)

    def put(
        self, party: str, side: Side, shares: int, price: int | None, time_in_force: str = "0", **words: str
    ) -> Order:
        """Sends an order for the first symbol, limit or market unless `words` say otherwise; what became of it."""
        name = self.name()
        limit = {"ord_type": LIMIT, "price": to_decimal(price)} if price is not None else {"ord_type": MARKET}
        said: dict[str, Any] = {"account": "x", "symbol": SYMBOLS[0], **limit, **words}
        self.send(party, NewOrder(name, side=side, time_in_force=time_in_force, order_qty=str(shares), **said))
        order = self.market.find(party, name)
        assert order is not None
        return order

    def told(self, order: Order) -> list[str]:
        """ExecType(150), OrdStatus(39), LastShares(32), CumQty(14) and LeavesQty(151) of each of its reports."""
        return [
            f"{each.exec_type}{each.ord_status} {each.last_shares} {each.cum_qty} {each.leaves_qty}"
            for each in self.market.reports
            if isinstance(each, Execution) and each.order is order
        ]

    def operate(self, kind: str, act: Any) -> None:
        """A refused act must change nothing."""
        self.venue.advance(self.now_ns)
        before = picture(self.market)
        try:
            self.venue.operate(kind, act, self.now_ns)
        except ActRefused:
            self.refused[kind] += 1
            assert picture(self.market) == before

    def enter(self, phase: Phase) -> None:
        self.venue.enter(phase, self.now_ns)

    def disconnect(self, session: str) -> None:
        self.venue.disconnected(session, self.now_ns)

    def wait(self, span_ns: int | None) -> None:
        """None: until the next change of the phase, a day at most. Below 0 the clock is set back."""
        change = next_change(self.hours, self.now_ns) if span_ns is None else None
        self.now_ns = change.at_ns if change else self.now_ns + (24 * HOUR if span_ns is None else span_ns)
        self.venue.advance(self.now_ns)

    def _publish(self, now_ns: int, events: list[FeedEvent]) -> None:
        self.published.append((now_ns, events))


Input = Callable[[Stage], None]


@dataclass(frozen=True)
class Terms:
    """What orders and replaces are drawn from; prices count in steps from the base."""

    account: str
    side: str
    ord_type: str
    time_in_force: str
    shares: int
    price: int
    stop: int
    expiry: int

    def words(self, now_ns: int) -> dict[str, Any]:
        """The fields, as a client writes them."""
        dated = self.time_in_force == "6"
        at = datetime.fromtimestamp((now_ns + self.expiry * SECOND) // SECOND, UTC)
        by_date = dated and self.expiry % 2 == 0
        return {
            "account": self.account,
            "side": self.side,
            "ord_type": self.ord_type,
            "time_in_force": self.time_in_force,
            "order_qty": str(self.shares),
            "price": written(self.price) if self.ord_type in (LIMIT, STOP_LIMIT) else "",
            "stop_px": written(self.stop) if self.ord_type in (STOP, STOP_LIMIT) else "",
            "expire_date": at.strftime("%Y%m%d") if by_date else "",
            "expire_time": at.strftime("%Y%m%d-%H:%M:%S") if dated and not by_date else "",
        }


def written(steps: int) -> str:
    return to_decimal(BASE + steps * STEP)


@dataclass(frozen=True)
class Place:
    party: str
    symbol: str
    terms: Terms
    reuse: int = 0
    repeated: bool = False

    def __call__(self, stage: Stage) -> None:
        words = self.terms.words(stage.now_ns)
        stage.send(self.party, NewOrder(stage.name(self.reuse), symbol=self.symbol, repeated=self.repeated, **words))


@dataclass(frozen=True)
class Phone:
    party: str
    symbol: str
    terms: Terms

    def __call__(self, stage: Stage) -> None:
        order = NewOrder("", symbol=self.symbol, **self.terms.words(stage.now_ns))
        stage.operate("telephone", Telephone(self.party, order))


@dataclass(frozen=True)
class Change:
    """A cancel, or a replace if there are terms. `spoil` makes one of its references wrong."""

    index: int
    terms: Terms | None
    keep: bool = False  # of the terms all but the quantity and the price
    spoil: int = 0
    reuse: int = 0

    def __call__(self, stage: Stage) -> None:
        order = stage.pick(self.index)
        if order is None:
            return
        orig, request = order.last_name, order.request
        target = {"symbol": request.symbol, "side": request.side, "order_id": order.order_id}
        wrong = {1: ("symbol", "ZZZ"), 2: ("side", "5"), 3: ("order_id", "o-1")}.get(self.spoil)
        if wrong:
            target[wrong[0]] = wrong[1]
        names = {4: "unknown", 5: request.cl_ord_id, 6: next(iter(stage.market.names), ("", ""))[1]}
        name, orig = stage.name(self.reuse), names.get(self.spoil, orig)
        session = PARTIES[0] if self.spoil == 7 else order.comp_id
        if self.terms is None:
            stage.send(session, CancelRequest(name, orig, **target))
            return
        words = self.terms.words(stage.now_ns)
        if self.keep:
            old = ("account", "ord_type", "time_in_force", "stop_px", "expire_date", "expire_time")
            words |= {key: getattr(request, key) for key in old}
            words["price"] = "" if request.ord_type in (MARKET, STOP) else words["price"] or request.price
            if self.terms.expiry % 3:
                words["price"] = request.price
        words["order_qty"] = str(order.cum + self.terms.shares - 20 if self.keep else self.terms.shares)
        stage.send(session, ReplaceRequest(name, orig, **{**words, **target}))


@dataclass(frozen=True)
class ByHand:
    """An act of the operator on an order or a trade."""

    kind: str
    index: int
    shares: int
    price: int
    what: str

    def __call__(self, stage: Stage) -> None:
        order = stage.pick(self.index)
        order_id = order.order_id if order else "nothing"
        price = BASE + self.price * STEP
        acts: dict[str, Callable[[], Any]] = {
            "bust": lambda: Bust(self._exec_id(stage)),
            "correct": lambda: Correct(self._exec_id(stage), self.shares, price),
            "trade": lambda: Trade(order_id, self.shares, price),
            "cancel_order": lambda: Cancel(order_id),
            "restate": lambda: Restate(order_id, self.shares, price if self.price % 2 else 0, "4"),
            "mark": lambda: Mark(order_id, self.what),
            "release": lambda: Release(order_id),
        }
        stage.operate(self.kind, acts[self.kind]())

    def _exec_id(self, stage: Stage) -> str:
        standing = [number for numbers in stage.market.sides.values() for number in numbers]
        reports = stage.market.reports
        said = reports[standing[-1 - self.index // 4 % len(standing)] - 1] if standing and self.index % 8 else None
        said = said or (reports[self.index % len(reports)] if reports else None)
        return said.exec_id if isinstance(said, Execution) else "nothing"


@dataclass(frozen=True)
class Do:
    """Whatever needs no order: `what` is a method of the stage, or an act on a symbol."""

    what: str
    argument: Any

    def __call__(self, stage: Stage) -> None:
        acts: dict[str, Callable[[Any], Any]] = {
            "halt": Halt,
            "resume": Resume,
            "split": lambda ratio: Split(SYMBOLS[0], *ratio),
        }
        if self.what in acts:
            stage.operate(self.what, acts[self.what](self.argument))
        elif self.what != "enter" or stage.hours.kind == "manual":
            getattr(stage, self.what)(self.argument)


indices = st.integers(0, 40)
terms = st.builds(
    Terms,
    account=st.sampled_from(("x", "x", "y", "")),
    side=st.sampled_from("12"),
    ord_type=st.sampled_from("2222221344"),
    time_in_force=st.sampled_from("00001116662344"),
    shares=st.sampled_from((10, 20, 30, 40, 100)),
    price=st.integers(-3, 3),
    stop=st.integers(-3, 3),
    expiry=st.sampled_from((1, 2, 3601, 7200, 86_400, 100_001, 400_000)),
)
symbols = st.sampled_from((*SYMBOLS[:1] * 9, SYMBOLS[1]))
parties = st.sampled_from(PARTIES)
orders = st.builds(Place, parties, symbols, terms)
odd_orders = st.builds(
    Place,
    parties,
    st.sampled_from((*SYMBOLS, "ZZZ")),
    st.builds(
        Terms,
        account=st.just("x"),
        side=st.sampled_from("125"),
        ord_type=st.sampled_from("1234P"),
        time_in_force=st.sampled_from("0123467"),
        shares=st.sampled_from((0, -1, 10, 2**32)),
        price=st.sampled_from((0, -100, 1, 10**6)),
        stop=st.sampled_from((0, -100, 10**6)),
        expiry=st.sampled_from((-2, -1, 0, 5)),
    ),
    reuse=st.integers(0, 5),
    repeated=st.booleans(),
)
spoils = st.sampled_from((0,) * 30 + tuple(range(8)))
reuses = st.sampled_from((0,) * 30 + (1, 2))
cancels = st.builds(Change, indices, st.none(), spoil=spoils, reuse=reuses)
replaces = st.builds(Change, indices, terms, st.sampled_from((True, True, True, False)), spoils, reuses)
trades_by_hand = st.builds(
    ByHand,
    st.sampled_from(("bust", "bust", "correct", "correct", "trade")),
    indices,
    st.sampled_from((5, 10, 20, 30, 100, 0)),
    st.integers(-3, 3),
    st.just(""),
)
order_acts = st.builds(
    ByHand,
    st.sampled_from(("cancel_order", "restate", "restate", "mark", "mark", "mark", "release", "release")),
    indices,
    st.sampled_from((10, 20, 40, 100)),
    st.integers(-3, 3),
    st.sampled_from("3337999BB"),
)
waits = st.builds(
    Do,
    st.just("wait"),
    st.sampled_from((0, 2_000_000, 2_000_000, 5 * SECOND, -2 * SECOND, HOUR, 8 * HOUR, 30 * HOUR, None, None)),
)
enters = st.builds(Do, st.just("enter"), st.sampled_from((*Phase, Phase.OPEN, Phase.OPEN)))
rare: tuple[st.SearchStrategy[Input], ...] = (
    st.builds(Do, st.just("halt"), symbols),
    st.builds(Do, st.just("resume"), symbols),
    st.builds(Do, st.just("resume"), symbols),
    st.builds(Do, st.just("disconnect"), parties),
    *(st.builds(Do, st.just("split"), st.sampled_from(((2, 1), (1, 2), (3, 2), (100, 1), (0, 1)))),) * 2,
    st.builds(Phone, parties, symbols, terms),
    odd_orders,
)
frequent: tuple[st.SearchStrategy[Input], ...] = (
    *(orders,) * 6,
    cancels,
    *(replaces,) * 2,
    *(trades_by_hand,) * 2,
    *(order_acts,) * 2,
    waits,
    enters,
)
inputs = st.sampled_from((*(frequent * 3), *rare)).flatmap(lambda kind: kind)  # one_of would weigh them alike
# Most are long: by itself Hypothesis draws short lists.
scripts = st.sampled_from((0, *(30,) * 9)).flatmap(lambda least: st.lists(inputs, min_size=least, max_size=50))
hours = st.sampled_from((MANUAL, MANUAL, REGULAR, ALWAYS))
conducts = st.builds(
    Conduct,
    seed=st.integers(0, 3),
    rejects_per_million=st.sampled_from((0, 0, 100_000)),
    answer_delay_ns=st.sampled_from((0, DELAY)),
)


def perform(stage: Stage, script: list[Input]) -> None:
    if stage.hours.kind == "manual":
        stage.enter(Phase.OPEN)
    stage.venue.flush()
    stage.venue.publish()
    for each in script:
        stage.now_ns += 1_000_000
        each(stage)
        stage.venue.flush()
        stage.venue.publish()


def picture(market: Market) -> Any:
    """The whole of a market as plain values; orders, and who holds them, by their number."""
    books = {
        symbol: (
            {side: list(listing.book.orders(side)) for side in Side},
            {side: list(listing.stops._waiting[side]) for side in Side},
            listing.last,
            listing.used_up,
            list(listing.hidden),
            listing.halted,
        )
        for symbol, listing in market.listings.items()
    }
    orders = {
        ref: [copied(getattr(order, each.name)) for each in fields(order)] for ref, order in market.orders.items()
    }
    held = {
        name: [(key, order and order.ref) for key, order in getattr(market, name).items()]
        for name in ("names", "open", "resting")
    }
    pending = [(each.session, each.body, each.refused, each.order.ref, each.received_ns) for each in market.pending]
    told = len(market.reports), market._refs, market._matches, market.phase, market.trade_date
    sides = {match: list(numbers) for match, numbers in market.sides.items()}
    phoned = [order.ref for order in market.telephoned], sorted(market.todays)
    sessions = dict(market.latest), dict(market.departed)
    return books, orders, held, pending, told, sides, phoned, sessions, dict(market.house), next_expiry_ns(market)


def copied(value: Any) -> Any:
    return sorted(value) if isinstance(value, set) else list(value) if isinstance(value, list) else value


def rows(market: Market) -> list[Any]:
    """Every report, its order by number."""
    return [[each if not isinstance(each, Order) else each.ref for each in report] for report in market.reports]


# The tests

FICKLE = Conduct(seed=7, rejects_per_million=100_000, answer_delay_ns=DELAY)

Record = dict[str, Any]


def journal_of(directory: Path, opening: Hours, conduct: Conduct, script: list[Input]) -> bytes:
    directory.mkdir()
    stage = Stage(directory, opening, conduct)
    perform(stage, script)
    stage.close()
    return stage.path.read_bytes()


def feed_again(stage: Stage, record: Record) -> None:
    """What came from outside, at its time. What the venue does by itself it has to do again by itself."""
    event, at_ns = event_of(record), record["t"]
    if event.kind in ("order", "cancel", "replace"):
        stage.venue.receive(event.session, event.body, at_ns)
    elif event.kind == "disconnect":
        stage.venue.disconnected(event.session, at_ns)
    elif event.kind in OPERATOR:
        stage.venue.operate(event.kind, event.body, at_ns)
    elif event.kind == "phase" and stage.hours.kind == "manual" and record["n"] > len(stage.market.listings) + 1:
        stage.venue.enter(Phase(event.body.phase), at_ns)
    else:
        stage.venue.advance(at_ns)


def records_of(journal: bytes) -> list[Record]:
    return [json.loads(line) for line in journal.splitlines()[1:]]


def resumed(directory: Path, lines: list[bytes], known: int, opening: Hours, conduct: Conduct) -> bytes:
    """A venue killed after `known` events were journaled, started again, and given the inputs that were left."""
    records = [json.loads(line) for line in lines[1:]]
    directory.mkdir()
    (directory / "journal.jsonl").write_bytes(b"".join(lines[: known + 1]))
    stage = Stage(directory, opening, conduct, opens_at_ns=records[max(known - 1, 0)]["t"])
    for record in records[known:]:
        feed_again(stage, record)
    stage.close()
    return stage.path.read_bytes()


@PROFILE
@given(hours, scripts)
def test_the_same_inputs_at_the_same_times_give_the_same_bytes(opening: Hours, script: list[Input]) -> None:
    with tempfile.TemporaryDirectory() as name:
        first = journal_of(Path(name, "first"), opening, FICKLE, script)
        assert journal_of(Path(name, "second"), opening, FICKLE, script) == first
        lines = first.splitlines(keepends=True)
        assert resumed(Path(name, "fed"), lines, 0, opening, FICKLE) == first


@PROFILE
@given(hours, scripts)
def test_a_venue_killed_after_any_line_goes_on_as_if_it_had_not_been(opening: Hours, script: list[Input]) -> None:
    with tempfile.TemporaryDirectory() as name:
        lines = journal_of(Path(name, "whole"), opening, FICKLE, script).splitlines(keepends=True)
        for known in range(len(lines)):
            directory = Path(name, str(known))
            assert resumed(directory, lines, known, opening, FICKLE) == b"".join(lines), f"after event {known}"
            shutil.rmtree(directory)


def refused_at_random(directory: Path, seed: int) -> list[int]:
    """Of a thousand orders those that drew the lot, of which one in ten does."""
    directory.mkdir()
    stage = Stage(directory, ALWAYS, Conduct(seed, rejects_per_million=100_000))
    sent = [stage.put("ANN", Side.BUY, 10, BASE, "3") for _ in range(1000)]
    stage.close()
    return [number for number, order in enumerate(sent) if order.refusal is Refusal.AT_RANDOM]


def test_another_seed_refuses_others_and_as_many(tmp_path: Path) -> None:
    drawn = {seed: refused_at_random(tmp_path / str(seed), seed) for seed in range(4)}
    assert len({tuple(each) for each in drawn.values()}) == 4
    assert all(70 < len(each) < 130 for each in drawn.values())
    assert refused_at_random(tmp_path / "again", 2) == drawn[2]


def test_the_journals_instruments_go_before_the_configured_ones(tmp_path: Path) -> None:
    stage = Stage(tmp_path, ALWAYS, Conduct(), levels=1)
    stage.close()
    journal = stage.path.read_bytes()
    stage.levels = 2
    stage.open(stage.now_ns)
    assert len(stage.market.house) == 2 * len(SYMBOLS)
    stage.close()
    assert stage.path.read_bytes() == journal
