"""The data directory of a brokerage: its version, its lock, its settings.

VERSION          the layout of this directory
settings.json    the resolved configuration, which every process reads
secrets/         keys, tokens, passwords, database URLs; mode 0700
run/             lock, supervisor
log/NAME.log     what each process says
pg/ fix/ venue/  PostgreSQL, the FIX stores, the simulated venue
"""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ops.failure import Failure

VERSION = "1"
FORBIDDEN = frozenset("%;\n")  # supervisord's configuration gives them a meaning of its own


def prepare(data: Path) -> None:
    """Makes the directory, or checks that it is one that this version can use."""
    if FORBIDDEN & set(str(data)):
        raise Failure(f"the path {data} contains % or ;: use another directory with --data")
    version = data / "VERSION"
    if version.exists():
        found = version.read_text().strip()
        if found != VERSION:
            raise Failure(
                f"{data} has layout {found!r} and this openbell knows only {VERSION!r}:"
                " use the openbell that made it, or another directory with --data"
            )
    elif data.exists() and (not data.is_dir() or any(data.iterdir())):
        raise Failure(f"{data} is not empty and holds no brokerage: use another directory with --data")
    data.mkdir(mode=0o755, parents=True, exist_ok=True)
    version.write_text(VERSION + "\n")
    for name in ("run", "log", "fix", "venue"):
        (data / name).mkdir(mode=0o755, exist_ok=True)
    (data / "secrets").mkdir(mode=0o700, exist_ok=True)


@contextmanager
def locked(data: Path) -> Iterator[None]:
    """One `up` or `down` at a time. The kernel drops the lock with the process, however it ends."""
    with (data / "run" / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failure(f"another openbell up or down is at work in {data}: wait for it") from None
        yield


def write_settings(data: Path, sections: dict[str, Any]) -> None:
    """Whole or not at all: a process that starts meanwhile reads the old file or the new one."""
    new = data / "settings.json.new"
    new.write_text(json.dumps(sections, indent=2) + "\n")
    new.replace(data / "settings.json")
