"""The venue's two pages say what its code says: reasons, tags, acts, configuration, journal, files."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from exchange import operate
from exchange.config import Config, Counterparty, Symbol
from exchange.events import Phase
from exchange.journal import record_of
from exchange.market import Instrument, Market
from exchange.orders import CancelRequest, ExecType, NewOrder, OrdStatus, Restatement
from exchange.reasons import CancelRefusal, Refusal
from exchange.rules import OPERATOR, RULES, Event, PhaseChange, apply

ROOT = Path(__file__).parent.parent
VENUE = ROOT / "exchange"
FIX = (ROOT / "ems/FIX.md").read_text()
README = (VENUE / "README.md").read_text()
NOW_NS = 1_795_271_400_000_000_000  # in 2026, which the calendar knows
QUESTIONS = ("phase", "status", "book", "orders", "reports")

READ = re.compile(r"""(?:fields|logon)(?:\[|\.get\()"(\d+)"|"(\d+)" in fields|_optional\(\s*["'](\d+)""")
WRITTEN = re.compile(r"""["'}](\d+)=""")


def table(head: str) -> list[list[str]]:
    """The cells of all rows of the page's tables whose first column is headed so."""
    rows, is_wanted, before = [], False, ""
    for line in FIX.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if cells and not before:
            is_wanted = cells[0] == head
        elif cells and is_wanted and not cells[0].startswith("---"):
            rows.append(cells)
        before = line
    return rows


def codes(head: str) -> set[str]:
    return {code for row in table(head) for code in re.findall(r"\w+", row[0])}


def tags_of(source: str) -> set[str]:
    """Tags that a module reads or writes."""
    text = (VENUE / source).read_text()
    return {tag for found in READ.findall(text) for tag in found if tag} | set(WRITTEN.findall(text))


def words(text: str) -> set[str]:
    """All that is set as code: `so`, with or without words behind it."""
    return {word for code in re.findall(r"`([^`\n]+)`", text) for word in re.findall(r"[\w.]+", code)}


@pytest.mark.parametrize(("reasons", "head"), [(Refusal, "103"), (CancelRefusal, "102")])
def test_the_page_has_every_refusal_with_its_code_and_text_and_no_other(
    reasons: type[Refusal] | type[CancelRefusal], head: str
) -> None:
    of_the_rule = "that of the rule for orders"  # where the reason has no text of its own
    told = [(row[0], row[1]) for row in table(head)]
    assert sorted(told) == sorted((str(each.code), each.text or of_the_rule) for each in reasons)


def test_every_tag_of_the_dialect_stands_in_a_table() -> None:
    tags = tags_of("dialect.py")
    assert {"11", "126", "434", "5500", "5504"} <= tags, "the source is not read as it should be"
    assert tags <= codes("tag")


@pytest.mark.parametrize("source", ["desk.py", "session.py"])
def test_every_tag_of_the_sessions_is_named(source: str) -> None:
    named = set(re.findall(r"\w\((\d+)\)", FIX)) | codes("tag")
    assert tags_of(source) <= named


def test_every_code_of_an_execution_report_has_its_row() -> None:
    assert codes("150") == {each.value for each in ExecType}
    assert codes("378") == {each.value for each in Restatement}
    assert codes("340") == {each.value for each in Phase}
    (precedence,) = re.findall(r"^OrdStatus\(39\) is .+?\.\n", FIX, re.DOTALL | re.MULTILINE)
    assert set(re.findall(r"[A-Z]\w+ (\w)\b", precedence)) == {each.value for each in OrdStatus}


def test_every_act_of_the_operator_is_told_with_its_words() -> None:
    acts = {line.split(" ", 1)[0] for line in re.findall(r"`([^`\n]+)`", README)}
    help_words = set(re.findall(r"\w+", operate.ACTS))
    for act in (*OPERATOR, *QUESTIONS):
        assert act in acts, f"README.md has no example of {act}"
        assert act in help_words, f"operate.py's help has no {act}"
    for rule in OPERATOR.values():
        told = words(README) | {"order"}  # a telephoned one, whose own words stand there instead
        assert {each.name for each in fields(rule.body)} <= told


def test_every_key_of_the_configuration_is_told() -> None:
    keys = {each.name for kind in (Config, Counterparty, Symbol) for each in fields(kind)}
    assert keys <= words(README)


def test_every_key_of_the_journal_is_told() -> None:
    market = Market("0123456789")
    instrument = Instrument("AAPL", 1_500_000, 100, 5, 1_000, 1, 1)
    events = [
        Event("instrument", instrument),
        Event("phase", PhaseChange(Phase.OPEN, "2026-11-23")),
        Event("order", NewOrder("a", "", "AAPL", "1", "1", "0", "100"), "ALPHA", delayed=True, refused=True),
        Event("cancel", CancelRequest("b", "x", "AAPL", "1"), "ALPHA"),
    ]
    records = [record_of(1, event, NOW_NS, apply(market, event, NOW_NS)) for event in events]
    rows = [row for record in records for row in record["out"]]
    assert {row["msg_type"] for row in rows} == {"8", "9"}
    flags = {"kind", "refused", "delayed"}
    assert {key for record in (*records, *rows) for key in record} | flags <= words(README)
    assert set(RULES) <= words(README)
    for key in ("version", "venue", "feed_session", "t"):
        assert f'"{key}":' in README
    for rule in RULES.values():
        assert {each.name for each in fields(rule.body)} <= set(re.findall(r"\w+", README))


def test_every_file_of_the_room_is_told() -> None:
    files = {path.name for path in VENUE.glob("*.py")} - {"__init__.py", "__main__.py"}
    assert files <= words(README), files - words(README)
    named = {word for word in words(README) if word.endswith(".py")}
    assert named <= files, "README.md names a file that is not there"
