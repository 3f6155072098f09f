"""What every gRPC server of openbell does alike: authenticate, refuse in one form, mask, measure, drain."""

import argparse
import asyncio
import signal
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import grpc
import structlog
import uvloop
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import Counter, Histogram

from runtime import auth, crash, telemetry
from runtime.db import UNREACHABLE
from runtime.errors import Refusal, Unknown, details
from runtime.log import Fenced
from runtime.settings import Settings, SettingsError, load

MESSAGE_BYTES_MAX = 4 * 1024 * 1024
RPCS_MAX = 2_000
DRAIN_SECONDS = 5.0
OPEN_METHOD = "/grpc.health.v1.Health/Check"  # for probes; Watch holds a place open, so it needs a token
WATCH_METHOD = "/grpc.health.v1.Health/Watch"
TEXT_CHARACTERS_MAX = 256
REFLECTION_METHOD = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
OPTIONS = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.server_handshake_timeout_ms", 5_000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.so_reuseport", 0),  # a taken port is an error, not a second server
]

log = structlog.get_logger()
rpcs = Counter("openbell_rpcs_total", "RPCs answered", ["method", "code"])
rpc_seconds = Histogram(
    "openbell_rpc_seconds",
    "Time to answer a unary RPC",
    ["method"],
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5),
)

Context = grpc.aio.ServicerContext[Any, Any]


def traceparent(context: Context) -> str | None:
    """The caller's W3C trace context, if it sent one."""
    header = dict(context.invocation_metadata() or ()).get("traceparent")
    return header if isinstance(header, str) else None


class Guard(grpc.aio.ServerInterceptor):
    """Wraps every handler: token and scope before it, refusals and masked failures after it."""

    def __init__(self, verifier: auth.Verifier, scopes: dict[str, str]) -> None:
        self._verifier = verifier
        self._scopes = {REFLECTION_METHOD: "read", WATCH_METHOD: "read", **scopes}
        self._running: set[asyncio.Task[Any]] = set()
        self._streams: set[asyncio.Task[Any]] = set()

    async def intercept_service(self, continuation: Any, call: grpc.HandlerCallDetails) -> Any:
        handler = await continuation(call)
        if handler is None or call.method == OPEN_METHOD:
            return handler
        codecs = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(self._unary(call.method, handler.unary_unary), **codecs)
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(self._stream(call.method, handler.unary_stream), **codecs)
        return grpc.stream_stream_rpc_method_handler(self._stream(call.method, handler.stream_stream), **codecs)

    def _admit(self, method: str, context: Context) -> None:
        metadata = dict(context.invocation_metadata() or ())
        caller = self._verifier.caller(str(metadata.get("authorization", "")))
        auth.require_scope(caller, self._scopes.get(method), method)
        auth.current.set(caller)
        telemetry.enter(traceparent(context))
        remaining = context.time_remaining()
        if remaining is not None and remaining <= 0:
            raise Refusal("DEADLINE_PAST", grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline had passed on arrival")

    def _unary(self, method: str, handler: Callable[..., Coroutine[Any, Any, Any]]) -> Any:
        async def answer(request: Any, context: Context) -> Any:
            started = time.perf_counter()
            try:
                self._admit(method, context)
                _check_texts(request)
                # A deadline or a vanished client must not cancel a commit: the work ends, the retry finds its answer.
                task = asyncio.create_task(handler(request, context))
                self._running.add(task)
                task.add_done_callback(self._forget)
                response = await asyncio.shield(task)
            except Exception as problem:  # noqa: BLE001  the edge of the process: every failure gets its form here
                await _abort(method, context, problem)
            rpcs.labels(method, "OK").inc()
            rpc_seconds.labels(method).observe(time.perf_counter() - started)
            return response

        return answer

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # a caller that left does not read it

    def end_streams(self) -> None:
        """Streams have no end of their own; a drain that waited for them would only wait."""
        for task in self._streams:
            task.cancel()

    def _stream(self, method: str, handler: Callable[..., Any]) -> Any:
        async def answer(request: Any, context: Context) -> Any:
            task = asyncio.current_task()
            assert task is not None
            self._streams.add(task)
            task.add_done_callback(self._streams.discard)
            try:
                self._admit(method, context)
                if isinstance(request, Message):  # not a stream of them
                    _check_texts(request)
                async for response in handler(request, context):
                    yield response
            except Exception as problem:  # noqa: BLE001  as above
                await _abort(method, context, problem)
            rpcs.labels(method, "OK").inc()

        return answer


def _check_texts(request: Message) -> None:
    """Names, keys and tokens are short and printable: what is not would fail deeper, or be echoed at length."""
    for field, value in request.ListFields():
        texts = value if field.is_repeated else [value]
        if field.type == field.TYPE_STRING and not all(map(_is_name, texts)):
            raise Refusal(
                "INVALID_TEXT",
                grpc.StatusCode.INVALID_ARGUMENT,
                f"{field.name} must be at most {TEXT_CHARACTERS_MAX} printable characters",
                field=field.name,
            )


def _is_name(text: str) -> bool:
    return len(text) <= TEXT_CHARACTERS_MAX and text.isprintable()


async def _abort(method: str, context: Context, problem: Exception) -> None:
    if isinstance(problem, Unknown | Fenced):
        problem = Refusal("OUTCOME_UNKNOWN", grpc.StatusCode.UNAVAILABLE, "whether it was done is not known; ask again")
    if isinstance(problem, UNREACHABLE):
        problem = Refusal("DATABASE_AWAY", grpc.StatusCode.UNAVAILABLE, "the database does not answer; ask again")
    if not isinstance(problem, Refusal):
        log.error("call failed", method=method, exc_info=problem)
        problem = Refusal("INTERNAL", grpc.StatusCode.INTERNAL, "internal error; the log has the details")
    rpcs.labels(method, problem.status.name).inc()
    await context.abort(problem.status, problem.message, details(problem))


def start(name: str, main: Callable[[Settings], Coroutine[Any, Any, None]]) -> None:
    """`python -m NAME --data DIR`: settings, logs, metrics, then `main` until SIGTERM."""
    parser = argparse.ArgumentParser(prog=f"python -m {name}")
    parser.add_argument("--data", type=Path, required=True, help="the brokerage's data directory")
    arguments = parser.parse_args()
    telemetry.setup_logs(name)
    try:
        settings = load(arguments.data)
        crash.arm(settings.data)
        telemetry.serve_metrics(settings.metrics_port(name))
        uvloop.run(main(settings))
    except SettingsError as problem:
        log.critical("cannot start", problem=str(problem))
        raise SystemExit(1) from None


async def run(
    name: str,
    settings: Settings,
    add: Callable[[grpc.aio.Server], None],
    scopes: dict[str, str],
    background: Sequence[Coroutine[Any, Any, None]],
) -> None:
    """Serves until SIGTERM, then drains. `scopes` is the table method -> scope; what is not in it is denied."""
    verifier = auth.Verifier(settings.secret("token_public.pem"))
    guard = Guard(verifier, scopes)
    server = grpc.aio.server(interceptors=[guard], options=OPTIONS, maximum_concurrent_rpcs=RPCS_MAX)
    add(server)
    services = sorted({method.split("/")[1] for method in scopes})
    checker = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checker, server)
    reflection.enable_server_reflection([*services, reflection.SERVICE_NAME, health.SERVICE_NAME], server)
    server.add_insecure_port(settings.address(name))
    await server.start()
    for service in ["", *services]:
        await checker.set(service, health_pb2.HealthCheckResponse.SERVING)
    log.info("serving", address=settings.address(name))
    await until_stopped(background)
    await checker.enter_graceful_shutdown()
    guard.end_streams()
    await server.stop(DRAIN_SECONDS)
    log.info("stopped")


async def until_stopped(background: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Until SIGTERM or SIGINT. A background task that ends is a fault: the process ends too, and is started anew."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stop.set)
    stopped = asyncio.create_task(stop.wait())
    tasks = [asyncio.create_task(task) for task in background]
    await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
    failed = next((task for task in tasks if task.done()), None)
    if failed is not None:
        log.critical("a background task ended", exc_info=None if failed.cancelled() else failed.exception())
        raise SystemExit(1)
