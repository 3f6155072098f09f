"""Kill -9 of the venue at any instant, and damaged files: nothing acknowledged is lost, nothing is doubled.

A report is recognised by its number (5504), which the journal's row has too. Clients de-duplicate by MsgSeqNum alone,
as QuickFIX does: so what they saw is compared as a list.
"""

import json
import re
import shutil
import struct
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from threading import Timer
from typing import Any

import pytest

from exchange.config import Config, conduct, instruments, opening_hours
from exchange.events import FeedEvent
from exchange.journal import Journal, JournalError
from exchange.market import Market
from exchange.orders import NewOrder
from exchange.recovery import recover
from exchange.venue import Venue
from tests.exchange_history import decide, replayed_book
from tests.exchange_line import operate
from tests.exchange_process import VenueProcess
from tests.exchange_trader import Counterparty, Trader, numbers, order, position, rows_of, says
from tests.fix_client import FixClient, RawFixClient, field, has, wait_until

NO_HOUSE = "levels=0\n"
COPIED = '[[counterparties]]\ncomp_id="COPY"\ncopies=["OPENBELL", "BETA", "RAW"]\n'
PARTIES = "".join(f'[[counterparties]]\ncomp_id="{name}"\n' for name in ("OPENBELL", "BETA", "RAW")) + COPIED


@pytest.fixture
def venue(tmp_path: Path) -> Iterator[VenueProcess]:
    process = VenueProcess(tmp_path / "venue", parties=PARTIES)
    yield process
    process.kill()


def all_said(client: FixClient, rows: list[dict[str, Any]]) -> bool:
    """Whether the client has the reports of the rows, each once, in their order, and as the journal has them."""
    if numbers(client) != [row["number"] for row in rows]:
        return False
    came = [each for each in client.app if field(each, 5504)]
    assert all(says(message, row) for message, row in zip(came, rows, strict=True))
    return True


def requests(venue: VenueProcess) -> Counter[str]:
    """ClOrdID -> how often the journal has it as a request."""
    return Counter(each["in"]["cl_ord_id"] for each in venue.records()[1:] if each["in"].get("cl_ord_id"))


def restart(venue: VenueProcess, *clients: FixClient) -> None:
    for each in clients:
        each.wait_logged_out()
    venue.start()
    for each in clients:
        each.wait_logged_on()


def wait_for_all_answers(client: FixClient) -> None:
    """To what it has sent so far: the venue answers in order."""
    client.send("35=H|11=none|55=AAPL|54=1")
    wait_until(lambda: any(has(each, "11=none|103=5") for each in client.app), "all answers", 20)


def test_kills_in_the_midst_of_a_stream_of_requests_lose_and_double_nothing(tmp_path: Path) -> None:
    random = Random(4)
    venue = VenueProcess(tmp_path / "venue", NO_HOUSE, PARTIES)
    with (
        venue,
        FixClient(venue.fix_port, "OPENBELL", tmp_path / "a") as a,
        FixClient(venue.fix_port, "BETA", tmp_path / "b") as b,
        FixClient(venue.fix_port, "COPY", tmp_path / "c") as copy,
    ):
        traders = [Trader(a, "a", 4), Trader(b, "b", 4)]
        caught = 0
        for round_ in range(4):
            if round_:
                kill = Timer(random.uniform(0.01, 0.2), venue.kill)
                kill.start()
            for _ in range(120):
                for trader in traders:
                    trader.act()
                if not round_ and numbers(a):  # right after the first report
                    venue.kill()
            kill.join() if round_ else venue.kill()
            caught += len(requests(venue)) < sum(len(trader.sent) for trader in traders)
            restart(venue, a, b, copy)
        sent = [name for trader in traders for name in trader.sent]
        for client in (a, b):
            wait_for_all_answers(client)
        assert requests(venue) == dict.fromkeys(sent, 1)
        assert caught, "no kill came while requests were under way"
        rows = venue.executions()
        assert [row["number"] for row in rows] == list(range(1, len(rows) + 1))
        assert sum(row["last_shares"] > 0 for row in rows) > 50
        wait_until(lambda: all_said(a, rows_of(rows, "OPENBELL")), "OPENBELL has its reports")
        wait_until(lambda: all_said(b, rows_of(rows, "BETA")), "BETA has its reports")
        wait_until(lambda: all_said(copy, rows), "the drop copy has all")
        assert [sum(each) for each in zip(position(a), position(b), strict=True)] == [0, 0]
        assert position(a) != (0, 0)
        assert operate(venue, "book", symbol="AAPL") == replayed_book(venue)


def test_the_book_after_a_kill_is_the_book_before(venue: VenueProcess) -> None:
    venue.start()
    client = Counterparty(venue, "RAW")
    trader = Trader(client, "a", 1)
    for _ in range(100):
        trader.act()
    client.catch_up()
    before = [operate(venue, "book", symbol="AAPL"), operate(venue, "orders"), operate(venue, "status")]
    venue.kill()
    venue.start()
    assert before == [operate(venue, "book", symbol="AAPL"), operate(venue, "orders"), operate(venue, "status")]
    assert before[0] == replayed_book(venue)
    assert len(requests(venue)) == 100


def test_what_was_answered_before_a_kill_stands_after_it_and_is_not_said_again(venue: VenueProcess) -> None:
    venue.start()
    client = Counterparty(venue, "RAW")
    client.send(order("rests", "54=1|38=1500|40=2|44=150.01"))
    client.send(order("done"))
    assert len(client.catch_up()) == 4
    venue.kill()
    venue.start()
    again = Counterparty(venue, "RAW", client)
    again.send("35=H|11=rests|55=AAPL|54=1")
    again.send("35=H|11=done|55=AAPL|54=1")
    assert has(again.read("20=3|11=rests"), "39=1|14=1000|151=500")
    assert has(again.read("20=3|11=done"), "39=2|14=10|151=0")
    again.send(order("rests"))
    assert has(again.read("150=8"), "11=rests|103=6")
    assert [field(each, 5504) for each in again.catch_up()] == ["5"]


def test_an_order_journaled_and_never_answered_is_answered_and_not_executed_again(
    venue: VenueProcess, tmp_path: Path
) -> None:
    decide(venue.journal.parent, "crossed")
    venue.start()
    with FixClient(venue.fix_port, "OPENBELL", tmp_path / "client") as client:
        new, fill = client.receive(2)
        assert has(new, "97=|43=Y|11=crossed|20=0|150=0")
        assert has(fill, "97=|43=Y|11=crossed|20=0|150=2|14=10")
        client.send("97=Y|" + order("crossed"))
        assert has(client.receive(1)[0], "11=crossed|20=3|39=2|14=10")
        assert all_said(client, venue.executions())


def store_of(venue: VenueProcess, suffix: str) -> Path:
    return venue.journal.parent / "sessions" / f"RAW{suffix}"


def killed_after_an_answer(directory: Path) -> tuple[Path, Counterparty, bytes, bytes]:
    """A killed venue's data, after an order and its two reports; its client; `.out` and `.in` as they were before."""
    with VenueProcess(directory) as venue:
        client = Counterparty(venue, "RAW")
        client.send(order("first", "54=1|38=10|40=2|44=149.00"))
        client.read("11=first|150=0")
        wait_until(lambda: store_of(venue, ".in").read_bytes().split()[-1].endswith(b"03"), "the number is written too")
        before = store_of(venue, ".out").read_bytes(), store_of(venue, ".in").read_bytes()
        client.send(order("second"))
        client.read("11=second|150=2")
        venue.kill()
    return venue.journal.parent, client, *before


def test_a_kill_anywhere_between_journal_store_and_number_gives_each_report_once(tmp_path: Path) -> None:
    killed, before, out, number = killed_after_an_answer(tmp_path / "killed")
    whole = (killed / "sessions" / "RAW.out").read_bytes()
    first_ends = len(out) + 28 + struct.unpack_from("<II", whole, len(out))[1]
    for cut in (len(out), first_ends - 1, first_ends, first_ends + 30, len(whole)):
        venue = VenueProcess(tmp_path / f"cut{cut}")
        shutil.copytree(killed, venue.journal.parent, ignore=shutil.ignore_patterns("*.sock"))
        store_of(venue, ".out").write_bytes(whole[:cut])
        store_of(venue, ".in").write_bytes(number)
        with venue:
            client = Counterparty(venue, "RAW", before)
            assert has(client.read("35=2"), "7=3")
            assert has(client.read("11=second|20=3"), "39=2|14=10"), "it came again and is answered with its state"
            client.ask_from(3)
            assert [field(message, 5504) for message in client.catch_up()] == ["2", "3"], f"cut at {cut}"
            client.close()
        assert len(venue.executions()) == 3


def test_an_order_whose_line_was_torn_is_executed_when_it_comes_again(tmp_path: Path) -> None:
    killed, before, out, number = killed_after_an_answer(tmp_path / "killed")
    venue = VenueProcess(tmp_path / "torn")
    shutil.copytree(killed, venue.journal.parent, ignore=shutil.ignore_patterns("*.sock"))
    store_of(venue, ".out").write_bytes(out)
    store_of(venue, ".in").write_bytes(number)
    venue.journal.write_bytes(venue.journal.read_bytes()[:-1])
    with venue:
        client = Counterparty(venue, "RAW", before)
        client.read("11=second|150=2")
        client.ask_from(3)
        assert [field(each, 150) for each in client.catch_up()] == ["0", "2"]
        client.close()


def test_a_kill_while_it_resends_keeps_every_report(venue: VenueProcess) -> None:
    decide(venue.journal.parent, *(f"o{number}" for number in range(2000)), session="RAW")
    venue.start()
    client = Counterparty(venue, "RAW")
    client.ask_from(1)
    client.read("5504=700")
    venue.kill()
    venue.start()
    again = Counterparty(venue, "RAW", client)
    again.ask_from(1)
    said = again.catch_up()
    assert [field(message, 5504) for message in said] == [str(number) for number in range(1, 4001)]
    for number in range(1, 701):
        first, second = client.came[number], again.came[number]
        assert all(field(first, tag) == field(second, tag) for tag in (17, 11, 150, 43, 122))


def test_kills_while_it_starts_store_every_report_once(venue: VenueProcess) -> None:
    random = Random(4)
    decide(venue.journal.parent, *(f"o{number}" for number in range(2000)), session="RAW")
    for _ in range(4):
        kill = Timer(random.uniform(0.2, 0.6), venue.kill)
        kill.start()
        with suppress(AssertionError):  # it ends before it listens
            venue.start()
        kill.join()
    venue.start()
    client = Counterparty(venue, "RAW")
    client.ask_from(1)
    assert [field(message, 5504) for message in client.catch_up()] == [str(number) for number in range(1, 4001)]


def test_a_torn_last_line_never_happened(venue: VenueProcess) -> None:
    decide(venue.journal.parent, "whole", session="RAW")
    whole = venue.journal.read_bytes()
    venue.journal.write_bytes(whole + b'{"n":5,"t":1795')
    venue.start()
    client = Counterparty(venue, "RAW")
    client.ask_from(1)
    client.send(order("later"))
    assert [field(each, 11) for each in client.catch_up()] == ["whole", "whole", "later", "later"]
    assert venue.journal.read_bytes().startswith(whole + b'{"n":5,')


@pytest.mark.parametrize("room", [0, 50])
def test_what_cannot_be_journaled_is_not_answered_and_comes_again(venue: VenueProcess, room: int) -> None:
    """A full disk, as a limit of all files' sizes, takes nothing or a torn line; the stores are smaller than that."""
    venue.start()
    client = Counterparty(venue, "RAW")
    client.send(order("first"))
    client.catch_up()
    venue.limit_files(venue.journal.stat().st_size + room)
    client.send(order("second"))
    with pytest.raises((AssertionError, ConnectionResetError)):
        client.read("35=8")
    assert venue.ended() == 1
    assert f"exchange: {'[Errno 27] File too large' if not room else str(venue.journal)}" in venue.output()
    assert len(venue.executions()) == 2
    venue.start()
    again = Counterparty(venue, "RAW", client)
    again.read("11=second|150=2")
    again.ask_from(max(client.came) + 1)
    assert [field(each, 5504) for each in again.catch_up()] == ["3", "4"]


def test_a_long_torn_line_is_cut_too(tmp_path: Path) -> None:
    decide(tmp_path, "whole")
    path = tmp_path / "journal.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b"x" * 200_000)
    decide(tmp_path)
    assert path.read_bytes() == whole


def test_a_torn_header_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"version":2,"ve')
    decide(tmp_path, "first")
    assert [json.loads(line).get("n") for line in path.read_text().splitlines()] == [None, 1, 2, 3, 4]


def edit(journal: Path, line: int, old: str, new: str) -> None:
    lines = journal.read_text().splitlines(keepends=True)
    assert old in lines[line]
    lines[line] = lines[line].replace(old, new)
    journal.write_text("".join(lines))


@pytest.mark.parametrize(
    ("line", "old", "new", "said"),
    [
        (
            4,
            '"last_px":1500100',
            '"last_px":1500200',
            "was not decided by these rules: start the version that wrote it",
        ),
        (4, '"feed":1', '"feed":2', "was not decided by these rules"),
        (4, '"order_qty":"10"', '"order_qty":"11"', "was not decided by these rules"),
        (4, '"n":4', '"n":5', "goes from event 3 to 5: restore the file"),
        (4, '"out":', '"out"', "line 5 is damaged .*: restore the file"),
        (4, '"kind":"order"', '"kind":"or"', "event 4 of the journal cannot be replayed .*: restore the file"),
        (2, '"symbol":"GOOGL"', '"symbol":"AAPL"', "event 2 of the journal cannot be replayed .*: restore the file"),
        (
            0,
            '"version":2',
            '"version":1',
            "is no journal of XSIM in version 2: choose another data_dir. A brokerage remembers this one",
        ),
        (0, '"venue":"XSIM"', '"venue":"YSIM"', "is no journal of XSIM in version 2"),
        (0, '"feed_session":"', '"feed_session":"x', "line 1 is damaged: restore the file"),
    ],
)
def test_a_journal_that_does_not_replay_is_refused_and_left_as_it_is(
    tmp_path: Path, line: int, old: str, new: str, said: str
) -> None:
    decide(tmp_path, "first", "second")
    edit(tmp_path / "journal.jsonl", line, old, new)
    damaged = (tmp_path / "journal.jsonl").read_bytes()
    with pytest.raises(JournalError, match=said):
        decide(tmp_path)
    assert (tmp_path / "journal.jsonl").read_bytes() == damaged


def test_a_flipped_bit_anywhere_in_a_journal_is_refused_or_changes_no_report(tmp_path: Path) -> None:
    random = Random(4)
    decide(tmp_path, *(f"o{number}" for number in range(5)))
    path = tmp_path / "journal.jsonl"
    whole = path.read_bytes()
    reports = [json.loads(line).get("out") for line in whole.splitlines()]
    undetected = 0
    for _ in range(400):
        damaged = bytearray(whole)
        damaged[random.randrange(len(whole) - 1)] ^= 1 << random.randrange(8)
        path.write_bytes(damaged)
        with suppress(JournalError):
            decide(tmp_path)
            undetected += 1
            assert [json.loads(line).get("out") for line in path.read_bytes().splitlines()] == reports
    assert undetected < 200  # a clock's digits, an id of which no report tells


def test_a_venue_with_a_damaged_journal_ends_with_one_line(venue: VenueProcess) -> None:
    decide(venue.journal.parent, "first")
    edit(venue.journal, 1, "{", "")
    assert re.fullmatch(r"exchange: .*journal.jsonl line 2 is damaged.*: restore the file;.*", venue.refuse())


def test_a_venue_with_a_damaged_store_ends_with_one_line(venue: VenueProcess) -> None:
    venue.start()
    client = Counterparty(venue, "RAW")
    client.send(order("a"))
    client.catch_up()
    venue.kill()
    path = store_of(venue, ".out")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"11=a", b"11=b", 1))
    assert re.fullmatch(r"exchange: .*RAW.out.* damaged.*: restore the file", venue.refuse())
    path.write_bytes(whole)
    venue.start()


def test_two_venues_never_share_a_journal(venue: VenueProcess, tmp_path: Path) -> None:
    venue.start()
    with pytest.raises(JournalError, match="is in use: stop the other venue, or choose another data_dir"):
        Journal(venue.journal, "XSIM", time.time_ns())
    other = VenueProcess(tmp_path / "venue")  # other ports, the same data_dir
    assert "is in use" in other.refuse()
    assert operate(venue, "status")["reports"] == 0, "the operator still reaches the first"
    venue.kill()
    other.start()
    other.kill()


def test_a_stopped_venue_logs_out_and_ends_cleanly(venue: VenueProcess) -> None:
    venue.start()
    client = Counterparty(venue, "RAW")
    client.send(order("last"))
    client.read("150=2")
    venue.terminate()
    client.read("35=5|58=the venue stops")
    client.send("35=5")
    assert venue.ended() == 0


def test_the_feed_tells_nothing_that_the_journal_does_not_have(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl", "XSIM", time.time_ns())
    recovered = recover(Market(journal.header.feed_session), journal.records(), lambda _, __: None)
    told: list[FeedEvent] = []
    config = Config()
    venue = Venue(
        recovered, journal, lambda _, events: told.extend(events), opening_hours(config), conduct(config), time.time_ns
    )

    def journaled() -> int:
        return sum(record["feed"] for record in journal.records())

    def decide_one(name: str) -> None:
        venue.receive("OPENBELL", NewOrder(name, "acc", "AAPL", "1", "1", "0", "10", "", ""), time.time_ns())

    venue.open(instruments(config), time.time_ns())
    decide_one("a")
    venue.flush()
    decide_one("b")  # as a connection that breaks while it is written to may lead to
    venue.publish()
    assert len(told) == journaled() > 0
    venue.flush()
    venue.publish()
    assert len(told) == journaled()
    journal.close()


def test_a_drop_copy_that_has_been_told_more_than_the_journal_knows_is_refused(venue: VenueProcess) -> None:
    venue.start()
    copy, client = Counterparty(venue, "COPY"), Counterparty(venue, "RAW")
    client.send(order("a"))
    copy.read("11=a|150=2")
    venue.kill()
    venue.journal.unlink()
    for path in venue.journal.parent.glob("sessions/RAW.*"):
        path.unlink()
    assert "COPY has been told more than the journal knows: move sessions/ away with it" in venue.refuse()


def test_an_owner_that_becomes_a_drop_copy_loses_neither_copies_nor_reports_of_its_own(tmp_path: Path) -> None:
    with VenueProcess(tmp_path / "venue", NO_HOUSE, PARTIES) as venue:
        beta = Counterparty(venue, "BETA")
        beta.send(order("rests", "54=1|38=100|40=2|44=149.00|59=1"))
        beta.read("11=rests|150=0")
    other = VenueProcess(tmp_path / "venue", NO_HOUSE, PARTIES.replace('"BETA"\n', '"BETA"\ncopies=["RAW"]\n'))
    with other:
        client = Counterparty(other, "RAW")
        client.send(order("away", "54=1|38=10|40=2|44=148.00"))
        client.send(order("hits", "54=2|38=100|40=2|44=149.00|59=3"))
        client.read("11=hits|150=2")
        other.kill()
        other.start()
        back = Counterparty(other, "BETA", beta)
        back.read("11=rests|150=2")
        came = [each for _, each in sorted(back.came.items()) if field(each, 5504)]
        rows = other.executions()[1:]
        assert [row["number"] for row in rows] == [int(field(each, 5504)) for each in came]
        assert [field(each, 115) for each in came] == [row["comp_id"].replace("BETA", "") for row in rows]


def test_a_drop_copy_has_what_was_journaled_of_its_own_and_never_sent(tmp_path: Path) -> None:
    venue = VenueProcess(tmp_path / "venue", parties=PARTIES.replace('"BETA"\n', '"BETA"\ncopies=["RAW"]\n'))
    decide(venue.journal.parent, "own", session="BETA")
    with venue:
        beta = Counterparty(venue, "BETA")
        beta.read("11=own|150=2|115=")
        assert [field(each, 5504) for _, each in sorted(beta.came.items())][1:] == ["1", "2"]


def test_a_business_reject_is_not_answered(venue: VenueProcess) -> None:
    venue.start()
    client = Counterparty(venue, "RAW")
    client.send("35=B|148=news|33=1|58=x")
    number = field(client.read("35=j|372=B"), 34)
    client.send(f"35=j|45={number}|372=j|380=3|58=not served")
    client.send("35=1|112=next")
    assert int(field(client.read("35=0|112=next"), 34)) == int(number) + 1


def test_a_name_longer_than_64_characters_gets_a_business_reject(venue: VenueProcess) -> None:
    venue.start()
    client = Counterparty(venue, "RAW")
    cancel = f"35=F|11=c|41={'x' * 65}|55=AAPL|54=1|60=20261123-14:30:00"
    for tag, message in ((11, order("x" * 65)), (1, order("a", account="x" * 65)), (41, cancel)):
        client.send(message)
        client.read(f"35=j|372={field(message, 35)}|380=0|58=tag {tag} has more than 64 characters")
    client.send(order("x" * 64, account="y" * 64))
    client.read(f"35=8|150=2|11={'x' * 64}|1={'y' * 64}")
    assert len(requests(venue)) == 1


def test_a_logout_ahead_of_its_turn_skips_no_order(venue: VenueProcess) -> None:
    venue.start()
    client = RawFixClient(venue.fix_port, "RAW")
    client.log_on(1)
    client.close()  # numbers 2 and 3, two orders, are lost with the connection
    client = RawFixClient(venue.fix_port, "RAW")
    client.log_on(4)
    assert field(client.receive("35=2"), 7) == "2"
    client.send(5, "5", "58=stopped before it had resent")
    with pytest.raises((AssertionError, ConnectionError)):
        client.receive("35=0")
    client.close()
    client = RawFixClient(venue.fix_port, "RAW")
    client.log_on(6)
    assert field(client.receive("35=2"), 7) == "2"  # still the first one that is missing
    client.close()
