"""Drop copy sessions: every report of the counterparties they copy, live and again from any number on."""

from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from exchange.times import instant
from tests.exchange_history import decide
from tests.exchange_line import operate
from tests.exchange_process import VenueProcess
from tests.exchange_trader import Counterparty, numbers, order, rows_of, says
from tests.fix_client import FixClient, field, has, wait_until

PARTIES = """
[[counterparties]]
comp_id = "OPENBELL"
[[counterparties]]
comp_id = "BETA"
[[counterparties]]
comp_id = "OTHER"
[[counterparties]]
comp_id = "COPY"
copies = ["OPENBELL", "BETA"]
"""
COPIED = ("OPENBELL", "BETA")


@pytest.fixture
def venue(tmp_path: Path) -> Iterator[VenueProcess]:
    process = VenueProcess(tmp_path / "venue", parties=PARTIES)
    yield process
    process.kill()


def trade(client: Counterparty, *cl_ord_ids: str) -> None:
    for name in cl_ord_ids:
        client.send(order(name))
        client.read(f"11={name}|150=2")


def copied(client: Counterparty | FixClient) -> list[str]:
    came = client.app if isinstance(client, FixClient) else [client.came[number] for number in sorted(client.came)]
    return [each for each in came if field(each, 5504)]


def test_a_drop_copy_has_every_report_of_those_it_copies_and_no_other(venue: VenueProcess, tmp_path: Path) -> None:
    venue.start()
    with FixClient(venue.fix_port, "COPY", tmp_path / "copy") as copy:
        a, b, other = (Counterparty(venue, name) for name in ("OPENBELL", "BETA", "OTHER"))
        trade(a, "a")
        trade(other, "x")
        trade(b, "b")
        a.send("35=F|11=c|41=a|55=AAPL|54=1|60=20261123-14:30:00")  # too late: an OrderCancelReject(9)
        a.read("35=9")
        rows = rows_of(venue.executions(), *COPIED)
        wait_until(lambda: len(copied(copy)) == len(rows) == 5, "the copies")
        for message, row in zip(copied(copy), rows, strict=True):  # QuickFIX has checked each with its dictionary
            assert says(message, row)
            assert has(message, f"115={row['comp_id']}|49=XSIM|56=COPY|97=|43=")


def test_what_happens_while_it_is_away_comes_when_it_is_back(venue: VenueProcess) -> None:
    venue.start()
    copy = Counterparty(venue, "COPY")
    a = Counterparty(venue, "OPENBELL")
    trade(a, "a")
    copy.read("11=a|150=2")
    copy.close()
    wait_until(lambda: "logged out" in venue.output(), "it is gone")
    trade(a, "b")
    back = Counterparty(venue, "COPY", copy)
    back.read("11=b|150=2")
    assert [field(each, 5504) for each in copied(back)] == ["3", "4"]


def test_after_a_logon_with_5503_all_comes_again_from_that_number_on(venue: VenueProcess, tmp_path: Path) -> None:
    venue.start()
    a, b, other = (Counterparty(venue, name) for name in ("OPENBELL", "BETA", "OTHER"))
    trade(a, "a1", "a2")
    trade(other, "x1")
    trade(b, "b1")
    expected = [row["number"] for row in rows_of(venue.executions(), *COPIED)]
    with FixClient(venue.fix_port, "COPY", tmp_path / "copy") as copy:
        wait_until(lambda: numbers(copy) == expected, "the first time")
    with FixClient(venue.fix_port, "COPY", tmp_path / "copy", logon={5503: "2"}) as copy:
        wait_until(lambda: numbers(copy) == [number for number in expected if number >= 2], "again from 2 on")
        assert all(has(each, "97=Y|43=") for each in copy.app), "under new numbers"
        trade(a, "a3")
        wait_until(lambda: numbers(copy)[-2:] == [9, 10], "live again")
        assert [field(each, 97) for each in copied(copy)[-2:]] == ["", ""]


def test_the_next_number_may_be_asked_for_and_none_beyond(venue: VenueProcess) -> None:
    venue.start()
    a = Counterparty(venue, "OPENBELL")
    trade(a, "a")
    copy = Counterparty(venue, "COPY", logon="5503=3")
    trade(a, "b")
    copy.read("11=b|150=2")
    assert [field(each, 5504) for each in copied(copy)] == ["3", "4"]


def test_a_5503_that_is_no_reports_number_is_refused_in_words(venue: VenueProcess) -> None:
    decide(venue.journal.parent, "a")
    venue.start()
    copy = None
    for wanted in ("0", "-1", "4", "x", "1.0", "99999999999999999999", "²"):
        copy = Counterparty(venue, "COPY", copy, logon=f"5503={wanted}")
        assert has(copy.read("35=5"), "58=5503 must be the number of a report"), wanted
        copy.send("35=5")
        assert copy.ended()
    Counterparty(venue, "COPY", copy, logon="5503=1").read("5504=2|97=Y")


def test_a_counterparty_that_is_no_drop_copy_gets_nothing_for_its_5503(venue: VenueProcess) -> None:
    decide(venue.journal.parent, "a")
    venue.start()
    client = Counterparty(venue, "BETA", logon="5503=1")
    assert client.catch_up() == []


def test_a_drop_copy_may_only_listen(venue: VenueProcess) -> None:
    decide(venue.journal.parent, "a")
    venue.start()
    copy = Counterparty(venue, "COPY")
    cancel = "35=F|11=c|41=a|55=AAPL|54=1|60=20261123-14:30:00"
    for message in (order("n"), cancel, "35=H|11=a|55=AAPL|54=1", "35=g|335=s|263=0"):
        copy.send(message)
        refused = copy.read(f"35=j|372={field(message, 35)}")
        assert has(refused, "380=0|58=a drop copy session only listens")
    assert operate(venue, "status")["reports"] == 2


def test_a_kill_in_the_midst_of_a_replay_takes_nothing_from_it(venue: VenueProcess) -> None:
    decide(venue.journal.parent, *(f"o{number}" for number in range(2000)))
    venue.start()
    first = Counterparty(venue, "COPY")
    first.read("5504=4000")
    first.close()
    wait_until(lambda: "logged out" in venue.output(), "it is gone")
    second = Counterparty(venue, "COPY", first, logon="5503=101")
    second.read("5504=700|97=Y")
    venue.kill()
    second.close()
    venue.start()
    third = Counterparty(venue, "COPY", second)  # asks for no replay: the one under way goes on
    third.ask_from(max(second.came) + 1)
    third.read("5504=4000")
    replayed = [*copied(second), *copied(third)]
    assert [int(field(each, 5504)) for each in replayed] == list(range(101, 4001))
    assert all(has(each, "97=Y") for each in replayed)


def test_a_long_replay_delays_nobody(venue: VenueProcess) -> None:
    decide(venue.journal.parent, *(f"o{number}" for number in range(10_000)))
    venue.start()
    copy = Counterparty(venue, "COPY", logon="5503=1")
    beta = Counterparty(venue, "BETA")
    reader = Thread(target=copy.read, args=["5504=20000"])
    reader.start()
    trades = 0
    while reader.is_alive():
        trade(beta, f"live{trades}")
        trades += 1
    copy.read(f"5504={20_000 + 2 * trades}")
    copies = copied(copy)
    assert [int(field(each, 5504)) for each in copies] == list(range(1, 20_001 + 2 * trades))
    first, last = (instant(field(copies[at], 52)) or 0 for at in (0, 19_999))
    meanwhile = {field(each, 11) for each in beta.came.values() if first < int(field(each, 5502) or 0) < last}
    assert len(meanwhile) >= 10, "it comes in forty pieces, between which the others have their turn"
