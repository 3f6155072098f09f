"""Whether each process does its work: asked from outside, as a client would."""

import asyncio
import http.client
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ops import database, supervise
from ops.programs import SERVICES, engine_names
from runtime.settings import Settings

ANSWER_SECONDS = 1.0
VENUE_METRICS_STEP = 40  # ports between the metrics of one venue's engine and the next one's
SESSION_HEALTHY = re.compile(r"^openbell_fix_session_healthy(?:\{[^}]*\})? 1(?:\.0)?$", re.MULTILINE)

Probe = Callable[[Settings], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Row:
    """One process as an operator sees it; `health` is `ok`, or what is wrong."""

    name: str
    state: str
    pid: int | None
    uptime_seconds: int
    port: int | None
    health: str

    @property
    def is_up(self) -> bool:
        return self.state == "RUNNING" and self.health == "ok"


async def rows(settings: Settings) -> list[Row]:
    """Every process of a running brokerage; empty if it does not run."""
    found = supervise.processes(settings.data)
    probes = _probes(settings)
    healths = await asyncio.gather(*(_health(settings, process, probes) for process in found))
    ports = _ports(settings)
    by_name = {
        process.name: Row(
            process.name, process.state, process.pid, process.uptime_seconds, ports.get(process.name), health
        )
        for process, health in zip(found, healths, strict=True)
    }
    order = ["postgres", "venue", *SERVICES, *engine_names(settings), "tracer"]
    return [by_name[name] for name in order if name in by_name]


async def _health(settings: Settings, process: supervise.Process, probes: dict[str, Probe]) -> str:
    if process.pid is None:
        return "not running"
    probe = probes.get(process.name)
    return await probe(settings) if probe else "ok"


def _probes(settings: Settings) -> dict[str, Probe]:
    table: dict[str, Probe] = {"postgres": _postgres, "venue": _venue}
    for name in SERVICES:
        table[name] = partial(_service, name=name)
    for number, name in enumerate(engine_names(settings)):
        table[name] = partial(_engine, number=number)
    return table


def _ports(settings: Settings) -> dict[str, int]:
    """Where a process listens for others; the engines and the tracer only call."""
    return {name: settings.port(name) for name in ("postgres", "venue", *SERVICES)}


async def _postgres(settings: Settings) -> str:
    return "ok" if await database.answers(settings) else "refuses connections"


async def _venue(settings: Settings) -> str:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            _, writer = await asyncio.open_connection("127.0.0.1", settings.port("venue"))
    except (OSError, TimeoutError):
        return "refuses connections"
    writer.close()
    return "ok"


async def _service(settings: Settings, name: str) -> str:
    async with grpc.aio.insecure_channel(settings.address(name)) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=ANSWER_SECONDS)
        except grpc.aio.AioRpcError as error:
            return f"no answer ({error.code().name})"
    serving = answer.status == health_pb2.HealthCheckResponse.SERVING
    return "ok" if serving else health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


async def _engine(settings: Settings, number: int) -> str:
    return await asyncio.to_thread(_session, settings.metrics_port("engine") + number * VENUE_METRICS_STEP)


def _session(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException):
        return "no answer"
    finally:
        connection.close()
    return "ok" if SESSION_HEALTHY.search(text) else "FIX session down"
