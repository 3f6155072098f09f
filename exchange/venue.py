"""The venue: decides, journals, and only then gives out what may be sent. Knows neither FIX nor sockets.

Time moves it too: `advance` decides what has been pending long enough, changes the phase and ends what has expired,
each at the instant when it was due, before whatever came later.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import structlog

from exchange import hours, phases
from exchange.acts import ActRefused
from exchange.events import FeedEvent, Phase
from exchange.hours import Change, Hours
from exchange.journal import Journal, record_of
from exchange.lots import is_drawn
from exchange.market import Instrument
from exchange.orders import CancelRequest, NewOrder, ReplaceRequest, Report
from exchange.recovery import Publish, Recovered
from exchange.rules import Body, Event, PhaseChange, apply

log = structlog.get_logger()

Request = NewOrder | CancelRequest | ReplaceRequest
_KINDS: Final = {NewOrder: "order", CancelRequest: "cancel", ReplaceRequest: "replace"}


@dataclass(frozen=True, slots=True)
class Conduct:
    """How the venue treats requests: some refused at random, from the seed; decided after a delay."""

    seed: int = 0
    rejects_per_million: int = 0
    answer_delay_ns: int = 0


class Venue:
    """One matching engine, for one thread. The reports are in `market.reports`; they may be sent after `flush`.

    `clock` gives nanoseconds UTC. It says only when something was decided: what is decided depends on the times given.
    """

    def __init__(
        self,
        recovered: Recovered,
        journal: Journal,
        publish: Publish,
        opening_hours: Hours,
        conduct: Conduct,
        clock: Callable[[], int],
    ) -> None:
        self.market = recovered.market
        self.decided_ns = recovered.decided_ns  # of each report
        self._events = recovered.events
        self._phase_at_ns = recovered.phase_at_ns
        self._last_ns = recovered.last_ns
        self._journal = journal
        self._publish = publish
        self._hours = opening_hours
        self._conduct = conduct
        self._clock = clock
        self._unpublished: list[tuple[int, list[FeedEvent]]] = []
        self._publishable: list[tuple[int, list[FeedEvent]]] = []
        self._notices: list[str] = []
        self._change: Change | None = None
        self._due_ns: int | None = None

    def take_notices(self) -> list[str]:
        """Symbols whose trading state changed since the last time, "" for the phase."""
        notices, self._notices = self._notices, []
        return notices

    def open(self, instruments: Iterable[Instrument], now_ns: int) -> None:
        """To be called first: lists what is not listed yet, and does what has become due while the venue was down.
        An instrument that the journal knows stays as it was: its orders were decided under it."""
        for instrument in instruments:
            listing = self.market.listings.get(instrument.symbol)
            if listing is None:
                self._decide(Event("instrument", instrument), now_ns)
            elif listing.instrument != instrument:
                log.warning("the journal's instrument is kept, not the configured one", symbol=instrument.symbol)
        if self._phase_at_ns:
            self._change = hours.next_change(self._hours, self._phase_at_ns)
            self._schedule()
            self.advance(now_ns)
        now = hours.current(self._hours, now_ns)
        follows_clock = self._hours.kind != "manual" or not self._phase_at_ns
        if follows_clock and (now.phase, now.trade_date) != (self.market.phase, self.market.trade_date):
            self._enter(now._replace(at_ns=now_ns))

    def receive(self, session: str, request: Request, received_ns: int) -> None:
        """Decides a counterparty's request, or acknowledges it when there is an answer delay."""
        self.advance(received_ns)
        conduct = self._conduct
        refused = is_drawn(conduct.seed, self._events + 1, conduct.rejects_per_million)
        # What still waits, because the clock was set back, is decided first.
        delayed = conduct.answer_delay_ns > 0 or bool(self.market.pending)
        self._decide(Event(_KINDS[type(request)], request, session, refused, delayed), received_ns)

    def disconnected(self, session: str, now_ns: int) -> None:
        """Cancel on disconnect."""
        self.advance(now_ns)
        if self.market.latest.get(session, 0) > self.market.departed.get(session, 0):
            self._decide(Event("disconnect", session=session), now_ns)

    def operate(self, kind: str, act: Body, now_ns: int, key: str = "") -> list[Report]:
        """An act of the operator, and the reports it led to: with a key that was used, those of that time. ActRefused
        if it cannot be done, or the key was another act's."""
        done = self.market.acts.get(key)
        if done is not None:
            if (done.kind, done.body) != (kind, act):
                raise ActRefused(f"key {key} was used for another act")
            return done.reports
        self.advance(now_ns)
        before = len(self.market.reports)
        self._decide(Event(kind, act, key=key), now_ns)
        return self.market.reports[before:]

    def enter(self, phase: Phase, now_ns: int) -> None:
        """The operator opens or closes the market."""
        self.advance(now_ns)
        today = hours.current(self._hours, now_ns).trade_date
        self._enter(Change(now_ns, phase, today))

    def advance(self, now_ns: int) -> None:
        """Does what was due until now."""
        while (due_ns := self._due_ns) is not None and due_ns <= now_ns:
            change = self._change
            if phases.next_expiry_ns(self.market) == due_ns:
                self._decide(Event("expire"), due_ns)
            elif change is not None and change.at_ns == due_ns:
                self._enter(change)
            else:
                self._decide(Event("answer"), due_ns)

    def due_ns(self) -> int | None:
        """When `advance` has something to do next."""
        return self._due_ns

    def flush(self) -> None:
        """Journals what was decided. OSError if it cannot be: then stop."""
        self._journal.flush()
        self._publishable += self._unpublished
        self._unpublished = []

    def publish(self) -> None:
        """After `flush`: what was decided goes to the feed."""
        publishable, self._publishable = self._publishable, []
        for now_ns, events in publishable:
            self._publish(now_ns, events)

    def _answer_due_ns(self) -> int | None:
        pending = self.market.pending
        return pending[0].received_ns + self._conduct.answer_delay_ns if pending else None

    def _enter(self, change: Change) -> None:
        self._decide(Event("phase", PhaseChange(change.phase, change.trade_date)), change.at_ns)
        self._change = hours.next_change(self._hours, change.at_ns)
        self._schedule()

    def _decide(self, event: Event, now_ns: int) -> None:
        now_ns = self._last_ns = max(now_ns, self._last_ns)  # a clock set back, or other hours than before the restart
        outcome = apply(self.market, event, now_ns)
        decided_ns = self._clock()
        self._events += 1
        self._journal.append(record_of(self._events, event, decided_ns, outcome))
        self.decided_ns.extend([decided_ns] * len(outcome.reports))
        self._notices += outcome.notices
        if outcome.feed:
            self._unpublished.append((now_ns, outcome.feed))
        self._schedule()

    def _schedule(self) -> None:
        change_ns = self._change.at_ns if self._change else None
        times = (change_ns, self._answer_due_ns(), phases.next_expiry_ns(self.market))
        self._due_ns = min((each for each in times if each is not None), default=None)
