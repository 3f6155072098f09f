"""Exports the spans of orders: python -m ops.tracer --data DIR, started by `openbell up`.

Reads the services' logs behind them and sends OTLP to OTEL_EXPORTER_OTLP_ENDPOINT, or to DATA/trace/spans.jsonl without
it. A collector that is down delays spans, never orders. Delivery is at least once: span ids are computed, so what comes
twice is the same span.
"""

import asyncio
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import structlog
from opentelemetry.exporter.otlp.json.file import FileSpanExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags

from ops import config, spans
from ops.spans import SQL
from runtime import db, serve
from runtime.settings import Settings

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
IDLE_SECONDS = 0.5
EXPORT_MAX = 500
KINDS = {"accept": SpanKind.SERVER, "match": SpanKind.SERVER, "fix out": SpanKind.CLIENT, "fix in": SpanKind.CONSUMER}

log = structlog.get_logger()

Source = tuple[str, int, str, Callable[[db.Row], Iterator[spans.Span]]]  # name, partition, query, spans of a row


def sources(settings: Settings) -> list[Source]:
    venues = settings.ems_partitions
    return [
        ("orders", 0, SQL.orders_after, spans.of_order),
        ("transactions", 0, SQL.transactions_after, spans.of_transaction),
        *(("routes", partition, SQL.routes_after, spans.of_route) for partition in venues if partition),
        *(("executions", partition, SQL.executions_after, spans.of_execution) for partition in venues),
    ]


class Tracer:
    def __init__(self, pool: db.Pool, exporter: SpanExporter, cursors: Path, ratio: float) -> None:
        self._pool, self._exporter, self._cursors_file = pool, exporter, cursors
        self._cursors: dict[str, int] = json.loads(cursors.read_text()) if cursors.exists() else {}
        self._threshold = int(ratio * 2**64)
        self._resources: dict[str, Resource] = {}

    async def run(self, sources: Sequence[Source]) -> None:
        while True:
            found = 0
            try:
                for source in sources:
                    found += await self._read(*source)
            except db.UNREACHABLE as problem:
                log.info("tracing waits for PostgreSQL", problem=repr(problem))
            if not found:
                await asyncio.sleep(IDLE_SECONDS)

    async def _read(self, name: str, partition: int, query: str, make: Callable[[db.Row], Iterator[spans.Span]]) -> int:
        key = f"{name}/{partition}"
        rows = await self._pool.fetch(query, partition, self._cursors.get(key, 0))
        made = [span for row in rows if self._sampled(row["trace_id"]) for span in make(row)]
        for start in range(0, len(made), EXPORT_MAX):
            await self._export([self._readable(span) for span in made[start : start + EXPORT_MAX]])
        if rows:
            self._cursors[key] = rows[-1]["position"]
            self._save_cursors()
        return len(rows)

    def _sampled(self, trace_id: bytes) -> bool:
        """By the trace id alone, as OpenTelemetry's TraceIdRatioBased: a trace is exported whole or not at all."""
        return int.from_bytes(trace_id[8:]) < self._threshold

    async def _export(self, batch: list[ReadableSpan]) -> None:
        while await asyncio.to_thread(self._exporter.export, batch) is not SpanExportResult.SUCCESS:
            log.warning("spans are not taken; trying again", spans=len(batch))
            await asyncio.sleep(5)

    def _readable(self, span: spans.Span) -> ReadableSpan:
        context = _context(span.trace_id, span.span_id)
        return ReadableSpan(
            name=span.name,
            context=context,
            parent=_context(span.trace_id, span.parent_span_id) if span.parent_span_id else None,
            resource=self._resource(span.service),
            attributes=span.attributes,
            kind=KINDS.get(span.name, SpanKind.INTERNAL),
            start_time=span.start_ns,
            end_time=max(span.end_ns, span.start_ns),
        )

    def _resource(self, service: str) -> Resource:
        if service not in self._resources:
            self._resources[service] = Resource({"service.name": service})
        return self._resources[service]

    def _save_cursors(self) -> None:
        new = self._cursors_file.with_suffix(".new")
        new.write_text(json.dumps(self._cursors))
        new.replace(self._cursors_file)


def _context(trace_id: bytes, span_id: bytes) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED)
    return SpanContext(int.from_bytes(trace_id), int.from_bytes(span_id), is_remote=False, trace_flags=flags)


async def main(settings: Settings) -> None:
    directory = settings.data / "trace"
    directory.mkdir(exist_ok=True)
    exporter: SpanExporter
    exporter = OTLPSpanExporter() if os.environ.get(ENDPOINT) else FileSpanExporter(directory / "spans.jsonl")
    pool = await db.pool(settings.secret("database_admin"), "public", size=1)
    ratio = settings.section("ops", config.Ops).trace_ratio
    tracer = Tracer(pool, exporter, directory / "cursors.json", ratio)
    await serve.until_stopped([tracer.run(sources(settings))])
    exporter.shutdown()


if __name__ == "__main__":
    serve.start("tracer", main)
