"""Waiting for a condition, never longer than told."""

import time
from collections.abc import Callable

POLL_SECONDS = 0.05


def poll(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether the condition came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
