"""What passes between a load generator and a venue: jobs, outcomes, and the FIX 4.2 text of orders and answers.

Limit orders buy so far below the market that they rest: one answer, New. Market orders buy one share: New, then Fill.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

SOH: Final = "\x01"
VENUE: Final = "XSIM"
COMP_IDS: Final = ("BENCH1", "BENCH2", "BENCH3", "BENCH4")
PRICES: Final = {"AAPL": "150.00", "GOOGL": "2800.00"}  # of the house's quotes
RESTING_CENTS: Final = range(9_000, 9_050)  # far below them
# Seconds between heartbeats: longer than most measurements, so what is counted is orders.
HEARTBEAT_SECONDS: Final = 30

# What both ends of the bare pair have in common.
SESSION_SETTINGS: Final = """\
BeginString=FIX.4.2
SocketNodelay=Y
NonStopSession=Y
ValidateUserDefinedFields=N
"""


@dataclass(frozen=True, slots=True)
class Load:
    """How orders travel: sessions at once, orders under way on each, and whether they are market orders."""

    sessions: int
    window: int
    market: bool = False


@dataclass(frozen=True, slots=True)
class ClientJob:
    """One run of the load generator against the port. `store` keeps the sequence numbers from run to run."""

    port: int
    store: str
    load: Load
    seconds: float

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "ClientJob":
        given: dict[str, Any] = json.loads(text)
        return cls(**given | {"load": Load(**given["load"])})


@dataclass(frozen=True, slots=True)
class PairJob:
    """The other end of the bare pair; `market`: each order is answered twice."""

    port: int
    store: str
    market: bool

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "PairJob":
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came back. Rate and latencies are of the time measured, `orders` and `cpu_seconds` of the whole run."""

    orders: int
    per_s: float
    p50_us: float  # from an order to its last answer
    p99_us: float
    max_us: float  # what p99 hides: one stall stops every order under way, which are few
    cpu_seconds: float  # of the load generator


def orders(*, market: bool) -> Iterator[str]:
    """NewOrderSingle(D) without ClOrdID(11), one for each symbol and price."""
    terms = ["40=1|"] if market else [f"40=2|44={cents // 100}.{cents % 100:02d}|" for cents in RESTING_CENTS]
    for each in terms:
        for symbol in PRICES:
            yield _text(f"35=D|1=bench|21=1|55={symbol}|54=1|60=20261123-14:30:00|38=1|{each}59=0|")


def answers(*, market: bool) -> Iterator[str]:
    """ExecutionReport(8) without ClOrdID(11): what FIX 4.2 requires of a New, and of a Fill, and no more."""
    always = "35=8|37=1|17=1|20=0|55=AAPL|54=1|"
    yield _text(f"{always}150=0|39=0|151=1|14=0|6=0|")
    if market:
        yield _text(f"{always}150=2|39=2|151=0|14=1|6=150|")


def dictionary() -> Path:
    """QuickFIX's own of FIX 4.2."""
    return Path(sys.prefix) / "share" / "quickfix" / "FIX42.xml"


def _text(body: str) -> str:
    # QuickFIX computes BodyLength(9) and CheckSum(10) anew.
    return f"8=FIX.4.2|9=0|{body}10=000|".replace("|", SOH)
