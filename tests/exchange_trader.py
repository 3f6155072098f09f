"""Counterparties of the venue: seeded streams of orders, cancels and replaces, and what their clients know of them."""

from contextlib import suppress
from datetime import UTC, datetime
from random import Random
from typing import Any, Protocol

from tests.exchange_process import VenueProcess
from tests.fix_client import FixClient, RawFixClient, field, has

TICK, MIDDLE = 100, 1_500_000  # of AAPL, in 1/10,000 dollar


class Sender(Protocol):
    def send(self, fields: str) -> None: ...


class Trader:
    """Buys and sells AAPL a few ticks about 150.00, so that two of them trade with each other."""

    def __init__(self, client: Sender, name: str, seed: int) -> None:
        self.sent: list[str] = []  # ClOrdIDs
        self._client = client
        self._name = name
        self._random = Random(f"{name}{seed}")
        self._chains: list[tuple[str, str]] = []  # (Side, ClOrdID last asked for) of each order

    def act(self) -> None:
        """One request. What it is about may be done, or never have been."""
        kind = self._random.random()
        if kind < 0.6 or not self._chains:
            self._order()
        elif kind < 0.8:
            self._change("F", "")
        else:
            self._change("G", f"|21=1|1={self._name}|38={self._random.randint(1, 400)}|{self._limit()}")

    def _order(self) -> None:
        side, shares, cl_ord_id = self._random.choice("12"), self._random.randint(1, 300), self._next_name()
        terms = self._random.choice([self._limit(), self._limit(), self._limit(), f"{self._limit()}|59=3", "40=1"])
        self._client.send(order(cl_ord_id, f"54={side}|38={shares}|{terms}", self._name))
        self._chains.append((side, cl_ord_id))

    def _change(self, msg_type: str, terms: str) -> None:
        at = self._random.randrange(max(0, len(self._chains) - 20), len(self._chains))
        side, orig = self._chains[at]
        cl_ord_id = self._next_name()
        self._client.send(f"35={msg_type}|11={cl_ord_id}|41={orig}|55=AAPL|54={side}|60={now()}{terms}")
        self._chains[at] = side, cl_ord_id

    def _limit(self) -> str:
        ticks = self._random.randint(-6, 6)
        return f"40=2|44={(MIDDLE + ticks * TICK) / 10_000:.2f}"

    def _next_name(self) -> str:
        self.sent.append(f"{self._name}-{len(self.sent) + 1}")
        return self.sent[-1]


class Counterparty:
    """A session by hand: quick, and a test decides what it has seen. `came`: MsgSeqNum -> message."""

    def __init__(
        self, venue: VenueProcess, comp_id: str, before: "Counterparty | None" = None, logon: str = ""
    ) -> None:
        """`before`: whose numbers it goes on with, and what of its messages it sends again when asked."""
        self.came: dict[int, str] = {}
        self._raw = RawFixClient(venue.fix_port, comp_id)
        self._sent: list[str] = list(before._sent) if before else []
        self.send(f"35=A|98=0|108=30|{logon}")
        self.logon = self.read("35=A")

    def send(self, message: str) -> None:
        """`message`: from 35= on."""
        self._sent.append(message)
        self._write(len(self._sent), message)

    def ask_from(self, first: int) -> None:
        self.send(f"35=2|7={first}|16=0")

    def read(self, fields: str) -> str:
        """The next message that has the fields."""
        while True:
            message = self._raw.receive("")
            self.came[int(field(message, 34))] = message
            if has(message, "35=2"):
                self._send_again(int(field(message, 7)))
            if has(message, fields):
                return message

    def catch_up(self) -> list[str]:
        """All reports that came of what happened, each MsgSeqNum once, in order; status reports are none."""
        self.send("35=H|11=none|55=AAPL|54=1")
        self.read("11=none|103=5")
        return [self.came[number] for number in sorted(self.came) if field(self.came[number], 5504)]

    def ended(self) -> bool:
        """Reads until the venue closes the connection, and sends nothing more."""
        with suppress(AssertionError, ConnectionResetError):
            while True:
                self._raw.receive("")
        return True

    def close(self) -> None:
        """Without a Logout."""
        self._raw.close()

    def _send_again(self, first: int) -> None:
        for number, message in list(enumerate(self._sent, start=1))[first - 1 :]:
            again = message if field(message, 35) in "DFGH" else f"35=4|123=Y|36={number + 1}"
            self._write(number, again, f"43=Y|122={now()}|")

    def _write(self, number: int, message: str, header: str = "") -> None:
        kind, _, fields = message.removeprefix("35=").partition("|")
        self._raw.send(number, kind, header + fields)


def order(cl_ord_id: str, terms: str = "54=1|38=10|40=1", account: str = "acc") -> str:
    return f"35=D|11={cl_ord_id}|1={account}|21=1|55=AAPL|{terms}|60={now()}"


def now() -> str:
    return datetime.now(UTC).strftime("%Y%m%d-%H:%M:%S")


def numbers(client: FixClient) -> list[int]:
    """Of the venue's reports that came, in the order they came in: 5504 of ExecutionReport(8), OrderCancelReject(9)."""
    return [int(field(each, 5504)) for each in client.app if field(each, 5504)]


def rows_of(rows: list[dict[str, Any]], *comp_ids: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["comp_id"] in comp_ids]


def says(message: str, row: dict[str, Any]) -> bool:
    """Whether the report is what the journal's row says."""
    said = f"35={row['msg_type']}|11={row['cl_ord_id']}|37={row['order_id']}|39={row['ord_status']}"
    if row["msg_type"] == "8":
        said += f"|17={row['exec_id']}|20={row['exec_trans_type']}|150={row['exec_type']}|32={row['last_shares']}"
        said += f"|14={row['cum_qty']}|151={row['leaves_qty']}"
    return has(message, said)


def position(client: FixClient) -> tuple[int, int]:
    """(shares, cash in 1/10,000 dollar) by the executions that came."""
    shares = cash = 0
    for each in client.app:
        if has(each, "35=8|20=0") and field(each, 32) != "0":
            sign = 1 if field(each, 54) == "1" else -1
            dollars, _, rest = field(each, 31).partition(".")
            shares += sign * int(field(each, 32))
            cash -= sign * int(field(each, 32)) * int(dollars + rest.ljust(4, "0"))
    return shares, cash
