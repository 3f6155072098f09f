"""Rows of wire strings, played with a real venue: they read like the matrices of FIX 4.2's Appendix D.

    > 35=D|11=X|38=10000|44=100.00           the counterparty sends
    < 35=8|11=X|17=?A|150=0|39=0|14=0        the next message it gets: these fields, `17=?A` names a value, `44=` none
    B> 35=D|11=1|38=10000|44=100.00|59=3     another counterparty sends, as a rule to sell
    B< 35=8|11=1|150=2                       it gets this, sooner or later
    op bust exec_id={A}                      the operator acts; `refused ...`: may not
    phase CLOSED                             once all rows have come here, the operator changes the phase

Each row has a symbol of its own, and ClOrdIDs of its own: `11=X` in row 7 is X.7. What a request lacks and every one
has is added, unless the row says `54=`: Symbol, Side, OrdType, TransactTime. An ExecutionReport that comes has no
OrigClOrdID, ExecRefID, OrdRejReason, ExecRestatementReason or day quantities but those that its line names; its OrderID
is that of its order, its ExecID is new, and its quantities add up. After a row nothing else comes for it.
"""

import re
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple

from exchange.operate import ask
from tests.exchange_process import VenueProcess
from tests.fix_client import WAIT_SECONDS, FixClient, field, has

OWN: Final = "OPENBELL"  # of `>` and `<`
OTHER: Final = "BETA"  # of `B>` and `B<`
ORDER: Final = "21=1|55={s}|54=1|40=2|60={now}"
ADDED: Final = {
    "D": ORDER,
    "G": ORDER,
    "F": "55={s}|54=1|60={now}",
    "H": "55={s}|54=1",
    "e": "324=Q|55={s}",
    "g": "335=Q",
}
NAMES: Final = {"11", "41", "324", "335"}  # what a row names is its own
ALWAYS: Final = (6, 14, 17, 20, 31, 32, 37, 39, 54, 55, 60, 75, 150, 151, 5501, 5502)
NEVER_UNTOLD: Final = (11, 19, 41, 103, 378, 424, 425, 426)
DONE: Final = {"3", "4", "8", "B", "C"}  # OrdStatus(39) and ExecType(150) with which nothing need be left
END: Final = "> 35=H|11=end\n< 35=8|11=end|20=3|39=8|103=5|37=NONE"  # had anything else come, it would come first


class Script(NamedTuple):
    """A row. `number` tells its symbol and its names from other rows'."""

    name: str
    number: int
    lines: list[str]


def scripts(rows: Mapping[str, str]) -> list[Script]:
    return [
        Script(name, number, [line.strip() for line in f"{text}\n{END}".splitlines() if line.strip()])
        for number, (name, text) in enumerate(rows.items())
    ]


@contextmanager
def on_stage(name: str, directory: Path, settings: str, count: int, phase: str = "OPEN") -> Iterator["Stage"]:
    """A venue for that many rows, brought to `phase` by its operator. Its name has to be new in this process, which
    knows FIX sessions by their CompIDs alone. AssertionError at the end if something came that no row expects."""
    symbols = "".join(f'[[symbols]]\nsymbol="S{number}"\nprice="100.00"\n' for number in range(count))
    given = f'name="{name}"\nsession="manual"\n{settings}\n{symbols}'
    with (
        VenueProcess(directory, given) as venue,
        FixClient(venue.fix_port, OWN, directory, name) as own,
        FixClient(venue.fix_port, OTHER, directory, name) as other,
    ):
        stage = Stage(venue, own, other)
        stage.operate("phase", name=phase)
        yield stage
        assert stage.unread() == []


class Stage:
    """A venue with two counterparties logged on."""

    def __init__(self, venue: VenueProcess, own: FixClient, other: FixClient) -> None:
        self.venue = venue
        self.own = own
        self._data_dir = venue.directory / "data"
        self._clients = {OWN: own, OTHER: other}
        self._sorted = {OWN: 0, OTHER: 0}
        self._rejects_sorted = 0
        self.exec_ids: set[str] = set()
        self.left: list[str] = []  # messages that were no row's

    def send(self, who: str, fields: str) -> None:
        self._clients[who].send(fields)

    def operate(self, act: str, **words: Any) -> dict[str, Any]:
        return ask(self._data_dir, {"act": act, **words})

    def play(self, scripts: Sequence[Script]) -> dict[str, str]:
        """All at once. Name -> what went wrong, "" if nothing did."""
        runs = [Run(self, script) for script in scripts]
        since = time.monotonic()
        while not all(run.over for run in runs):
            self._sort(runs)
            moved = [run.advance() for run in runs]
            if any(moved) or self._change_phase(runs):
                since = time.monotonic()
            elif time.monotonic() - since > WAIT_SECONDS:
                for run in runs:
                    run.give_up()
            else:
                time.sleep(0.002)
        self._sort(runs)
        self.left += [message for run in runs for message in run.inbox[OWN]]
        return {run.script.name: run.failure for run in runs}

    def unread(self) -> list[str]:
        """What came for nobody, and whether the engine refused anything: then its number is missing."""
        self._sort([])
        numbers = sorted(int(field(message, 34)) for message in (*self.own.app, *self.own.admin))
        missing = set(range(1, numbers[-1] + 1)) - set(numbers)
        return self.left + [f"the client refused message {number}" for number in sorted(missing)]

    def _sort(self, runs: Sequence["Run"]) -> None:
        by_number = {str(run.script.number): run for run in runs}
        for who, client in self._clients.items():
            for message in client.app[self._sorted[who] :]:
                self._sorted[who] += 1
                self._give(who, message, by_number, runs)
        for message in self.own.admin[self._rejects_sorted :]:
            self._rejects_sorted += 1
            if field(message, 35) == "3":
                self._give(OWN, message, by_number, runs)

    def _give(self, who: str, message: str, by_number: Mapping[str, "Run"], runs: Sequence["Run"]) -> None:
        """By symbol, or by a name; what has neither is the only row's."""
        name = field(message, 11) or field(message, 335)
        number = field(message, 55).removeprefix("S") or name.rpartition(".")[2]
        run = by_number.get(number) if number.isdecimal() else runs[0] if len(runs) == 1 else None
        if run:
            run.inbox[who].append(message)
        elif who == OWN:
            self.left.append(message)

    def _change_phase(self, runs: Sequence["Run"]) -> bool:
        phases = {run.phase for run in runs if not run.over}
        if len(phases) != 1 or "" in phases:
            return False
        answer = self.operate("phase", name=phases.pop())
        assert "refused" not in answer, answer
        for run in runs:
            run.phase = ""
        return True


class Run:
    """One row under way."""

    def __init__(self, stage: Stage, script: Script) -> None:
        self.script = script
        self.over = False
        self.failure = ""
        self.phase = ""  # which it waits for
        self.inbox: dict[str, list[str]] = {OWN: [], OTHER: []}
        self._stage = stage
        self._named = {"s": f"S{script.number}"}
        self._order_ids: dict[str, str] = {}  # by ClOrdID(11)
        self._line = ""
        self._steps = self._play()

    def advance(self) -> bool:
        """As far as it gets; whether it got anywhere."""
        if self.over or self.phase:
            return False
        before = self._line
        try:
            next(self._steps)
        except StopIteration:
            self.over = True
        except AssertionError as problem:
            self.failure, self.over = f"{self._line}\n{problem}", True
        return self.over or bool(self.phase) or self._line != before

    def give_up(self) -> None:
        if not self.over:
            self.failure, self.over = f"{self._line}\nnothing came for it: {self.inbox}", True

    def _play(self) -> Iterator[None]:
        """Pauses where it has to wait."""
        for number, line in enumerate(self.script.lines):
            self._line = f"step {number}: {line}"
            kind, _, rest = line.partition(" ")
            if kind in (">", "B>"):
                self._send(OWN if kind == ">" else OTHER, rest)
            elif kind == "<":
                while not self.inbox[OWN]:
                    yield
                self._compare(self.inbox[OWN].pop(0), rest)
            elif kind == "B<":
                while not self._passes(rest):
                    yield
            elif kind == "phase":
                self.phase = rest
                yield
            else:
                self._act(kind, rest)

    def _send(self, who: str, text: str) -> None:
        fields = self._own(text).split("|")
        given = {each.partition("=")[0] for each in fields}
        now = datetime.now(UTC)
        added = ADDED.get(fields[0].removeprefix("35="), "").format(s=self._named["s"], now=f"{now:%Y%m%d-%H:%M:%S}")
        if who == OTHER:
            added = added.replace("54=1", "54=2")
        fields += [each for each in self._own(added).split("|") if each and each.partition("=")[0] not in given]
        self._stage.send(who, "|".join(each for each in fields if not each.endswith("=")))

    def _act(self, kind: str, text: str) -> None:
        assert kind in ("op", "refused"), kind
        act, *words = shlex.split(self._filled(text))
        answer = self._stage.operate(act, **dict(word.split("=", 1) for word in words))
        assert ("refused" in answer) == (kind == "refused"), answer

    def _passes(self, text: str) -> bool:
        """Whether one of the other's messages has the fields; those before it are dropped."""
        inbox = self.inbox[OTHER]
        while inbox:
            message = inbox.pop(0)
            if has(message, re.sub(r"\|\d+=\?\w+", "", self._own(text))):
                self._name_values(message, text)
                return True
        return False

    def _compare(self, message: str, text: str) -> None:
        wanted = re.sub(r"\|\d+=\?\w+", "", self._own(text))
        lacking = [each for each in wanted.split("|") if not has(message, each)]
        assert not lacking, f"{'|'.join(lacking)} is not so in {message}"
        self._name_values(message, text)
        if has(message, "35=8"):
            told = {each.partition("=")[0] for each in text.split("|")}
            self._check_report(message, told)
        if has(message, "35=9"):
            assert all(field(message, tag) for tag in (11, 37, 39, 41, 58, 60, 102, 434)), message

    def _name_values(self, message: str, text: str) -> None:
        for tag, name in re.findall(r"\b(\d+)=\?(\w+)", text):
            self._named[name] = field(message, int(tag))

    def _check_report(self, report: str, told: set[str]) -> None:
        lacking = [tag for tag in ALWAYS if not field(report, tag)]
        untold = [tag for tag in NEVER_UNTOLD if field(report, tag) and str(tag) not in told]
        assert not lacking + untold, f"without {lacking}, with {untold}: {report}"
        exec_id, order_id, status = field(report, 17), field(report, 37), field(report, 39)
        if has(report, "20=3"):
            assert exec_id == "0", report
            assert has(report, f"150={status}|32=0|31=0"), report
        else:
            assert exec_id not in self._stage.exec_ids, f"ExecID(17) again: {report}"
            self._stage.exec_ids.add(exec_id)
        if not {status, field(report, 150)} & DONE:
            ordered, done, left = (Decimal(field(report, tag)) for tag in (38, 14, 151))
            assert ordered == done + left, report
        if order_id == "NONE":
            assert "37" in told, report
            return
        for name in {field(report, 11), field(report, 41)} - {""}:
            known = self._order_ids.setdefault(name, order_id)
            assert known == order_id, f"{name} was {known}: {report}"

    def _own(self, text: str) -> str:
        """With this row's names."""
        fields = [each.partition("=") for each in self._filled(text).split("|")]
        number = self.script.number
        named = (f"{tag}={value}.{number}" if tag in NAMES and value else f"{tag}={value}" for tag, _, value in fields)
        return "|".join(named)

    def _filled(self, text: str) -> str:
        """With the values that were named, and {in2}: the time in two seconds."""
        later = datetime.now(UTC) + timedelta(seconds=2)
        return re.sub(r"\{(\w+)\}", lambda name: {"in2": f"{later:%Y%m%d-%H:%M:%S}", **self._named}[name[1]], text)
