"""Trace ids that are stored, logs that carry them, metrics per process."""

import hashlib
import logging
import re
import secrets
import sys
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import structlog
from prometheus_client import start_http_server


@dataclass(frozen=True, slots=True)
class Trace:
    """Where a span belongs: its trace and its parent (None at the root)."""

    trace_id: bytes  # 16 bytes
    parent_span_id: bytes | None  # 8 bytes


_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?")

current: ContextVar[Trace] = ContextVar("trace")


def enter(header: str | None) -> None:
    """Sets the trace of the call under way: the caller's, or a new one. Its id is on every line the call logs."""
    current.set(parse_traceparent(header))


def _add_trace_id(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    trace = current.get(None)
    if trace is not None:
        event["trace_id"] = trace.trace_id.hex()
    return event


def span_id(kind: str, entity_id: str) -> bytes:
    """The span of an entity has an id that anyone who knows the entity can compute: no row needs its parent's ids."""
    return hashlib.blake2b(f"{kind} {entity_id}".encode(), digest_size=8).digest()


def parse_traceparent(header: str | None) -> Trace:
    """W3C Trace Context; what is not one starts a new trace."""
    match = _TRACEPARENT.fullmatch(header or "")
    if match is not None:
        trace_id, parent = bytes.fromhex(match[1]), bytes.fromhex(match[2])
        if any(trace_id) and any(parent):
            return Trace(trace_id, parent)
    return Trace(secrets.token_bytes(16), None)


def format_traceparent(trace_id: bytes, parent_span_id: bytes) -> str:
    return f"00-{trace_id.hex()}-{parent_span_id.hex()}-01"


def setup_logs(service: str) -> None:
    """JSON lines on standard error: structlog's own and those of the libraries that use logging."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_trace_id,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(sort_keys=True),
            ],
            foreign_pre_chain=shared,
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    structlog.contextvars.bind_contextvars(service=service)


def serve_metrics(port: int) -> None:
    """Prometheus metrics of this process on http://127.0.0.1:port/metrics."""
    start_http_server(port, addr="127.0.0.1")
