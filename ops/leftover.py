"""Processes of a brokerage whose supervisor is gone, found by their exact command lines: never by a name alone."""

import os
import signal
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from ops.waiting import poll


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def find(commands: Iterable[Sequence[str]]) -> list[int]:
    """Pids whose whole command line is one of `commands`."""
    wanted = {tuple(command) for command in commands}
    numbers = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in numbers if _command_line(pid) in wanted and alive(pid)]


def _command_line(pid: int) -> tuple[str, ...]:
    try:
        return tuple(Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0"))
    except OSError:
        return ()


def end(pids: Sequence[int], seconds: float) -> None:
    """Asks, waits, then kills. PostgreSQL takes SIGINT as `stop now, cleanly` and so do all others here."""
    for number in (signal.SIGINT, signal.SIGKILL):
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        if poll(lambda: not any(alive(pid) for pid in pids), seconds):
            return
