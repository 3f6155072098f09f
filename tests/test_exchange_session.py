"""The venue's FIX 4.2 sessions: what is answered to what, as tables of wire strings. No sockets here; those are in
test_exchange_server.py.

A message is written from MsgType(35) and MsgSeqNum(34) on; CompIDs and SendingTime(52) are added behind these unless it
has its own. An answer is given by some of its fields; `44=` means that it has no 44.
"""

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.dictionary import Dictionary
from exchange.sequence import GAP_ASKS_MAX, GAP_NS, OUTBOX_MAX, RESENT_AT_ONCE
from exchange.session import Now, Phase, Session
from exchange.store import Store
from exchange.times import utc_timestamp
from exchange.wire import frame, read
from tests.fix_client import SOH, field, has

SPEC: Final = Dictionary(Path(sys.prefix) / "share" / "quickfix" / "FIX42.xml")
SECOND: Final = 1_000_000_000
START: Final = Now(1_795_271_400 * SECOND, 5_000 * SECOND)  # 20261121-14:30:00
TIME: Final = "20261121-14:30:00"
ORDER: Final = f"21=1|55=AAPL|54=1|38=10|40=1|60={TIME}"
REPORT: Final = f"35=8{SOH}37=1{SOH}"


def later(seconds: float, wall_seconds: float | None = None) -> Now:
    """After the start; `wall_seconds` if the clock was set meanwhile."""
    wall = seconds if wall_seconds is None else wall_seconds
    return Now(START.wall_ns + int(wall * SECOND), START.steady_ns + int(seconds * SECOND))


def dressed(text: str, now: Now) -> bytes:
    fields = text.strip("|").split("|")
    tags = {each.partition("=")[0] for each in fields}
    own = [("49", "RAW"), ("52", utc_timestamp(now.wall_ns)), ("56", "XSIM")]
    place = 2 if fields[1].startswith("34=") else 1
    fields[place:place] = [f"{tag}={value}" for tag, value in own if tag not in tags]
    begin = fields.pop(0) if fields[0].startswith("8=") else ""
    raw = frame("".join(f"{each}{SOH}" for each in fields if not each.endswith("=NONE")))
    return raw.replace(b"8=FIX.4.2", begin.encode(), 1) if begin else raw


class Rig:
    """A session with a store of its own. `received`: MsgSeqNum of what the application got."""

    def __init__(self, directory: Path, reset_on_logon: bool = False) -> None:
        self.store = Store(directory, "RAW", START.wall_ns)
        self.session = Session("XSIM", "RAW", self.store, SPEC, reset_on_logon)
        self.received: list[int] = []
        self.now = START

    def say(self, *texts: str) -> list[str]:
        """What is answered."""
        for text in texts:
            message = read(dressed(text, self.now))
            if self.session.phase is Phase.OFF:
                self.session.log_on(message, self.now)
            elif self.session.phase is not Phase.OVER and self.session.received(message, self.now):
                self.received.append(int(message.fields["34"]))
        return self.answers()

    def answers(self) -> list[str]:
        while self.session.is_resending:
            self.session.resend_some(self.now)
        sent = [raw.decode("latin-1").replace(SOH, "|") for raw in self.session.outbox]
        self.session.outbox.clear()
        return sent

    def log_on(self, number: int = 1, heartbeat_seconds: int = 30) -> "Rig":
        assert has(self.say(f"35=A|34={number}|98=0|108={heartbeat_seconds}")[0], "35=A|98=0")
        return self

    def tick(self, now: Now) -> list[str]:
        self.now = now
        self.session.tick(now)
        return self.answers()

    def reconnect(self) -> None:
        self.session.disconnected()


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def check(answers: list[str], wanted: list[str]) -> None:
    assert len(answers) == len(wanted), answers
    for answer, each in zip(answers, wanted, strict=True):
        assert has(answer, each), f"{answer} lacks some of {each}"


# Logon: name: (messages, answers, next expected, phase)
Logon = tuple[list[str], list[str], int, Phase]
LOGONS: dict[str, Logon] = {
    "a logon": (["35=A|34=1|98=0|108=30"], ["35=A|34=1|49=XSIM|56=RAW|98=0|108=30|141="], 2, Phase.ON),
    "with what a stranger may add": (["35=A|34=1|98=0|108=5|95=3|96=a=b|9000=x"], ["35=A|108=5"], 2, Phase.ON),
    "with its number too high": (["35=A|34=5|98=0|108=30"], ["35=A|34=1", "35=2|34=2|7=1|16=0"], 1, Phase.ON),
    "with numbers to be reset": (["35=A|34=1|98=0|108=30|141=Y"], ["35=A|34=1|141=Y"], 2, Phase.ON),
    "with numbers to be reset to another than 1": (
        ["35=A|34=5|98=0|108=30|141=Y"],
        ["35=5|58=MsgSeqNum(34) must be 1 with ResetSeqNumFlag(141)=Y"],
        1,
        Phase.OVER,
    ),
    "with its number too low": (
        ["35=A|34=0|98=0|108=30"],
        ["35=5|58=MsgSeqNum too low, expecting 1 but received 0"],
        1,
        Phase.OVER,
    ),
    "with its number too low and seen before": (
        ["35=A|34=0|43=Y|122=20261121-14:30:00|98=0|108=30"],
        [],
        1,
        Phase.OVER,
    ),
    "without a number": (["35=A|98=0|108=30"], ["35=5|58=MsgSeqNum missing"], 1, Phase.OVER),
    "with a number of letters": (["35=A|34=x|98=0|108=30"], ["35=5|58=MsgSeqNum missing"], 1, Phase.OVER),
    "with a number too long": (["35=A|34=1000000000|98=0|108=30"], ["35=5|58=MsgSeqNum missing"], 1, Phase.OVER),
    "without EncryptMethod": (["35=A|34=1|108=30"], ["35=5|58=tag 98 is required"], 2, Phase.OVER),
    "encrypted": (["35=A|34=1|98=1|108=30"], ["35=5|58=EncryptMethod(98) must be 0"], 2, Phase.OVER),
    "without HeartBtInt": (["35=A|34=1|98=0"], ["35=5|58=tag 108 is required"], 2, Phase.OVER),
    "without heartbeats": (["35=A|34=1|98=0|108=0"], ["35=5|58=HeartBtInt(108) must be from 1 to 3600"], 2, Phase.OVER),
    "with rare heartbeats": (["35=A|34=1|98=0|108=3601"], ["35=5"], 2, Phase.OVER),
    "with negative heartbeats": (["35=A|34=1|98=0|108=-5"], ["35=5"], 2, Phase.OVER),
    "with heartbeats of letters": (
        ["35=A|34=1|98=0|108=x"],
        ["35=5|58=tag 108 does not have the format of its type"],
        2,
        Phase.OVER,
    ),
    "at the wrong time": (
        ["35=A|34=1|52=20261121-14:32:01|98=0|108=30"],
        ["35=5|58=SendingTime accuracy problem"],
        2,
        Phase.OVER,
    ),
    "at a time just right": (["35=A|34=1|52=20261121-14:32:00|98=0|108=30"], ["35=A"], 2, Phase.ON),
    "without a time": (["35=A|34=1|52=NONE|98=0|108=30"], ["35=5|58=tag 52 is required"], 2, Phase.OVER),
    "in another version": (["8=FIX.4.4|35=A|34=1|98=0|108=30"], [], 1, Phase.OVER),
    "an order first": ([f"35=D|34=1|11=a|{ORDER}"], [], 1, Phase.OVER),
    "a logout first": (["35=5|34=1"], [], 1, Phase.OVER),
    "an undefined tag": (["35=A|34=1|98=0|108=30|4000=x"], ["35=5|58=FIX 4.2 has no tag 4000"], 2, Phase.OVER),
}


@pytest.mark.parametrize("name", LOGONS)
def test_logon(rig: Rig, name: str) -> None:
    texts, answers, expected, phase = LOGONS[name]
    check(rig.say(*texts), answers)
    assert (rig.store.next_in, rig.session.phase) == (expected, phase)


class Row(NamedTuple):
    """After a logon, in which both sides have used number 1."""

    texts: list[str]
    answers: list[str]
    expected: int = 3
    phase: Phase = Phase.ON
    received: tuple[int, ...] = ()


ROWS: dict[str, Row] = {
    "an order": Row([f"35=D|34=2|11=a|{ORDER}"], [], received=(2,)),
    "two orders": Row([f"35=D|34=2|11=a|{ORDER}", f"35=D|34=3|11=b|{ORDER}"], [], 4, received=(2, 3)),
    "a message of a type that is not served": Row(["35=7|34=2|2=x|5=N|55=A|4=B|53=5"], [], received=(2,)),
    "an order in other characters": Row([f"35=D|34=2|11=é|{ORDER}"], [], received=(2,)),
    "an order in turn that may be seen before": Row([f"35=D|34=2|43=Y|122={TIME}|11=a|{ORDER}"], [], received=(2,)),
    "an order that is possibly resent": Row([f"35=D|34=2|97=Y|11=a|{ORDER}"], [], received=(2,)),
    "a heartbeat": Row(["35=0|34=2"], []),
    "a reject": Row(["35=3|34=2|45=1|58=no"], []),
    "a test request": Row(["35=1|34=2|112=are you there"], ["35=0|34=2|112=are you there"]),
    "a logout": Row(["35=5|34=2"], ["35=5|34=2"], phase=Phase.OVER),
    "a logout with a text": Row(["35=5|34=2|58=good night"], ["35=5|34=2"], phase=Phase.OVER),
    # what breaks the dictionary
    "a missing tag": Row([f"35=D|34=2|{ORDER}"], ["35=3|45=2|371=11|372=D|373=1"]),
    "an unknown tag": Row([f"35=D|34=2|11=a|{ORDER}|4000=x"], ["35=3|45=2|371=4000|372=D|373=3"]),
    "a tag of another message": Row([f"35=D|34=2|11=a|{ORDER}|150=1"], ["35=3|45=2|371=150|372=D|373=2"]),
    "a tag without a value": Row([f"35=D|34=2|11=|{ORDER}"], ["35=3|45=2|371=11|372=D|373=4"]),
    "a value that is none": Row([f"35=D|34=2|11=a|{ORDER}|59=Z"], ["35=3|45=2|371=59|372=D|373=5"]),
    "a value ill formed": Row([f"35=D|34=2|11=a|{ORDER}|44=x"], ["35=3|45=2|371=44|372=D|373=6"]),
    "an invalid tag": Row([f"35=D|34=2|11=a|{ORDER}|x=1"], ["35=3|45=2|371=|372=D|373=0"]),
    "an unknown type": Row(["35=~|34=2"], ["35=3|45=2|371=35|372=~|373=11"]),
    "a very long type": Row([f"35={'~' * 2000}|34=2"], ["35=3|45=2|371=35|372=|373=11"]),
    "a tag twice": Row([f"35=D|34=2|11=a|{ORDER}|55=B"], ["35=3|45=2|371=55|372=D|373="]),
    "a number twice": Row([f"35=D|34=2|11=a|{ORDER}|34=7"], ["35=3|45=2|371=34|372=D|373="]),
    "a broken heartbeat": Row(["35=0|34=2|55=A"], ["35=3|45=2|371=55|372=0|373=2"]),
    "a broken test request": Row(["35=1|34=2"], ["35=3|45=2|371=112|372=1|373=1"]),
    "a broken resend request": Row(["35=2|34=2|7=1"], ["35=3|45=2|371=16|372=2|373=1"]),
    "a broken logout": Row(["35=5|34=2|55=A"], ["35=3|45=2|371=55|372=5|373=2"]),
    "a broken reject is not rejected": Row(["35=3|34=2"], []),
    "a good order after a bad one": Row(
        [f"35=D|34=2|{ORDER}", f"35=D|34=3|11=b|{ORDER}"], ["35=3|34=2"], 4, received=(3,)
    ),
    # who, when and what
    "another sender": Row(
        ["35=0|34=2|49=OTHER"], ["35=3|45=2|371=49|372=0|373=9", "35=5|58=CompID problem"], phase=Phase.OVER
    ),
    "another target": Row(["35=0|34=2|56=OTHER"], ["35=3|45=2|371=56|372=0|373=9", "35=5"], phase=Phase.OVER),
    "another sender, ahead of its turn": Row(["35=0|34=9|49=OTHER"], ["35=3|45=9|373=9", "35=5"], 2, Phase.OVER),
    "no sender": Row(["35=0|34=2|49=NONE"], ["35=3|45=2|371=49|373=1"]),
    "too early": Row(
        ["35=0|34=2|52=20261121-14:27:59"],
        ["35=3|45=2|371=52|372=0|373=10", "35=5|58=SendingTime accuracy problem"],
        phase=Phase.OVER,
    ),
    "too late": Row(["35=0|34=2|52=20261121-14:32:01"], ["35=3|45=2|371=52|372=0|373=10", "35=5"], phase=Phase.OVER),
    "a time that is none": Row(["35=0|34=2|52=20261121"], ["35=3|45=2|371=52|372=0|373=6"]),
    "another version": Row(["8=FIX.4.4|35=0|34=2"], ["35=5|58=BeginString(8) must be FIX.4.2"], 2, Phase.OVER),
    "no number": Row([f"35=D|11=a|{ORDER}"], ["35=5|58=MsgSeqNum missing"], 2, Phase.OVER),
    "a number in the body": Row([f"35=D|11=a|34=2|{ORDER}"], ["35=5|58=MsgSeqNum missing"], 2, Phase.OVER),
    "a number that is none": Row(["35=0|34=2.0"], ["35=5|58=MsgSeqNum missing"], 2, Phase.OVER),
    "nothing is read after the end": Row(["35=5|34=2", f"35=D|34=3|11=a|{ORDER}"], ["35=5"], 3, Phase.OVER),
    # numbers too low
    "too low": Row(
        [f"35=D|34=1|11=a|{ORDER}"], ["35=5|58=MsgSeqNum too low, expecting 2 but received 1"], 2, Phase.OVER
    ),
    "too low, PossDupFlag N": Row(
        ["35=0|34=1|43=N"], ["35=5|58=MsgSeqNum too low, expecting 2 but received 1"], 2, Phase.OVER
    ),
    "number 0": Row(["35=0|34=0"], ["35=5|58=MsgSeqNum too low, expecting 2 but received 0"], 2, Phase.OVER),
    "too low, seen before": Row([f"35=D|34=1|43=Y|122={TIME}|11=a|{ORDER}"], [], 2),
    "too low, seen before, without its first time": Row(
        [f"35=D|34=1|43=Y|11=a|{ORDER}"], ["35=3|45=1|371=122|372=D|373=1"], 2
    ),
    "too low, seen before, first sent later": Row(
        [f"35=D|34=1|43=Y|122=20261121-14:30:01|11=a|{ORDER}"], ["35=3|45=1|371=122|373=10", "35=5"], 2, Phase.OVER
    ),
    "in turn, without its first time": Row([f"35=D|34=2|43=Y|11=a|{ORDER}"], ["35=3|45=2|371=122|372=D|373=1"]),
    "in turn, first sent later": Row(
        [f"35=D|34=2|43=Y|122=20261121-14:31:00|11=a|{ORDER}"], ["35=3|45=2|373=10", "35=5"], phase=Phase.OVER
    ),
    "first sent within the same second": Row(
        [f"35=D|34=2|43=Y|122={TIME}.900|52={TIME}|11=a|{ORDER}"], [], received=(2,)
    ),
    # sequence resets
    "a gap fill": Row(["35=4|34=2|123=Y|36=9"], [], 9),
    "a gap fill as engines send it": Row([f"35=4|34=2|43=Y|122={TIME}|123=Y|36=9"], [], 9),
    "a gap fill seen before, without its first time": Row(["35=4|34=1|43=Y|123=Y|36=2"], [], 2),
    "a gap fill that fills nothing": Row(["35=4|34=2|123=Y|36=2"], ["35=3|45=2|371=36|372=4|373=5"]),
    "a gap fill backwards": Row(["35=4|34=2|123=Y|36=1"], ["35=3|45=2|371=36|372=4|373=5"]),
    "a gap fill too low": Row(
        ["35=4|34=1|123=Y|36=9"], ["35=5|58=MsgSeqNum too low, expecting 2 but received 1"], 2, Phase.OVER
    ),
    "a gap fill ahead of its turn": Row(["35=4|34=5|123=Y|36=9"], ["35=2|7=2|16=0"], 2),
    "a reset": Row(["35=4|34=2|123=N|36=9"], [], 9),
    "a reset without the flag": Row(["35=4|34=2|36=9"], [], 9),
    "a reset whatever its number": Row(["35=4|34=77|36=9"], [], 9),
    "a reset with a low number": Row(["35=4|34=1|36=9"], [], 9),
    "a reset to where it stands": Row(["35=4|34=77|36=2"], [], 2),
    "a reset backwards": Row(["35=4|34=2|36=1"], ["35=3|45=2|371=36|372=4|373=5"], 2),
    "a reset beyond counting": Row(["35=4|34=2|36=9999999999"], ["35=3|371=36|373=5"], 2),
    "a reset to letters": Row(["35=4|34=2|36=x"], ["35=3|371=36|373=6"], 2),
    "a reset to nowhere": Row(["35=4|34=2"], ["35=3|371=36|373=1"], 2),
    # a further logon
    "a second logon": Row(["35=A|34=2|98=0|108=30"], ["35=3|45=2|372=A|373=|58=the session is logged on already"]),
    "a logon that resets": Row(["35=A|34=1|98=0|108=10|141=Y"], ["35=A|34=1|98=0|108=10|141=Y"], 2),
    "a logon that resets to another number": Row(["35=A|34=2|98=0|108=10|141=Y"], ["35=5"], 2, Phase.OVER),
    # gaps
    "a gap": Row([f"35=D|34=4|11=a|{ORDER}"], ["35=2|34=2|7=2|16=0"], 2),
    "a gap is asked for once": Row(
        [f"35=D|34={number}|11=a|{ORDER}" for number in (4, 5, 6, 4, 900)], ["35=2|7=2|16=0"], 2
    ),
    "a gap that is filled": Row(
        [
            f"35=D|34=4|11=c|{ORDER}",
            *(f"35=D|34={n}|43=Y|122={TIME}|11=c|{ORDER}" for n in (2, 3, 4)),
            f"35=D|34=5|11=d|{ORDER}",
        ],
        ["35=2|7=2|16=0"],
        6,
        received=(2, 3, 4, 5),
    ),
    "a gap filled by a gap fill": Row(
        [f"35=D|34=4|11=c|{ORDER}", "35=4|34=2|43=Y|123=Y|36=5", f"35=D|34=5|11=d|{ORDER}"],
        ["35=2|7=2|16=0"],
        6,
        received=(5,),
    ),
    "a new gap": Row(
        ["35=0|34=4", "35=4|34=2|43=Y|123=Y|36=5", "35=0|34=7", "35=4|34=5|43=Y|123=Y|36=8"],
        ["35=2|7=2", "35=2|7=5"],
        8,
    ),
    "a gap in what is resent": Row(
        [
            "35=0|34=9",
            *(f"35=D|34={n}|43=Y|122={TIME}|11=c|{ORDER}" for n in (2, 3, 5, 6, 7)),
            "35=4|34=8|43=Y|123=Y|36=10",
        ],
        ["35=2|7=2", "35=2|7=4"],
        4,
        received=(2, 3),
    ),
    "a resend request ahead of its turn": Row(
        ["35=2|34=5|7=1|16=0"], ["35=2|34=2|7=2", "35=4|34=1|43=Y|36=2", "35=4|34=2|36=3"], 2
    ),
    "a logout ahead of its turn": Row(["35=5|34=5"], ["35=5|34=2"], 2, Phase.OVER),
    "a reject ahead of its turn": Row(["35=3|34=5|45=1"], ["35=2|7=2|16=0"], 2),
    "a test request ahead of its turn": Row(["35=1|34=5|112=x"], ["35=2|7=2|16=0"], 2),
    # requests for what was never sent
    "a resend request beyond what was sent": Row(["35=2|34=2|7=2|16=0"], ["35=3|45=2|371=7|372=2|373=5"]),
    "a resend request from 0": Row(["35=2|34=2|7=0|16=0"], ["35=3|371=7|373=5"]),
    "a resend request from below": Row(["35=2|34=2|7=-1|16=0"], ["35=3|371=7|373=5"]),
    "a resend request that ends before it begins": Row(["35=2|34=2|7=1|16=-3"], ["35=3|371=16|373=5"]),
}


@pytest.mark.parametrize("name", ROWS)
def test_what_is_answered(rig: Rig, name: str) -> None:
    row = ROWS[name]
    check(rig.log_on().say(*row.texts), row.answers)
    assert (rig.store.next_in, rig.session.phase, tuple(rig.received)) == (row.expected, row.phase, row.received)


def test_the_header_begins_as_strangers_expect_it(rig: Rig) -> None:
    rig.log_on().session.send(f"35=8{SOH}97=Y{SOH}58=x{SOH}", 0, START)
    (answer,) = rig.answers()
    tags = [part.partition("=")[0] for part in answer.split("|")][:-1]
    assert tags == ["8", "9", "35", "34", "49", "52", "56", "97", "58", "10"]
    assert has(answer, f"52={TIME}.000")


def test_numbers_go_on_from_one_connection_to_the_next(rig: Rig) -> None:
    rig.log_on().say("35=0|34=2", "35=5|34=3")
    rig.reconnect()
    check(rig.say("35=A|34=4|98=0|108=30"), ["35=A|34=3"])
    rig.reconnect()
    check(rig.say("35=A|34=4|98=0|108=30"), ["35=5|58=MsgSeqNum too low, expecting 5 but received 4"])


def test_a_session_that_resets_on_logon_begins_with_1_each_time(tmp_path: Path) -> None:
    rig = Rig(tmp_path, reset_on_logon=True)
    rig.log_on().say("35=0|34=2")
    rig.reconnect()
    check(rig.say("35=A|34=1|98=0|108=30"), ["35=A|34=1|141="])
    rig.reconnect()
    check(rig.say("35=A|34=1|98=0|108=30|141=Y"), ["35=A|34=1|141=Y"])
    assert (rig.store.next_in, rig.store.next_out) == (2, 2)


# Sent again


def sent_before(rig: Rig, kinds: str) -> Rig:
    """From number 2 on: r for a report, anything else for an administrative message."""
    rig.log_on()
    for kind in kinds:
        if kind == "r":
            rig.session.send(REPORT, 0, START)
        else:
            rig.session._say("0", "", START)
    rig.answers()
    rig.now = later(1)
    return rig


# (what was sent, ResendRequest's 7 and 16, answers)
RESENDS: list[tuple[str, int, int, list[str]]] = [
    ("r", 2, 0, ["35=8|34=2|43=Y|122=20261121-14:30:00.000|52=20261121-14:30:01.000"]),
    ("r", 1, 0, ["35=4|34=1|43=Y|123=Y|36=2", "35=8|34=2|43=Y"]),
    ("rr", 1, 999999, ["35=4|34=1|36=2", "35=8|34=2", "35=8|34=3"]),
    ("rr", 2, 2, ["35=8|34=2"]),
    ("rr", 1, 1, ["35=4|34=1|36=2"]),
    ("rr", 3, 77, ["35=8|34=3"]),
    ("hhh", 1, 0, ["35=4|34=1|123=Y|36=5"]),
    ("hrhhrh", 1, 0, ["35=4|34=1|36=3", "35=8|34=3", "35=4|34=4|36=6", "35=8|34=6", "35=4|34=7|36=8"]),
    ("hrhhrh", 4, 5, ["35=4|34=4|36=6"]),
    ("hrhhrh", 5, 6, ["35=4|34=5|36=6", "35=8|34=6"]),
]


@pytest.mark.parametrize(("kinds", "first", "last", "answers"), RESENDS)
def test_what_is_asked_for_is_sent_again(rig: Rig, kinds: str, first: int, last: int, answers: list[str]) -> None:
    sent = sent_before(rig, kinds).say(f"35=2|34=2|7={first}|16={last}")
    check(sent, answers)
    assert all(has(each, "43=Y") and field(each, 122) for each in sent)


def test_a_reject_is_sent_again_for_no_other_message_tells_what_it_tells(rig: Rig) -> None:
    rig.log_on().say(f"35=D|34=2|{ORDER}")
    check(rig.say("35=2|34=3|7=2|16=0"), ["35=3|34=2|43=Y|45=2|371=11|373=1"])


def test_what_was_sent_while_nobody_was_there_comes_when_it_is_asked_for(rig: Rig) -> None:
    rig.log_on().say("35=5|34=2")
    rig.reconnect()
    for _ in range(2):
        rig.session.send(REPORT, 0, later(60))
    assert rig.session.outbox == []
    check(rig.say("35=A|34=3|98=0|108=30"), ["35=A|34=5"])
    check(rig.say("35=2|34=4|7=3|16=0"), ["35=8|34=3|43=Y", "35=8|34=4|43=Y", "35=4|34=5|36=6"])


def test_what_is_sent_during_a_resend_waits_for_its_turn(rig: Rig) -> None:
    count = RESENT_AT_ONCE * 2 + 10
    sent_before(rig, "r" * count).session.received(read(dressed("35=2|34=2|7=1|16=0", rig.now)), rig.now)
    pieces = []
    while rig.session.is_resending:
        rig.session.resend_some(rig.now)
        pieces.append(len(rig.session.outbox))
        if len(pieces) < 3:
            rig.session.send(f"35=8{SOH}58=new{SOH}", 0, rig.now)
            rig.session._say("0", "", rig.now)
    sent = rig.answers()
    assert pieces[0] <= RESENT_AT_ONCE + 1
    numbers = [int(field(each, 34)) for each in sent]
    assert numbers == sorted(numbers)
    assert [has(each, "43=Y") for each in sent if field(each, 58) == "new"] == [False, False]
    check(sent[-4:], [f"34={count + 2}|58=new", "35=4|43=Y", f"34={count + 4}|58=new|43=", f"35=4|36={count + 6}"])
    rig.session.send(REPORT, 0, rig.now)
    check(rig.answers(), [f"35=8|34={count + 6}|43="])


def test_a_second_request_during_a_resend_is_answered_and_the_first_one_too(rig: Rig) -> None:
    sent_before(rig, "r" * 1200)
    rig.session.received(read(dressed("35=2|34=2|7=2|16=1100", rig.now)), rig.now)
    rig.session.resend_some(rig.now)
    rig.session.send(f"35=8{SOH}58=new{SOH}", 0, rig.now)
    sent = rig.say("35=2|34=3|7=10|16=20")
    assert [int(field(each, 34)) for each in sent] == [*range(2, 502), *range(10, 1101), 1202]
    assert has(sent[-1], "58=new|43=")


def test_a_second_request_takes_nothing_from_the_first(rig: Rig) -> None:
    sent_before(rig, "r" * 20)
    sent = rig.say("35=2|34=2|7=2|16=11", "35=2|34=3|7=12|16=21")
    assert [int(field(each, 34)) for each in sent] == [*range(2, 22)]
    sent = rig.say("35=2|34=4|7=12|16=21", "35=2|34=5|7=2|16=3")
    assert [int(field(each, 34)) for each in sent] == [*range(2, 22)]


def test_more_than_a_connection_takes_waits_in_the_store_and_comes_in_order_as_new(rig: Rig) -> None:
    rig.log_on()
    for _ in range(OUTBOX_MAX + 700):
        rig.session.send(REPORT, 0, START)
    assert len(rig.session.outbox) == OUTBOX_MAX
    sent = rig.answers()
    rig.session.is_blocked = True
    rig.session.send(REPORT, 0, START)
    rig.session.is_blocked = False
    rig.session.send(REPORT, 0, START)  # does not overtake
    assert rig.session.outbox == []
    sent += rig.answers()
    rig.session.send(REPORT, 0, START)
    assert len(rig.session.outbox) == 1
    sent += rig.answers()
    assert [int(field(each, 34)) for each in sent] == [*range(2, OUTBOX_MAX + 705)]
    assert not any(has(each, "43=Y") for each in sent)


def test_a_logout_does_not_wait_for_a_resend(rig: Rig) -> None:
    sent_before(rig, "r" * 1200).session.received(read(dressed("35=2|34=2|7=1|16=0", rig.now)), rig.now)
    rig.session.received(read(dressed("35=5|34=3", rig.now)), rig.now)
    assert rig.session.phase is Phase.OVER
    assert b"35=5\x01" in rig.session.outbox[-1]


# Time


def test_heartbeats_go_out_when_nothing_else_does(rig: Rig) -> None:
    rig.log_on(heartbeat_seconds=10)
    assert rig.tick(later(9.9)) == []
    check(rig.tick(later(10)), ["35=0|112="])
    rig.session.send(REPORT, 0, later(15))
    rig.answers()
    check(rig.tick(later(21)), ["35=1"])  # nothing was heard for 12 s; a report went out 6 s ago
    assert rig.tick(later(30)) == []


def test_silence_is_tested_and_then_ended(rig: Rig) -> None:
    rig.log_on(heartbeat_seconds=10)
    assert [field(each, 35) for each in rig.tick(later(11.9))] == ["0"]
    (test,) = rig.tick(later(12))
    assert has(test, "35=1")
    assert field(test, 112)
    assert [field(each, 35) for each in rig.tick(later(23.9))] == ["0"]
    check(rig.tick(later(24)), ["35=5|58=no answer to TestRequest(1)"])
    assert rig.session.phase is Phase.OVER


def test_whatever_is_heard_answers_a_test_request(rig: Rig) -> None:
    rig.log_on(heartbeat_seconds=10)
    for second, number in ((12, 2), (25, 3), (38, 4)):
        assert any(has(each, "35=1") for each in rig.tick(later(second)))
        rig.now = later(second + 0.001)
        rig.say(f"35=0|34={number}|112=x")
    assert rig.session.phase is Phase.ON


def test_our_logout_is_answered_or_the_connection_ends(rig: Rig) -> None:
    rig.log_on().session.log_out("the venue stops", START)
    check(rig.answers(), ["35=5|58=the venue stops"])
    assert rig.say(f"35=D|34=2|11=a|{ORDER}") == []
    assert rig.received == [2]
    phases = []
    for seconds in (2.9, 3):
        rig.tick(later(seconds))
        phases.append(rig.session.phase)
    assert phases == [Phase.LEAVING, Phase.OVER]
    rig.reconnect()
    rig.now = START
    rig.log_on(3).session.log_out("again", START)
    rig.answers()
    assert rig.say("35=5|34=4") == []
    assert rig.session.phase is Phase.OVER


@pytest.mark.parametrize("jump", [-86_400, -121, 121, 86_400])
def test_a_jump_of_our_clock_ends_no_session(rig: Rig, jump: int) -> None:
    rig.log_on(heartbeat_seconds=30)
    rig.now = later(10, 10 + jump)
    assert rig.say(f"35=0|34=2|52={utc_timestamp(later(10).wall_ns)}") == []
    assert rig.say("35=0|34=3") == []  # a counterparty on the same machine jumps along
    check(rig.tick(later(30, 30 + jump)), ["35=0"])
    check(rig.say("35=0|34=4|52=20261120-01:00:00"), ["35=3|373=10", "35=5"])


def test_a_gap_that_is_not_filled_is_asked_for_again_and_then_ended(rig: Rig) -> None:
    rig.log_on(heartbeat_seconds=3600).say("35=0|34=9")
    seconds = GAP_NS / SECOND
    for ask in range(1, GAP_ASKS_MAX):
        assert rig.tick(later(seconds * ask - 0.1)) == []
        check(rig.tick(later(seconds * ask)), ["35=2|7=2|16=0"])
    check(rig.tick(later(seconds * GAP_ASKS_MAX)), ["35=5|58=message 2 was asked for and does not come"])


def test_a_gap_that_is_being_filled_is_not_asked_for_again(rig: Rig) -> None:
    rig.log_on(heartbeat_seconds=3600).say("35=0|34=90")
    for number in range(2, 40):
        rig.now = later((number - 1) * GAP_NS / SECOND * 0.9)
        rig.say(f"35=D|34={number}|43=Y|122={TIME}|11=a|{ORDER}")
        assert rig.tick(rig.now) == []


# Numbers under loss


class Peer:
    """A counterparty that keeps to FIX: it numbers its orders and sends again what is asked for. `lose` tells whether a
    message is garbled on its way."""

    def __init__(self, rig: Rig, lose: Callable[[], bool]) -> None:
        self._rig, self._lose = rig, lose
        self._sent: list[str] = ["35=A"]
        self.asked = 0

    def send(self, text: str) -> None:
        self._sent.append(text)
        self._say(len(self._sent), text)

    def _say(self, number: int, text: str, again: bool = False) -> None:
        if self._lose():
            return
        duplicate = f"|43=Y|122={TIME}" if again else ""
        msg_type, _, rest = text.partition("|")
        for answer in self._rig.say(f"{msg_type}|34={number}{duplicate}|{rest}"):
            if has(answer, "35=2"):
                self.asked += 1
                self._send_again(int(field(answer, 7)))

    def _send_again(self, first: int) -> None:
        number = first
        while number <= len(self._sent):
            text, beyond = self._sent[number - 1], number + 1
            if text.startswith("35=D"):
                self._say(number, text, again=True)
            else:
                while beyond <= len(self._sent) and not self._sent[beyond - 1].startswith("35=D"):
                    beyond += 1
                self._say(number, f"35=4|123=Y|36={beyond}", again=True)
            number = beyond


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.floats(0, 0.4), st.integers(1, 60))
def test_every_order_arrives_once_and_in_order_whatever_is_lost(
    tmp_path_factory: pytest.TempPathFactory, seed: int, loss: float, count: int
) -> None:
    dice = random.Random(seed)
    rig = Rig(tmp_path_factory.mktemp("loss")).log_on(heartbeat_seconds=3600)
    peer = Peer(rig, lambda: dice.random() < loss)
    orders = []
    for _ in range(count):
        is_order = dice.random() < 0.7
        peer.send(f"35=D|11=a|{ORDER}" if is_order else "35=0|")
        if is_order:
            orders.append(len(peer._sent))
    peer._lose = lambda: False
    for seconds in range(0, 40, 2):
        rig.now = later(seconds)
        peer.send("35=0|")
        for answer in rig.tick(rig.now):
            if has(answer, "35=2"):
                peer._send_again(int(field(answer, 7)))
    assert rig.received == orders
    assert rig.session.phase is Phase.ON
    assert rig.store.next_in == len(peer._sent) + 1
    if loss == 0:
        assert peer.asked == 0
