"""What the load generator sends, and how: jobs, and the messages of a job, serialised before the clock starts.

Every command is a capture of one unit from a hold, or a purchase of one share for a cent, all with one settle date: so
every transaction touches the one house account clearing/DATE.
"""

import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from openbell.fix.v1 import fix_pb2
from openbell.ledger.v1 import ledger_pb2 as pb

HELD = 10**12  # units in each hold: more captures of one unit than any run makes
BEYOND = 2 * HELD  # what a capture that is to be refused asks for
SYMBOL = "BENCH"
CENT = 100  # units
# In place of the call's number in its keys, and as long: so a serialised message stays one when they change places.
PLACE = b"k" * 16


@dataclass(frozen=True, slots=True)
class Shape:
    """How commands travel: the RPC, how many calls (on a stream, messages) are under way at once, commands in each."""

    rpc: str
    at_once: int
    commands: int


@dataclass(frozen=True, slots=True)
class Holder:
    """An account with an open hold."""

    account_id: str
    order_id: str
    hold_id: str


@dataclass(frozen=True, slots=True)
class Job:
    """One run of the load generator: for `seconds`, or for `commands` commands if that is not 0."""

    address: str
    token: str
    shape: Shape
    holders: tuple[Holder, ...]
    settle_date: str  # YYYY-MM-DD
    four_legs: bool = False
    refused_every: int = 0  # one command in so many is one to be refused; 0: none
    seconds: float = 0.0
    commands: int = 0

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Job":
        given: dict[str, Any] = json.loads(text)
        given["shape"] = Shape(**given["shape"])
        given["holders"] = tuple(Holder(**each) for each in given["holders"])
        return cls(**given)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came back. Rate and latencies are of the time in which all callers work, the rest of the whole run."""

    transactions: int
    refused: int
    per_s: float  # transactions
    p50_ms: float  # of a call, on a stream of a message
    p99_ms: float
    cpu_seconds: float  # of the load generator


@dataclass(frozen=True, slots=True)
class Message:
    """A serialised request without its number, and how many of its commands are to be refused."""

    template: bytes
    refused: int

    def numbered(self, number: int) -> bytes:
        return self.template.replace(PLACE, b"%016x" % number)


def messages(job: Job) -> list[Message]:
    """One cycle: after it, holders and refusals fall on the same commands again."""
    cycle = math.lcm(len(job.holders), job.shape.commands, job.refused_every or 1)
    numbers = iter(range(cycle))
    return [_message(job, list(chunk)) for chunk in _chunks(numbers, job.shape.commands)]


def _chunks(numbers: Iterator[int], size: int) -> Iterator[tuple[int, ...]]:
    while chunk := tuple(itertools.islice(numbers, size)):
        yield chunk


def _message(job: Job, numbers: list[int]) -> Message:
    refused = [job.refused_every > 0 and (number + 1) % job.refused_every == 0 for number in numbers]
    commands = [
        _command(job, job.holders[number % len(job.holders)], index, refuse)
        for index, (number, refuse) in enumerate(zip(numbers, refused, strict=True))
    ]
    request = commands[0].capture if job.shape.rpc == "Capture" else pb.SubmitBatchRequest(commands=commands)
    return Message(request.SerializeToString(), sum(refused))


def _command(job: Job, holder: Holder, index: int, refuse: bool) -> pb.Command:
    key = f"{PLACE.decode()}{index:04d}"
    if job.four_legs:
        return pb.Command(trade=_trade(job, holder, key))
    amount = BEYOND if refuse else 1
    capture = pb.CaptureRequest(hold_id=holder.hold_id, amount=amount, settle_date=job.settle_date, idempotency_key=key)
    return pb.Command(capture=capture)


def _trade(job: Job, holder: Holder, key: str) -> pb.TradeRequest:
    return pb.TradeRequest(
        account_id=holder.account_id,
        order_id=holder.order_id,
        side=fix_pb2.SIDE_BUY,
        symbol=SYMBOL,
        quantity=1,
        price=CENT,
        settle_date=job.settle_date,
        idempotency_key=key,
    )
