"""Which ports a brokerage uses, and whether they are free."""

import errno
import socket
from collections.abc import Iterator

from ops.failure import Failure
from runtime.settings import METRICS_OFFSET, PORTS

UDP = frozenset({"feed", "rerequest"})
WITH_METRICS = ("oms", "ledger", "ems", "marketdata", "engine", "tracer")
BASE_MIN, BASE_MAX = 1024, 65_000


def used(port_base: int) -> Iterator[tuple[str, int, socket.SocketKind]]:
    """(name, port, kind) of everything that will listen."""
    for name, offset in PORTS.items():
        yield name, port_base + offset, socket.SOCK_DGRAM if name in UDP else socket.SOCK_STREAM
    for name in WITH_METRICS:
        yield f"metrics of {name}", port_base + PORTS[name] + METRICS_OFFSET, socket.SOCK_STREAM


def taken(port_base: int) -> str | None:
    """The first port that somebody else has, in words; None if all are free."""
    return next((f"{port} ({name})" for name, port, kind in used(port_base) if not _free(port, kind)), None)


def require_free(port_base: int) -> None:
    port = taken(port_base)
    if port:
        raise Failure(
            f"port {port} is taken by another program:"
            f" choose other ports with --port-base, for example --port-base {_suggestion(port_base)}"
        )


def _suggestion(port_base: int) -> int:
    candidates = range(port_base + 100, BASE_MAX, 100)
    return next((base for base in candidates if taken(base) is None), port_base + 100)


def _free(port: int, kind: socket.SocketKind) -> bool:
    with socket.socket(socket.AF_INET, kind) as probe:
        if kind == socket.SOCK_STREAM:
            # As the servers do: a connection of the last run in TIME_WAIT is no obstacle, a listener is.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as problem:
            if problem.errno != errno.EADDRINUSE:
                raise Failure(f"cannot listen on 127.0.0.1:{port}: {problem.strerror}") from None
            return False
    return True
