"""Processor time, of processes and of the machine, from /proc."""

import os
from collections.abc import Iterator
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
# Fields of /proc/PID/stat after the command's name: proc(5) counts from 1, with pid and name before them.
PPID, TIMES = 4 - 3, slice(14 - 3, 18 - 3)  # utime, stime, and cutime, cstime of children that have ended
IDLE = slice(3, 5)  # idle, iowait, of the times in the first line of /proc/stat
LISTED = 8  # those after steal are counted in others


def seconds(pid: int) -> float:
    """Of the process with all its threads, and of its children, those that have ended included."""
    return sum(map(_own_seconds, _family(pid)))


def _own_seconds(pid: int) -> float:
    return sum(int(ticks) for ticks in _stat(pid)[TIMES]) / TICKS_PER_SECOND


def _family(pid: int) -> Iterator[int]:
    yield pid
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _stat(int(entry.name))[PPID : PPID + 1] == [str(pid)]:
            yield int(entry.name)


def _stat(pid: int) -> list[str]:
    """Empty for a process that has ended: its parent has its time by then."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def machine_seconds() -> tuple[float, float]:
    """(used, all there was) since the machine started; what a hypervisor took away counts as used."""
    ticks = [int(each) for each in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1 : 1 + LISTED]]
    return (sum(ticks) - sum(ticks[IDLE])) / TICKS_PER_SECOND, sum(ticks) / TICKS_PER_SECOND
