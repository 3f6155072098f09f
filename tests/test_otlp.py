"""Spans go to an OTLP collector when one is named; a collector that is down delays spans, never orders."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from tests.brokerage import Brokerage, until
from tests.cluster import free_port
from tests.customer import Customer

pytestmark = pytest.mark.brokerage

NAMES = {"accept", "hold", "route", "fix out", "match", "fix in", "post", "release"}


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Remembers (trace id, span name) of what it is sent. Listens from `start` on."""

    def __init__(self) -> None:
        self.port = free_port()
        self.names: set[tuple[str, str]] = set()
        self._server = grpc.server(ThreadPoolExecutor(2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]

    def start(self) -> None:
        self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None)

    def Export(  # noqa: N802
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.names |= {(span.trace_id.hex(), span.name) for span in scope.spans}
        return trace_service_pb2.ExportTraceServiceResponse()

    def of(self, trace_id: str) -> set[str]:
        return {name for trace, name in self.names if trace == trace_id}


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.stop()


def test_spans_wait_for_a_collector_that_is_down_and_orders_do_not(
    collector: Collector, new_brokerage: Callable[..., Brokerage]
) -> None:
    brokerage = new_brokerage(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{collector.port}")
    customer = Customer(brokerage)
    placed = customer.place()
    customer.until_filled(placed)
    collector.start()
    until(lambda: collector.of(placed.trace_id) == NAMES, "all spans of the order have come", 60)
    assert not (brokerage.data / "trace" / "spans.jsonl").exists()
