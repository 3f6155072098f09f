"""What every gRPC server of openbell does alike: authenticate, refuse in one form, mask, measure, drain."""

import argparse
import asyncio
import gc
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import structlog
import uvloop
from google.protobuf.message import DecodeError, Message
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
Scopes = Mapping[str, str | tuple[str, ...]]  # of several, one will do


class Guard(grpc.aio.ServerInterceptor):
    """Wraps every handler: token and scope before it, refusals and masked failures after it."""

    def __init__(self, verifier: auth.Verifier, scopes: Scopes) -> None:
        self._verifier = verifier
        self._scopes: Scopes = {REFLECTION_METHOD: "read", WATCH_METHOD: "read", **scopes}
        self._handlers: dict[str, Any] = {}  # wrapped, by method: the same for each call
        self._running: set[asyncio.Task[Any]] = set()
        self._streams: set[asyncio.Task[Any]] = set()
        self._ending = False

    async def intercept_service(self, continuation: Any, call: grpc.HandlerCallDetails) -> Any:
        wrapped = self._handlers.get(call.method)
        if wrapped is None:
            handler = await continuation(call)
            if handler is None or call.method == OPEN_METHOD:
                return handler
            wrapped = self._handlers[call.method] = self._wrap(call.method, handler)
        return wrapped

    def _wrap(self, method: str, handler: Any) -> Any:
        codecs = {
            "request_deserializer": _parsed(handler.request_deserializer),
            "response_serializer": handler.response_serializer,
        }
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(self._unary(method, handler.unary_unary), **codecs)
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(self._stream(method, handler.unary_stream), **codecs)
        return grpc.stream_stream_rpc_method_handler(self._stream(method, handler.stream_stream), **codecs)

    def _admit(self, method: str, context: Context) -> None:
        metadata = dict(context.invocation_metadata() or ())
        caller = self._verifier.caller(str(metadata.get("authorization", "")))
        auth.require_scope(caller, self._scopes.get(method), method)
        auth.current.set(caller)
        telemetry.enter(header if isinstance(header := metadata.get("traceparent"), str) else None)
        remaining = context.time_remaining()
        if remaining is not None and remaining <= 0:
            raise Refusal("DEADLINE_PAST", grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline had passed on arrival")

    def _unary(self, method: str, handler: Callable[..., Coroutine[Any, Any, Any]]) -> Any:
        done, seconds = rpcs.labels(method, "OK"), rpc_seconds.labels(method)

        async def answer(request: Any, context: Context) -> Any:
            started = time.perf_counter()
            try:
                self._admit(method, context)
                check_message(request)
                # A deadline or a vanished client must not cancel a commit: the work ends, the retry finds its answer.
                task = asyncio.create_task(handler(request, context))
                self._running.add(task)
                task.add_done_callback(self._forget)
                response = await asyncio.shield(task)
            except Exception as problem:  # noqa: BLE001  the edge of the process: every failure gets its form here
                await _abort(method, context, problem)
            done.inc()
            seconds.observe(time.perf_counter() - started)
            return response

        return answer

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # a caller that left does not read it

    def end_streams(self) -> None:
        """Streams have no end of their own; a drain that waited for them would only wait."""
        self._ending = True
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
                if not isinstance(request, AsyncIterator):
                    check_message(request)
                async for response in handler(request, context):
                    yield response
            except asyncio.CancelledError:
                if not self._ending:
                    raise
                task.uncancel()  # grpc.aio would leave the call open, and the drain waiting
                stopping = Refusal("STOPPING", grpc.StatusCode.UNAVAILABLE, "the service stops; ask again")
                await _abort(method, context, stopping)
            except Exception as problem:  # noqa: BLE001  as above
                await _abort(method, context, problem)
            rpcs.labels(method, "OK").inc()

        return answer


def _parsed(parse: Callable[[bytes], Message]) -> Callable[[bytes], Message | None]:
    """None for bytes that are no message: an exception here would reach the caller as it is."""

    def parsed(content: bytes) -> Message | None:
        try:
            return parse(content)
        except DecodeError:
            return None

    return parsed


def check_message(request: Message | None) -> None:
    """Names, keys and tokens are short and printable: what is not would fail deeper, or be echoed at length."""
    if request is None:
        raise Refusal("INVALID_MESSAGE", grpc.StatusCode.INVALID_ARGUMENT, "the bytes are no request of this method")
    for field, value in request.ListFields():
        if field.type == field.TYPE_STRING:
            for text in value if field.is_repeated else [value]:
                check_text(field.name, text)


def check_text(field: str, text: str) -> None:
    """Refusal INVALID_TEXT. For what is nested, which the guard does not look at."""
    if len(text) > TEXT_CHARACTERS_MAX or not text.isprintable():
        raise Refusal(
            "INVALID_TEXT",
            grpc.StatusCode.INVALID_ARGUMENT,
            f"{field} must be at most {TEXT_CHARACTERS_MAX} printable characters",
            field=field,
        )


def as_refusal(method: str, problem: Exception) -> Refusal:
    """What a caller is told of a failure: its reason, or that there is one in the log."""
    if isinstance(problem, Refusal):
        return problem
    if isinstance(problem, Unknown | Fenced):
        return Refusal("OUTCOME_UNKNOWN", grpc.StatusCode.UNAVAILABLE, "whether it was done is not known; ask again")
    if isinstance(problem, UNREACHABLE):
        return Refusal("DATABASE_AWAY", grpc.StatusCode.UNAVAILABLE, "the database does not answer; ask again")
    log.error("call failed", method=method, exc_info=problem)
    return Refusal("INTERNAL", grpc.StatusCode.INTERNAL, "internal error; the log has the details")


async def _abort(method: str, context: Context, problem: Exception) -> None:
    refusal = as_refusal(method, problem)
    rpcs.labels(method, refusal.status.name).inc()
    await context.abort(refusal.status, refusal.message, details(refusal))


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
        _collect_seldom()
        uvloop.run(main(settings))
    except SettingsError as problem:
        log.critical("cannot start", problem=str(problem))
        raise SystemExit(1) from None


def _collect_seldom() -> None:
    """What lives long (modules, cached accounts) is not searched for garbage all the time: a tenth of the CPU."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)


async def run(
    name: str,
    settings: Settings,
    add: Callable[[grpc.aio.Server], None],
    scopes: Scopes,
    background: Sequence[Coroutine[Any, Any, None]],
    *,
    message_bytes_max: int = MESSAGE_BYTES_MAX,
) -> None:
    """Serves until SIGTERM, then drains. `scopes` is the table method -> scope; what is not in it is denied."""
    verifier = auth.Verifier(settings.secret("token_public.pem"))
    guard = Guard(verifier, scopes)
    limits = [(f"grpc.max_{way}_message_length", message_bytes_max) for way in ("receive", "send")]
    server = grpc.aio.server(interceptors=[guard], options=[*OPTIONS, *limits], maximum_concurrent_rpcs=RPCS_MAX)
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
