"""The venue: decides, journals, and only then gives out what may be sent. Knows neither FIX nor sockets."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

import structlog

from exchange.journal import Journal, instrument_record, order_record, sent_record
from exchange.market import Instrument
from exchange.orders import NewOrder, Order, Report
from exchange.recovery import Publish, Recovered
from runtime import calendar

MARK_EVERY: Final = 64  # reports; after a crash, at most that many come twice, flagged

log = structlog.get_logger()


class Venue:
    """One matching engine. `place` and `logged_on` are called from one thread, which makes matching serial;
    `mark_sent` from any.

    Nothing here waits for a counterparty: reports that may be sent are returned, and `handed_over` says that they were.
    """

    def __init__(
        self,
        recovered: Recovered,
        journal: Journal,
        publish: Publish,
        counterparties: Iterable[str],
        session: str,
        clock: Callable[[], int],
    ) -> None:
        """`session` is `always` or `regular`; `clock` gives nanoseconds UTC."""
        self._market = recovered.market
        self._events = recovered.events
        self._journal = journal
        self._publish = publish
        self._session = session
        self._clock = clock
        self._held = {comp_id: reports for comp_id, reports in recovered.unsent.items() if reports}
        self._reachable = set(counterparties) - self._held.keys()
        self._handed: dict[str, int] = {}
        self._marked: dict[str, int] = {}
        self._unmarked = 0

    def add_instruments(self, instruments: Iterable[Instrument], now_ns: int) -> None:
        """Lists what is not listed yet. What the journal knows stays as it was: its orders were decided under it."""
        for instrument in instruments:
            listed = self._market.instrument(instrument.symbol)
            if listed is None:
                outcome = self._market.add_instrument(instrument, now_ns)
                self._events += 1
                self._journal.append(instrument_record(self._events, instrument, outcome))
                self._publish(now_ns, outcome.feed)
            elif listed != instrument:
                log.warning("the journal's instrument is kept, not the configured one", symbol=instrument.symbol)

    def find(self, comp_id: str, cl_ord_id: str) -> Order | None:
        return self._market.find(comp_id, cl_ord_id)

    def place(self, comp_id: str, request: NewOrder, received_ns: int) -> list[Report]:
        """Decides one order; the reports to send now, in order. OSError if it could not be journaled: then stop."""
        is_open = calendar.is_open(received_ns, self._session)
        outcome = self._market.place(comp_id, request, received_ns, is_open)
        decided_ns = self._clock()
        self._events += 1
        self._journal.append(order_record(self._events, comp_id, request, is_open, decided_ns, outcome))
        self._publish(received_ns, outcome.feed)
        reports = (Report(execution, received_ns, decided_ns) for execution in outcome.executions)
        return [report for report in reports if not self._hold(report)]

    def logged_on(self, comp_id: str) -> deque[Report]:
        """Reports that may have been lost with an earlier process: to be sent with PossResend(97), before any other."""
        self._reachable.add(comp_id)
        return self._held.pop(comp_id, deque())

    def handed_over(self, report: Report) -> None:
        """QuickFIX has stored the report: it survives a kill."""
        self._handed[report.execution.order.comp_id] = report.execution.number
        self._unmarked += 1
        if self._unmarked >= MARK_EVERY:
            self.mark_sent()

    def mark_sent(self) -> None:
        """Journals how far the reports were handed over, so that a restart does not send them again."""
        self._unmarked = 0
        handed = dict(self._handed)
        news = {comp_id: number for comp_id, number in handed.items() if self._marked.get(comp_id) != number}
        if news:
            self._marked = handed
            self._journal.append(sent_record(news))

    def _hold(self, report: Report) -> bool:
        """A counterparty whose lost reports are still to be sent again gets later ones after them, not before."""
        comp_id = report.execution.order.comp_id
        if comp_id in self._reachable:
            return False
        self._held.setdefault(comp_id, deque()).append(report)
        return True
