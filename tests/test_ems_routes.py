"""What is done about each route, by what is certain about it. Time is an argument."""

from dataclasses import replace

import pytest

from ems.routes import Ask, Drop, Event, Now, OpenRoutes, Send, Stage, may_be_resent
from tests.test_ems_fix import MARKET

STATUS_AFTER = 5
SEND_BY = 100


def at(ns: int) -> Now:
    return Now(ns, ns)


def routes(*stages: Stage) -> OpenRoutes:
    """Routes C1, C2, ... at these stages."""
    opened = OpenRoutes(STATUS_AFTER)
    for number, stage in enumerate(stages, 1):
        opened.add(replace(MARKET, cl_ord_id=f"C{number}", position=number, send_by_ns=SEND_BY), stage)
    return opened


def decided(opened: OpenRoutes, ns: int, *, linked: bool = True, answers_wait: bool = False) -> list[str]:
    actions = opened.decide(at(ns), linked=linked, answers_wait=answers_wait)
    return [f"{_word(action)} {action.open.route.cl_ord_id}" for action in actions]


def _word(action: Ask | Drop | Send) -> str:
    again = isinstance(action, Send) and action.possible_resend
    return "again" if again else type(action).__name__.lower()


def stage(opened: OpenRoutes, cl_ord_id: str = "C1") -> Stage | None:
    found = opened.get(cl_ord_id)
    return found.stage if found else None


def hand(opened: OpenRoutes, ns: int, cl_ord_id: str = "C1") -> None:
    found = opened.get(cl_ord_id)
    assert found is not None
    opened.transmitted(found, ns)
    opened.handed(found, at(ns))


def ask(opened: OpenRoutes, ns: int, cl_ord_id: str = "C1") -> None:
    found = opened.get(cl_ord_id)
    assert found is not None
    opened.asked(found, at(ns))


W, S, D, A, L, R = Stage.WAITING, Stage.SENT, Stage.IN_DOUBT, Stage.ABSENT, Stage.LIVE, Stage.REFUSED

DECISIONS = [
    # stages, time, linked -> actions in order
    ([W, W], 1, True, ["send C1", "send C2"]),
    ([W, W], 1, False, []),
    ([W], SEND_BY, True, ["send C1"]),
    ([W], SEND_BY + 1, True, ["drop C1"]),
    ([W], SEND_BY + 1, False, ["drop C1"]),
    ([W, A], 1, True, ["again C2", "send C1"]),
    ([A], SEND_BY + 1, False, ["drop C1"]),
    ([A], 1, False, []),
    ([W, D], 1, True, ["ask C2"]),
    ([D, A, W], 1, True, ["ask C1"]),
    ([D], SEND_BY + 1, False, []),
    ([D], SEND_BY + 1, True, ["ask C1"]),
    ([S], SEND_BY + 1, False, []),
    ([L, R], SEND_BY + 1, True, []),
]


@pytest.mark.parametrize(("stages", "ns", "linked", "actions"), DECISIONS)
def test_decisions(stages: list[Stage], ns: int, linked: bool, actions: list[str]) -> None:
    assert decided(routes(*stages), ns, linked=linked) == actions


def test_only_what_is_certainly_not_at_the_venue_can_be_dropped() -> None:
    from ems.routes import TRANSITIONS

    assert {before for before, event in TRANSITIONS if event is Event.DROPPED} == {W, A}
    assert {before for (before, _), after in TRANSITIONS.items() if after is A} == {D}
    assert {event for (_, event), after in TRANSITIONS.items() if after is A} == {Event.UNKNOWN}
    assert {before for (before, event) in TRANSITIONS if event is Event.HANDED} == {W, A}


def test_silence_makes_a_doubt_and_the_question_is_repeated() -> None:
    opened = routes(W, W)
    hand(opened, 10)
    assert decided(opened, 14) == ["send C2"]
    assert decided(opened, 15, answers_wait=True) == ["send C2"]
    assert decided(opened, 15) == ["ask C1"]
    ask(opened, 15)
    assert decided(opened, 19) == []
    assert decided(opened, 20) == ["ask C1"]


def test_a_new_logon_makes_a_doubt_of_all_that_is_unanswered() -> None:
    opened = routes(W, W, W, L)
    hand(opened, 1)
    hand(opened, 2, "C2")
    opened.known("C1", answers=False)
    opened.cut()
    assert [stage(opened, f"C{number}") for number in range(1, 5)] == [L, D, W, L]


def test_only_the_answer_to_a_question_after_the_order_makes_it_absent() -> None:
    opened = routes(D)
    opened.unknown("C1", answers=True)  # nobody asked
    assert stage(opened) is D
    ask(opened, 1)
    opened.unknown("C1", answers=False)  # what was said before this logon
    assert stage(opened) is D
    opened.unknown("C1", answers=True)
    assert stage(opened) is A


def test_answers_to_questions_before_the_order_was_sent_again_do_not_count() -> None:
    opened = routes(D)
    ask(opened, 1)
    ask(opened, 6)
    opened.unknown("C1", answers=True)
    hand(opened, 7)
    opened.unknown("C1", answers=True)  # the answer to the second question
    assert decided(opened, 12) == ["ask C1"]
    ask(opened, 12)
    opened.unknown("C1", answers=False)
    assert stage(opened) is D
    opened.unknown("C1", answers=True)
    assert stage(opened) is A


def test_an_outdated_answer_is_not_counted_twice_when_the_venue_lost_it() -> None:
    opened = routes(D)
    ask(opened, 1)
    ask(opened, 6)
    opened.unknown("C1", answers=True)
    hand(opened, 7)
    opened.cut()
    ask(opened, 8)
    opened.unknown("C1", answers=True)
    assert stage(opened) is A


@pytest.mark.parametrize("before", [W, S, D, A])
def test_what_the_venue_knows_is_never_sent_again(before: Stage) -> None:
    opened = routes(before)
    opened.known("C1", answers=False)
    assert stage(opened) is L
    opened.unknown("C1", answers=True)
    opened.cut()
    assert (stage(opened), decided(opened, SEND_BY + 1)) == (L, [])


def test_a_refused_copy_is_asked_about_and_then_dropped() -> None:
    opened = routes(D)
    ask(opened, 1)
    opened.unknown("C1", answers=True)
    hand(opened, 2)
    found = opened.get("C1")
    assert found is not None
    assert not found.refusal_is_final
    opened.copy_refused("C1", "bad")
    assert decided(opened, 3) == ["ask C1"]
    ask(opened, 3)
    opened.unknown("C1", answers=True)
    assert decided(opened, 4) == ["drop C1"]


def test_a_refusal_is_final_when_there_was_one_copy() -> None:
    opened = routes(W)
    hand(opened, 1)
    found = opened.get("C1")
    assert found is not None
    assert found.refusal_is_final
    assert opened.of_message(1) == "C1"
    opened.transmitted(found, 1)
    assert not found.refusal_is_final
    opened.done("C1")
    assert opened.of_message(1) == ""


RESENDS = [(W, True), (S, True), (D, True), (A, True), (L, False), (R, False)]


@pytest.mark.parametrize(("before", "goes"), RESENDS)
def test_resends_go_unless_it_is_certain_that_they_are_not_needed(before: Stage, goes: bool) -> None:
    opened = routes(before)
    assert may_be_resent(opened.get("C1"), at(SEND_BY)) is goes
    assert not may_be_resent(opened.get("C1"), at(SEND_BY + 1))


def test_a_resend_of_a_route_that_is_done_does_not_go() -> None:
    assert not may_be_resent(None, at(1))
