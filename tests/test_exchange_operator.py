"""The venue's operator: every act and question through its socket, and what counterparties and the feed see of it."""

import json
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.brokerage import OPENBELL
from tests.exchange_history import decide
from tests.exchange_line import Line, kinds, operate
from tests.exchange_process import CHECKOUT, VenueProcess
from tests.exchange_trader import Counterparty, now, says
from tests.fix_client import field as value
from tests.fix_client import has

SYMBOLS = [f"S{number}" for number in range(20)]
SETTINGS = 'session="manual"\nlevels=2\nshares_per_level=100\n' + "".join(
    f'[[symbols]]\nsymbol="{symbol}"\nprice="100.00"\n' for symbol in SYMBOLS
)
PARTIES = '[[counterparties]]\ncomp_id="OPENBELL"\n[[counterparties]]\ncomp_id="COPY"\ncopies=["OPENBELL"]\n'


@dataclass
class Stage:
    """One venue, its one trader, a drop copy and the feed; every test trades a symbol of its own."""

    venue: VenueProcess
    trader: Counterparty
    copy: Counterparty
    line: Line
    symbols: list[str] = field(default_factory=lambda: list(SYMBOLS))
    orders: int = 0
    told: int = 0  # feed messages looked at

    def order(self, symbol: str, terms: str, wanted: str = "150=0") -> str:
        """Sends an order; the answer that has `wanted`."""
        self.orders += 1
        name = f"n{self.orders}"
        self.trader.send(f"35=D|11={name}|1=acc|21=1|55={symbol}|60={now()}|{terms}")
        return self.trader.read(f"11={name}|{wanted}")

    def feed(self) -> str:
        """The letters of what was published since the last time."""
        messages = self.line.everything(self.venue)
        since, self.told = messages[self.told :], len(messages)
        return kinds(since)

    def act(self, act: str, **words: Any) -> list[str]:
        """What the trader is told because of the act. Drop copy and journal must have the same."""
        self.feed()
        answer = operate(self.venue, act, **words)
        assert answer["done"] == act, answer
        record = self.venue.records()[-1]
        assert record["in"]["kind"] == act
        assert record["out"] == answer["reports"]
        told = [self.trader.read(f"5504={row['number']}") for row in answer["reports"]]
        for message, row in zip(told, answer["reports"], strict=True):
            copied = self.copy.read(f"5504={row['number']}|115=OPENBELL")
            assert says(message, row)
            assert says(copied, row)
        return told


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with VenueProcess(tmp_path_factory.mktemp("venue"), SETTINGS, PARTIES) as venue, Line(venue) as line:
        operate(venue, "phase", name="OPEN")
        yield Stage(venue, Counterparty(venue, "OPENBELL"), Counterparty(venue, "COPY"), line)


@pytest.fixture
def stage(shared: Stage) -> Iterator[Stage]:
    yield shared
    assert operate(shared.venue, "status")["phase"] == "OPEN"


@pytest.fixture
def symbol(stage: Stage) -> str:
    return stage.symbols.pop()


def exec_id(report: str) -> str:
    return value(report, 17)


def order_id(report: str) -> str:
    return value(report, 37)


def refused(stage: Stage, act: str, **words: Any) -> str:
    before = stage.venue.journal.read_bytes()
    answer = operate(stage.venue, act, **words)
    assert list(answer) == ["refused"], answer
    assert stage.venue.journal.read_bytes() == before
    return str(answer["refused"])


def test_a_halt_stops_trading_until_it_is_resumed_and_what_crosses_then_trades_at_one_price(
    stage: Stage, symbol: str
) -> None:
    stage.trader.send(f"35=e|324=watch|55={symbol}|263=1")
    stage.trader.read(f"35=f|324=watch|55={symbol}|326=17")
    buy = stage.order(symbol, "54=1|38=10|40=2|44=99.00")
    assert stage.act("halt", symbol=symbol) == []
    assert stage.feed() == "H"
    stage.trader.read(f"35=f|324=watch|55={symbol}|326=2")
    assert symbol in operate(stage.venue, "status")["halted"]
    assert "is halted already" in refused(stage, "halt", symbol=symbol)
    stage.order(symbol, "54=2|38=10|40=2|44=99.00", "150=8|103=2|58=trading in this symbol is halted")
    stage.act("cancel_order", order_id=order_id(buy))
    assert stage.act("resume", symbol=symbol) == []
    assert stage.feed() == "H"
    stage.trader.read(f"35=f|324=watch|55={symbol}|326=17")
    assert "is not halted" in refused(stage, "resume", symbol=symbol)
    stage.order(symbol, "54=2|38=10|40=1", "150=2|31=99.99")


def test_a_bust_takes_a_trade_back_once(stage: Stage, symbol: str) -> None:
    fill = stage.order(symbol, "54=1|38=10|40=1", "150=2|31=100.01")
    busted, ended = stage.act("bust", exec_id=exec_id(fill))
    assert has(busted, f"35=8|20=1|19={exec_id(fill)}|37={order_id(fill)}|14=0")
    assert has(ended, f"20=0|150=4|37={order_id(fill)}|14=0"), "a market order does not wait for another trade"
    assert stage.feed() == "B"
    assert "was busted or corrected already" in refused(stage, "bust", exec_id=exec_id(fill))
    assert "is no trade's ExecID(17)" in refused(stage, "bust", exec_id=exec_id(busted))


def test_a_correction_stands_for_the_trade(stage: Stage, symbol: str) -> None:
    fill = stage.order(symbol, "54=1|38=10|40=1", "150=2|31=100.01")
    (corrected,) = stage.act("correct", exec_id=exec_id(fill), shares="10", price="100.05")
    assert has(corrected, f"35=8|20=2|19={exec_id(fill)}|32=10|31=100.05|14=10|6=100.05")
    assert stage.feed() == "BP"
    assert "was busted or corrected already" in refused(stage, "correct", exec_id=exec_id(fill), shares=1, price="1")
    busted, _ = stage.act("bust", exec_id=exec_id(corrected))
    assert has(busted, f"20=1|19={exec_id(corrected)}|14=0")


def test_a_trade_by_hand_fills_an_order(stage: Stage, symbol: str) -> None:
    rests = stage.order(symbol, "54=1|38=100|40=2|44=99.50")
    (traded,) = stage.act("trade", order_id=order_id(rests), shares=30, price="99.40")
    assert has(traded, "150=1|32=30|31=99.40|151=70")
    assert sorted(stage.feed()) == ["P", "X"]
    assert "has room for 70 shares" in refused(stage, "trade", order_id=order_id(rests), shares=71, price="99.40")


def test_an_act_with_a_key_is_done_once_also_when_the_venue_is_killed_before_its_answer_is_heard(
    tmp_path: Path,
) -> None:
    with VenueProcess(tmp_path / "venue") as venue:
        terms = {"symbol": "AAPL", "side": "1", "ord_type": "2", "time_in_force": "0", "order_qty": "100"}
        given = operate(venue, "telephone", comp_id="OPENBELL", account="A", price="140.00", **terms)
        words = {"order_id": given["reports"][0]["order_id"], "shares": 30, "price": "139.00", "key": "k1"}
        first = operate(venue, "trade", **words)
        venue.kill()
        venue.start()
        assert operate(venue, "trade", **words) == first
        assert operate(venue, "trade", **words | {"shares": 31}) == {"refused": "key k1 was used for another act"}
        (row,) = operate(venue, "orders")["orders"]
        assert (row["cum_qty"], row["leaves_qty"]) == (30, 70)
        assert operate(venue, "trade", **words | {"key": "k2"})["reports"] != first["reports"]


def test_a_cancel_by_telephone(stage: Stage, symbol: str) -> None:
    rests = stage.order(symbol, "54=1|38=100|40=2|44=99.50")
    (cancelled,) = stage.act("cancel_order", order_id=order_id(rests))
    assert has(cancelled, "150=4|39=4|378=2|58=cancelled by the venue")
    assert stage.feed() == "D"
    assert "is CANCELED" in refused(stage, "cancel_order", order_id=order_id(rests))


def test_a_restatement_changes_quantity_and_price_unasked(stage: Stage, symbol: str) -> None:
    rests = stage.order(symbol, "54=1|38=100|40=2|44=99.50")
    (less,) = stage.act("restate", order_id=order_id(rests), quantity=60, price=0, reason=5)
    assert has(less, "150=D|378=5|38=60|151=60|44=99.50")
    assert stage.feed() == "X"
    (cheaper,) = stage.act("restate", order_id=order_id(rests), quantity=60, price="99.40", reason=3)
    assert has(cheaper, "150=D|378=3|38=60|44=99.40")
    assert stage.feed() == "DA"
    assert "reason must be one of" in refused(stage, "restate", order_id=order_id(rests), quantity=1, price=0, reason=9)


def test_a_suspended_order_is_out_of_the_book_until_it_is_released(stage: Stage, symbol: str) -> None:
    rests = stage.order(symbol, "54=1|38=100|40=2|44=99.50")
    (suspended,) = stage.act("mark", order_id=order_id(rests), what="9", text="asked to")
    assert has(suspended, "150=9|39=9|58=asked to")
    assert stage.feed() == "D"
    (released,) = stage.act("release", order_id=order_id(rests))
    assert has(released, "150=D|378=4")
    assert stage.feed() == "A"
    assert "is not suspended" in refused(stage, "release", order_id=order_id(rests))


@pytest.mark.parametrize(("what", "said"), [("3", "150=3|39=3|151=0"), ("7", "150=7|39=7|151=100")])
def test_an_order_is_marked(stage: Stage, symbol: str, what: str, said: str) -> None:
    rests = stage.order(symbol, "54=1|38=100|40=2|44=99.50")
    (marked,) = stage.act("mark", order_id=order_id(rests), what=what)
    assert has(marked, said)
    assert refused(stage, "mark", order_id=order_id(rests), what=what)


def test_a_filled_order_is_calculated(stage: Stage, symbol: str) -> None:
    fill = stage.order(symbol, "54=1|38=10|40=1", "150=2")
    assert "is FILLED" in refused(stage, "mark", order_id=order_id(fill), what="3")
    (calculated,) = stage.act("mark", order_id=order_id(fill), what="B")
    assert has(calculated, "150=B|39=B|14=10")


def test_an_order_by_telephone_trades_without_a_cl_ord_id(stage: Stage, symbol: str) -> None:
    terms = {"symbol": symbol, "side": 1, "ord_type": 2, "time_in_force": 0, "order_qty": 10, "account": "acc"}
    new, fill = stage.act("telephone", comp_id="OPENBELL", price="100.01", **terms)
    assert has(new, f"150=0|11=|55={symbol}|38=10|44=100.01")
    assert has(fill, "150=2|11=|32=10|31=100.01")
    assert stage.feed() == "E"
    for nobody in ("NOBODY", "COPY"):
        assert refused(stage, "telephone", comp_id=nobody, **terms) == "comp_id must be one of OPENBELL"


def test_a_split_waits_until_nothing_trades(tmp_path: Path) -> None:
    with VenueProcess(tmp_path / "venue", SETTINGS, PARTIES) as venue, Line(venue) as line:
        assert operate(venue, "status")["phase"] == "CLOSED"
        assert operate(venue, "phase", name="pre_open")["phase"] == "PRE_OPEN"
        stage = Stage(venue, Counterparty(venue, "OPENBELL"), Counterparty(venue, "COPY"), line)
        stage.trader.send("35=g|335=day|263=1")
        stage.trader.read("35=h|335=day|325=N|340=4")
        rests = stage.order("S0", "54=1|38=100|40=2|44=99.50|59=1")
        operate(venue, "phase", name="OPEN")
        stage.trader.read("35=h|335=day|325=Y|340=2")
        assert refused(stage, "split", symbol="S0", new=2, old=1) == "only while the market is closed"
        operate(venue, "phase", name="PRE_CLOSE")
        stage.trader.read("35=h|335=day|325=Y|340=5")
        operate(venue, "phase", name="CLOSED")
        stage.trader.read(f"150=3|37={order_id(rests)}")
        stage.copy.read(f"150=3|37={order_id(rests)}")
        (split,) = stage.act("split", symbol="S0", new=2, old=1)
        assert has(split, "150=D|378=0|38=200|44=49.75")
        assert "not understood" in refused(stage, "phase", name="LUNCH")


@pytest.mark.parametrize(
    ("act", "words", "said"),
    [
        ("dance", {}, "no act dance: one of halt, resume"),
        ("halt", {}, "symbol must be given"),
        ("halt", {"symbol": "NONE"}, "NONE is not traded here"),
        ("halt", {"symbol": "S0", "why": "rain"}, "why: not one of symbol"),
        ("bust", {"exec_id": "e1"}, "e1 is no trade's ExecID(17)"),
        ("bust", {"exec_id": "e0123456789-1"}, "is no trade's ExecID(17)"),
        ("correct", {"exec_id": "e1", "shares": "ten", "price": "1"}, "not understood"),
        ("correct", {"exec_id": "e1", "shares": 1.5, "price": "1"}, "not understood"),
        ("correct", {"exec_id": "e1", "shares": 1, "price": "1.00001"}, "not understood"),
        ("cancel_order", {"order_id": "o-1"}, "no order o-1"),
        ("mark", {"order_id": "o-1", "what": "3", "text": "\x01"}, "text must be printable ASCII"),
        ("mark", {"order_id": "o-1", "what": "3", "text": "…"}, "text must be printable ASCII"),
        ("mark", {"order_id": "o-1", "what": "3", "text": "a\nb"}, "text must be printable ASCII"),
        ("telephone", {"comp_id": "OPENBELL"}, "must be given"),
        ("telephone", {}, "not understood"),
        ("telephone", {"comp_id": ["OPENBELL"]}, "must be given"),
        ("telephone", {"comp_id": "OPENBELL", "cl_ord_id": "x"}, "must be given"),
        ("split", {"symbol": "S0", "new": "9" * 5000, "old": 1}, "not understood"),
        ("book", {"symbol": "NONE"}, "NONE is not traded here"),
        ("book", {"symbol": []}, "not understood"),
        ("book", {}, "not understood"),
        ("orders", {"after": "x"}, "not understood"),
        ("orders", {"after": float("inf")}, "not understood"),
        ("phase", {}, "not understood"),
        ("phase", {"name": 4}, "not understood"),
    ],
)
def test_what_cannot_be_done_is_refused_and_changes_nothing(
    stage: Stage, act: str, words: dict[str, Any], said: str
) -> None:
    assert said in refused(stage, act, **words)


def test_questions_are_answered(stage: Stage, symbol: str) -> None:
    rests = stage.order(symbol, "54=1|38=100|40=2|44=99.995", "150=8")  # off the tick
    rests = stage.order(symbol, "54=1|38=100|40=2|44=100.00")
    book = operate(stage.venue, "book", symbol=symbol)
    assert book["buy"][0] == {"price": "100.00", "shares": 100, "order_id": order_id(rests)}
    assert book["buy"][1] == {"price": "99.99", "shares": 100, "order_id": ""}
    assert [row["price"] for row in book["sell"]] == ["100.01", "100.02"]
    orders = operate(stage.venue, "orders")["orders"]
    (row,) = (row for row in orders if row["symbol"] == symbol)
    assert row["order_id"] == order_id(rests)
    assert (row["comp_id"], row["account"], row["leaves_qty"], row["price"]) == ("OPENBELL", "acc", 100, "100.00")
    status = operate(stage.venue, "status")
    assert (status["open_orders"], status["reports"]) == (len(orders), len(stage.venue.executions()))
    assert operate(stage.venue, "reports")["reports"] == stage.venue.executions()


def test_long_answers_come_in_pieces_and_who_does_not_read_them_stops_nobody(tmp_path: Path) -> None:
    venue = VenueProcess(tmp_path / "venue")
    decide(venue.journal.parent, *(f"o{number}" for number in range(600)))
    with venue:
        deaf = connect(venue)
        deaf.sendall(b'{"act":"reports"}\n')
        first = operate(venue, "reports")
        assert [row["number"] for row in first["reports"]] == list(range(1, 1001))
        rest = operate(venue, "reports", after=first["after"])
        assert [row["number"] for row in rest["reports"]] == list(range(1001, 1201))
        assert operate(venue, "reports", after=rest["after"]) == {"reports": [], "after": None}
        assert "an operator is too slow" in venue.output()
        deaf.close()


def connect(venue: VenueProcess) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(5)
    directory = os.open(venue.journal.parent, os.O_RDONLY)
    connection.connect(f"/proc/self/fd/{directory}/operator.sock")
    os.close(directory)
    return connection


@pytest.mark.parametrize(
    "garbage",
    [
        b"\n",
        b"{\n",
        b"null\n",
        b'"halt"\n',
        b"[1]\n",
        b"\xff\xfe\x00\n",
        b"{}\n",
        b'{"act":[]}\n',
        b'{"act":null}\n',
        b'{"act":"orders","after":1e400}\n',
        b"[" * 60_000 + b"\n",
        b"x" * 70_000,
    ],
)
def test_garbage_is_refused_and_the_venue_goes_on(stage: Stage, garbage: bytes) -> None:
    with connect(stage.venue) as connection:
        connection.sendall(garbage)
        assert b'{"refused": "' in connection.recv(65536)


def test_a_client_that_leaves_or_drips_stops_nobody(stage: Stage, symbol: str) -> None:
    connect(stage.venue).close()
    with connect(stage.venue) as leaves:
        leaves.sendall(b'{"act":"st')
    with connect(stage.venue) as drips, pytest.raises((BrokenPipeError, ConnectionResetError)):
        for _ in range(300):
            drips.sendall(b" ")
            time.sleep(0.02)
    stage.order(symbol, "54=1|38=10|40=1", "150=2")


def test_only_the_venues_own_user_reaches_the_operators_socket(stage: Stage) -> None:
    mode = (stage.venue.journal.parent / "operator.sock").stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600


def test_a_long_data_dir_has_an_operator_too(tmp_path: Path) -> None:
    with VenueProcess(tmp_path / ("long" * 30) / ("path" * 30)) as venue:
        assert operate(venue, "status")["phase"] == "OPEN"


def test_what_the_operator_did_outlives_a_kill(tmp_path: Path) -> None:
    with VenueProcess(tmp_path / "venue", SETTINGS, PARTIES) as venue, Line(venue) as line:
        operate(venue, "phase", name="OPEN")
        stage = Stage(venue, Counterparty(venue, "OPENBELL"), Counterparty(venue, "COPY"), line)
        fill = stage.order("S1", "54=1|38=10|40=1", "150=2")
        stage.act("bust", exec_id=exec_id(fill))
        stage.act("halt", symbol="S2")
        before = operate(venue, "status"), operate(venue, "reports"), line.everything(venue)
        venue.kill()
        venue.start()
        assert (operate(venue, "status"), operate(venue, "reports"), line.everything(venue)) == before
        assert before[0]["halted"] == ["S2"]
        assert "already" in refused(stage, "bust", exec_id=exec_id(fill))


def command(*words: str) -> tuple[int, str, str]:
    """(exit code, standard output, standard error)."""
    ended = subprocess.run([sys.executable, *words], capture_output=True, timeout=20, cwd=CHECKOUT, text=True)
    return ended.returncode, ended.stdout, ended.stderr


def test_the_command_prints_the_answer_and_fails_when_it_is_refused(stage: Stage, symbol: str) -> None:
    operate_at = ("-m", "exchange.operate", "--data-dir", str(stage.venue.journal.parent))
    code, out, _ = command(*operate_at, "halt", f"symbol={symbol}")
    assert (code, json.loads(out)) == (0, {"done": "halt", "reports": []})
    code, out, _ = command(*operate_at, "halt", f"symbol={symbol}")
    assert (code, json.loads(out)) == (1, {"refused": f"{symbol} is halted already"})
    code, out, err = command(*operate_at, "halt", symbol)
    assert (code, json.loads(out)) == (1, {"refused": f"{symbol}: not one of symbol"})
    assert err == ""


def test_the_command_says_when_no_venue_runs(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "none"):
        code, out, err = command("-m", "exchange.operate", "--data-dir", str(directory), "status")
        assert (code, out) == (1, "")
        assert err.startswith(f"no venue answers in {directory}")
        assert err.endswith("is it running?\n")


def test_openbell_venue_finds_the_venue_of_a_brokerage(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "venue").symlink_to(stage.venue.journal.parent)
    code, out, _ = command(str(OPENBELL), "venue", "--data", str(tmp_path), "book", "symbol=NONE")
    assert (code, json.loads(out)) == (1, {"refused": "NONE is not traded here"})
    code, out, _ = command(str(OPENBELL), "venue", "help")
    assert code == 0
    assert "cancel_order order_id=O" in out
