"""Which event does what: one table. Events are all that decides, so a journal of them is the venue. No I/O."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from exchange import acts, operations, phases, requests
from exchange.events import Outcome, Phase
from exchange.market import Done, Instrument, Market
from exchange.orders import CancelRequest, NewOrder, ReplaceRequest


@dataclass(frozen=True, slots=True)
class PhaseChange:
    """The venue goes over to a phase (TradSesStatus(340)) of a trade date (YYYY-MM-DD)."""

    phase: str
    trade_date: str


@dataclass(frozen=True, slots=True)
class Nothing:
    """What an event says that needs no words."""


Body = Any


@dataclass(frozen=True, slots=True)
class Event:
    """`session`: the CompID it came from or is about, "" for the venue itself. `refused`: the draw of lots fell against
    the request. `delayed`: it is acknowledged now and decided by an `answer`. `key`: the operator's, by which an act
    that is given again is known."""

    kind: str
    body: Body = Nothing()
    session: str = ""
    refused: bool = False
    delayed: bool = False
    key: str = ""


class Rule(NamedTuple):
    """The type of an event's body, and what it does."""

    body: type
    act: Callable[[Market, Event, Outcome], None]


def apply(market: Market, event: Event, now_ns: int) -> Outcome:
    """ActRefused if it is an operator's act that cannot be done; then nothing has changed."""
    outcome = Outcome(now_ns)
    RULES[event.kind].act(market, event, outcome)
    if event.key:
        market.acts[event.key] = Done(event.kind, event.body, outcome.reports)
    return outcome


def _place(market: Market, event: Event, outcome: Outcome) -> None:
    requests.place(market, event.session, event.body, outcome, refused=event.refused, delayed=event.delayed)


def _change(market: Market, event: Event, outcome: Outcome) -> None:
    requests.change(market, event.session, event.body, outcome, refused=event.refused, delayed=event.delayed)


def _answer(market: Market, _: Event, outcome: Outcome) -> None:
    requests.answer(market, outcome)


def _expire(market: Market, _: Event, outcome: Outcome) -> None:
    phases.expire(market, outcome)


def _disconnect(market: Market, event: Event, outcome: Outcome) -> None:
    requests.disconnect(market, event.session, outcome)


def _phase(market: Market, event: Event, outcome: Outcome) -> None:
    phases.enter(market, Phase(event.body.phase), event.body.trade_date, outcome)


def _instrument(market: Market, event: Event, outcome: Outcome) -> None:
    market.add_instrument(event.body, outcome)


def _by_hand(act: Callable[[Market, Any, Outcome], None]) -> Callable[[Market, Event, Outcome], None]:
    return lambda market, event, outcome: act(market, event.body, outcome)


OPERATOR: Final = {
    "halt": Rule(acts.Halt, _by_hand(operations.halt)),
    "resume": Rule(acts.Resume, _by_hand(operations.resume)),
    "bust": Rule(acts.Bust, _by_hand(operations.bust)),
    "correct": Rule(acts.Correct, _by_hand(operations.correct)),
    "trade": Rule(acts.Trade, _by_hand(operations.trade)),
    "cancel_order": Rule(acts.Cancel, _by_hand(operations.cancel)),
    "restate": Rule(acts.Restate, _by_hand(operations.restate)),
    "mark": Rule(acts.Mark, _by_hand(operations.mark)),
    "release": Rule(acts.Release, _by_hand(operations.release)),
    "split": Rule(acts.Split, _by_hand(operations.split)),
    "telephone": Rule(acts.Telephone, _by_hand(operations.telephone)),
}
RULES: Final = {
    "instrument": Rule(Instrument, _instrument),
    "phase": Rule(PhaseChange, _phase),
    "order": Rule(NewOrder, _place),
    "cancel": Rule(CancelRequest, _change),
    "replace": Rule(ReplaceRequest, _change),
    "answer": Rule(Nothing, _answer),
    "expire": Rule(Nothing, _expire),
    "disconnect": Rule(Nothing, _disconnect),
    **OPERATOR,
}
