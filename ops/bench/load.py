"""The load generator: `python -m ops.bench.load` reads a job from standard input and prints its outcome, both JSON.

A process of its own, so that what it costs can be told from what the ledger costs. It shares their processors, so it
spends little: messages are serialised before the clock starts, and only get their number while it runs.
"""

import asyncio
import json
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import asdict
from typing import Any

import grpc
import uvloop

from openbell.ledger.v1 import ledger_pb2 as pb
from ops.bench.meter import Meter
from ops.bench.traffic import Job, Outcome, messages

SERVICE = "/openbell.ledger.v1.LedgerService/"
CALL_SECONDS = 60.0

Metadata = tuple[tuple[str, str], ...]
Send = Callable[[bytes], Awaitable[int]]  # one request; answers how many of its commands were refused
Call = Any  # a multi-callable that takes serialised requests
Requests = Iterator[tuple[bytes, int]]  # shared by all callers


async def run(job: Job) -> Outcome:
    """ValueError, or the call's error, if the ledger answers otherwise than it should."""
    cycle, metadata = messages(job), (("authorization", f"Bearer {job.token}"),)
    async with grpc.aio.insecure_channel(job.address) as channel:
        await asyncio.wait_for(channel.channel_ready(), CALL_SECONDS)
        meter = Meter(job, cycle)
        requests = meter.requests()
        if job.shape.rpc == "SubmitStream":
            await _stream(channel, metadata, job.shape.at_once, requests, meter)
        else:
            make = _unary if job.shape.rpc == "Capture" else _batch
            async with asyncio.TaskGroup() as callers:
                for _ in range(job.shape.at_once):
                    callers.create_task(_caller(make(channel, metadata), requests, meter))
        return meter.outcome()


async def _caller(send: Send, requests: Requests, meter: Meter) -> None:
    """One closed loop: the next call when the last one is answered."""
    for request, to_be_refused in requests:
        sent = time.perf_counter()
        meter.note(sent, to_be_refused, await send(request))


def _unary(channel: grpc.aio.Channel, metadata: Metadata) -> Send:
    call: Call = channel.unary_unary(f"{SERVICE}Capture", response_deserializer=pb.CaptureResponse.FromString)

    async def send(request: bytes) -> int:
        try:
            await call(request, metadata=metadata, timeout=CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.FAILED_PRECONDITION:
                raise
            return 1
        return 0

    return send


def _batch(channel: grpc.aio.Channel, metadata: Metadata) -> Send:
    call: Call = channel.unary_unary(f"{SERVICE}SubmitBatch", response_deserializer=pb.SubmitBatchResponse.FromString)

    async def send(request: bytes) -> int:
        return _refused((await call(request, metadata=metadata, timeout=CALL_SECONDS)).answers)

    return send


def _refused(answers: Iterable[pb.Answer]) -> int:
    return sum(answer.HasField("refused") for answer in answers)


async def _stream(channel: grpc.aio.Channel, metadata: Metadata, window: int, requests: Requests, meter: Meter) -> None:
    """Up to `window` messages on their way; answers come in order, one a message."""
    open_stream: Call = channel.stream_stream(
        f"{SERVICE}SubmitStream", response_deserializer=pb.SubmitStreamResponse.FromString
    )
    call = open_stream(metadata=metadata)
    room, under_way = asyncio.Semaphore(window), deque[tuple[float, int]]()

    async def write() -> None:
        for request, to_be_refused in requests:
            await room.acquire()
            under_way.append((time.perf_counter(), to_be_refused))
            await call.write(request)
        await call.done_writing()

    async def read() -> None:
        async for response in call:
            sent, to_be_refused = under_way.popleft()
            meter.note(sent, to_be_refused, _refused(response.answers))
            room.release()

    async with asyncio.TaskGroup() as both:
        both.create_task(write())
        both.create_task(read())


def main() -> None:
    problem = ""
    try:
        json.dump(asdict(uvloop.run(run(Job.from_json(sys.stdin.read())))), sys.stdout)
    except* (ValueError, OSError, grpc.aio.AioRpcError) as problems:  # of many callers: the first one tells it
        problem = " ".join(repr(problems.exceptions[0]).split())
    if problem:
        sys.exit(problem)


if __name__ == "__main__":
    main()
