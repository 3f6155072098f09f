"""Replays a journal through the rules and stops at the first line that does not come out as it was recorded."""

from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from exchange.events import FeedEvent
from exchange.journal import JournalError, Record, event_of, result
from exchange.market import Market
from exchange.rules import apply

Publish = Callable[[int, list[FeedEvent]], None]  # (now_ns, events)


@dataclass(slots=True)
class Recovered:
    """The venue as it stood at the journal's end.

    `decided_ns`: of each report, when it was decided. `phase_at_ns`: when the present phase began, `last_ns`: when the
    last event was; 0 before the first.
    """

    market: Market
    events: int = 0
    decided_ns: "array[int]" = field(default_factory=lambda: array("q"))
    phase_at_ns: int = 0
    last_ns: int = 0


def recover(market: Market, records: Iterable[Record], publish: Publish) -> Recovered:
    """Applies every record, in order, to the new `market`. JournalError where the outcome differs from the record."""
    state = Recovered(market)
    for record in records:
        try:
            _replay(state, record, publish)
        except JournalError:
            raise
        except Exception as problem:  # noqa: BLE001 a damaged line may break any rule
            raise JournalError(
                f"event {state.events} of the journal cannot be replayed ({problem!r}): restore the file"
            ) from None
    return state


def _replay(state: Recovered, record: Record, publish: Publish) -> None:
    state.events += 1
    if record["n"] != state.events:
        raise JournalError(f"the journal goes from event {state.events - 1} to {record['n']}: restore the file")
    event = event_of(record)
    outcome = apply(state.market, event, record["t"])
    derived = result(outcome)
    if any(record[name] != value for name, value in derived.items()):
        raise JournalError(
            f"event {record['n']} of the journal was not decided by these rules: start the version that wrote it, "
            "or choose another data_dir"
        )
    state.decided_ns.extend([record["decided"]] * len(outcome.reports))
    state.last_ns = record["t"]
    if event.kind == "phase":
        state.phase_at_ns = record["t"]
    publish(outcome.now_ns, outcome.feed)
