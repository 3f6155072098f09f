"""Named points at which a test lets a process die as by kill -9, once.

OPENBELL_CRASH=ems.route_written openbell up: the process that reaches that point first dies there; a marker in the data
directory keeps the restarted one alive. OPENBELL_CRASH=@FILE: the point that FILE names at the moment; FILE is removed
by the process that dies, so that one brokerage can be crashed many times.
"""

import os
import signal
from pathlib import Path

POINTS = frozenset(
    {
        "oms.hold_committed",  # the ledger has answered, before the order is committed
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
_once = Path()  # exists once the armed point has been reached
_named_by: Path | None = None


def arm(data: Path) -> None:
    """Read once at start. ValueError for a point that does not exist: a test that cannot fail is none."""
    global _armed, _once, _named_by
    given = os.environ.get("OPENBELL_CRASH", "")
    if given.startswith("@"):
        _named_by = Path(given[1:])
    elif given:
        if given not in POINTS:
            raise ValueError(f"OPENBELL_CRASH={given}: no such point; there are {', '.join(sorted(POINTS))}")
        _once = data / f"crashed-{given}"
        _armed = None if _once.exists() else given


def point(name: str) -> None:
    """Costs two comparisons when nothing is armed."""
    if name == _armed:
        _once.touch()
    elif _named_by is None or not _claimed(_named_by, name):
        return
    os.kill(os.getpid(), signal.SIGKILL)


def _claimed(named_by: Path, name: str) -> bool:
    try:
        if named_by.read_text().strip() != name:
            return False
        named_by.unlink()
    except FileNotFoundError:
        return False
    return True
