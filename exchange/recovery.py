"""Replays a journal through the rules and stops at the first line that does not come out as it was recorded."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from exchange.journal import JournalError, Record, read_instrument, read_request, result
from exchange.market import FeedEvent, Market, Outcome
from exchange.orders import Report

Publish = Callable[[int, list[FeedEvent]], None]  # (now_ns, events)


@dataclass(slots=True)
class Recovered:
    """The venue as it stood at the journal's end. `unsent`: per CompID, reports that may not have reached QuickFIX."""

    market: Market
    events: int = 0
    unsent: dict[str, deque[Report]] = field(default_factory=dict)


def recover(market: Market, records: Iterable[Record], publish: Publish) -> Recovered:
    """Applies every record, in order, to the new `market`. JournalError where the outcome differs from the record."""
    state = Recovered(market)
    for record in records:
        try:
            if "sent" in record:
                _forget_sent(state.unsent, record["sent"])
            else:
                _replay(state, record, publish)
        except (KeyError, TypeError) as problem:
            raise JournalError(f"after event {state.events - 1}, a line lacks {problem}: restore the file") from None
    return state


def _replay(state: Recovered, record: Record, publish: Publish) -> None:
    state.events += 1
    if record["n"] != state.events:
        raise JournalError(f"the journal goes from event {state.events - 1} to {record['n']}: restore the file")
    outcome = _apply(state.market, record)
    derived = result(outcome)
    if any(record[name] != value for name, value in derived.items()):
        raise JournalError(
            f"event {record['n']} of the journal was not decided by these rules: start the version that wrote it, "
            "or choose another data_dir"
        )
    publish(outcome.now_ns, outcome.feed)
    for execution in outcome.executions:
        report = Report(execution, record["t"], record["decided"])
        state.unsent.setdefault(execution.order.comp_id, deque()).append(report)


def _apply(market: Market, record: Record) -> Outcome:
    came = record["in"]
    if came["kind"] == "instrument":
        return market.add_instrument(read_instrument(came), record["t"])
    return market.place(record["session"], read_request(came), record["t"], came["open"])


def _forget_sent(unsent: dict[str, deque[Report]], sent: dict[str, int]) -> None:
    for comp_id, number in sent.items():
        waiting = unsent.get(comp_id)
        while waiting and waiting[0].execution.number <= number:
            waiting.popleft()
