"""Gaps in a FIX session's numbers, either way: what we have asked for, and what we are asked for. Pure."""

from typing import Final

NUMBER_DIGITS_MAX: Final = 9
ALL: Final = (0, 999_999)  # EndSeqNo(16) that means everything
NUMBER_MAX: Final = 999_999_000  # to which a count may be set: some are needed after it
RESENT_AT_ONCE: Final = 500
OUTBOX_MAX: Final = 5_000  # messages of one turn; more wait in the store
GAP_ASKS_MAX: Final = 3
GAP_NS: Final = 10_000_000_000


def sequence_number(text: str) -> int:
    """-1 if it is none."""
    return int(text) if text.isdecimal() and len(text) <= NUMBER_DIGITS_MAX else -1


class Gap:
    """What the counterparty has been asked to send again. `expected` is always the next number in turn."""

    def __init__(self) -> None:
        self._from = self._to = 0  # asked from there; open until `_to` has come
        self._asks = self._waits_for = self._since_ns = 0

    def opens(self, expected: int, number: int, is_resent: bool, steady_ns: int) -> bool:
        """`number` came ahead of its turn: whether to ask from `expected` on. Once for each gap; but a resent message
        ahead of its turn shows a gap in what was resent, and that is another one."""
        if expected <= self._to and (self._from == expected or not is_resent):
            if self._from == expected:  # sent before the counterparty saw the request, so its answer has this too
                self._to = max(self._to, number)
            return False
        self._from, self._to = expected, max(number, self._to)
        self._asks, self._waits_for, self._since_ns = 1, expected, steady_ns
        return True

    def is_overdue(self, expected: int, steady_ns: int) -> bool:
        """Whether the gap is open and nothing has come for long: ask again, unless it `is_hopeless` now."""
        if expected > self._to:
            return False
        if expected != self._waits_for:
            self._asks, self._waits_for, self._since_ns = 1, expected, steady_ns
        if steady_ns - self._since_ns < GAP_NS:
            return False
        self._asks, self._since_ns, self._from = self._asks + 1, steady_ns, expected
        return True

    @property
    def is_hopeless(self) -> bool:
        return self._asks > GAP_ASKS_MAX


class Resend:
    """What is sent again, a piece at a time. What is sent for the first time waits for that to end, so that all of it
    arrives in order; `next_out` is the next new number."""

    def __init__(self) -> None:
        self._next, self._last = 1, 0
        self._held_from = 0  # the first number that is not yet transmitted at all; 0: none is held back

    @property
    def is_going_on(self) -> bool:
        return self._held_from > 0

    def start(self, first: int, last: int, next_out: int) -> None:
        """`first` to `last` are asked for; both have been given out. What an earlier request wants still comes."""
        if not self._held_from:
            self._held_from = next_out
        if self._next <= self._last:
            first, last = min(first, self._next), max(last, self._last)
        self._next, self._last = first, min(last, self._held_from - 1)

    def hold_from(self, number: int) -> None:
        """`number` is the first that waits, unless others do already."""
        self._held_from = self._held_from or number

    def take(self, next_out: int) -> tuple[int, int, bool]:
        """The next piece: first number, the one after the last, and whether it was sent before."""
        again = self._next <= self._last
        first, beyond = (self._next, self._last + 1) if again else (self._held_from, next_out)
        beyond = min(beyond, first + RESENT_AT_ONCE)
        if again:
            self._next = beyond
        else:
            self._held_from = beyond
        if self._next > self._last and self._held_from == next_out:
            self._held_from = 0
        return first, beyond, again
