"""Named points at which a test lets a process die as by kill -9, once per data directory.

OPENBELL_CRASH=ems.route_written openbell up: the process that reaches that point first dies there; a marker in the data
directory keeps the restarted one alive.
"""

import os
import signal
from pathlib import Path

POINTS = frozenset(
    {
        "oms.order_committed",  # order committed, before hand-over to the EMS
        "ems.route_written",  # route written, before it is sent
        "engine.to_app",  # in toApp: the message is made, not stored, not sent
        "engine.from_app",  # in fromApp: received, not committed
        "engine.execution_committed",  # execution committed, before the ledger posts
        "ledger.hold_committed",  # hold committed, before it is answered
        "ledger.posting",  # in the ledger's transaction, before its commit
        "ledger.cursor_moved",  # posted, and the cursor with it
        "oms.cursor_moved",  # order moved, and the cursor with it
    }
)

_armed: str | None = None
_marker = Path()


def arm(data: Path) -> None:
    """Read once at start. ValueError for a point that does not exist: a test that cannot fail is none."""
    global _armed, _marker
    name = os.environ.get("OPENBELL_CRASH")
    if name and name not in POINTS:
        raise ValueError(f"OPENBELL_CRASH={name}: no such point; there are {', '.join(sorted(POINTS))}")
    _marker = data / f"crashed-{name}"
    _armed = name if name and not _marker.exists() else None


def point(name: str) -> None:
    if name == _armed:
        _marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
