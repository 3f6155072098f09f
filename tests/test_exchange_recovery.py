"""Kill -9 of the venue at any instant, and damaged journals: nothing acknowledged is lost, nothing is doubled."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from exchange.config import Config, instruments
from exchange.journal import Journal, JournalError
from exchange.market import Market
from exchange.orders import NewOrder
from exchange.recovery import recover
from exchange.venue import Venue
from tests.exchange_process import COUNTERPARTIES, VenueProcess
from tests.fix_client import FixClient, RawFixClient, field, has, wait_until


@pytest.fixture
def venue(tmp_path: Path) -> Iterator[VenueProcess]:
    process = VenueProcess(tmp_path / "venue")
    yield process
    process.kill()


def order(cl_ord_id: str, terms: str = "54=1|38=10|40=1") -> str:
    now = datetime.now(UTC).strftime("%Y%m%d-%H:%M:%S")
    return f"35=D|11={cl_ord_id}|1=acc|21=1|55=AAPL|{terms}|60={now}"


def executions_seen(client: FixClient) -> dict[str, str]:
    """ExecID -> the report, as a counterparty that de-duplicates by ExecID sees them."""
    return {field(each, 17): each for each in client.app if has(each, "35=8|20=0")}


def wait_for_executions(client: FixClient, count: int) -> None:
    wait_until(lambda: len(executions_seen(client)) >= count, f"{count} executions")


def assert_nothing_lost_or_doubled(venue: VenueProcess, client: FixClient, sent: set[str]) -> None:
    wait_until(lambda: executions_seen(client).keys() == {row["exec_id"] for row in venue.executions()}, "all reports")
    orders = Counter(each["in"]["cl_ord_id"] for each in venue.records() if each.get("in", {}).get("kind") == "order")
    assert orders.keys() == sent
    assert set(orders.values()) == {1}
    bought = Counter[str]()
    for report in executions_seen(client).values():
        bought[field(report, 11)] += int(field(report, 32))
    assert bought == dict.fromkeys(sent, 10)
    numbers = [row["number"] for row in venue.executions()]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_kill_in_the_midst_of_a_stream_of_orders_loses_and_doubles_nothing(
    venue: VenueProcess, tmp_path: Path
) -> None:
    venue.start()
    sent = set[str]()
    with FixClient(venue.fix_port, "OPENBELL", tmp_path / "client") as client:
        for round_ in range(2):
            before = len(executions_seen(client))
            for number in range(300):
                cl_ord_id = f"r{round_}n{number}"
                sent.add(cl_ord_id)
                client.send(order(cl_ord_id))
            wait_for_executions(client, before + 100)
            venue.kill()
            assert len(executions_seen(client)) < 2 * len(sent), "the kill came after the last order"
            client.wait_logged_out()
            venue.start()
            client.wait_logged_on()
        wait_for_executions(client, 2 * len(sent))
        assert_nothing_lost_or_doubled(venue, client, sent)


def test_what_was_answered_before_a_kill_stands_after_it(venue: VenueProcess, tmp_path: Path) -> None:
    venue.start()
    with FixClient(venue.fix_port, "OPENBELL", tmp_path / "client") as client:
        client.send(order("rests", "54=1|38=1500|40=2|44=150.01"))
        client.send(order("done"))
        before = client.receive(4)
        venue.kill()
        client.wait_logged_out()
        venue.start()
        client.wait_logged_on()
        again = client.receive(4)  # no mark was journaled yet: all may have been lost
        assert all(has(each, "97=Y") for each in again)
        assert [field(each, 17) for each in again] == [field(each, 17) for each in before]
        client.send("35=H|11=rests|55=AAPL|54=1")
        client.send("35=H|11=done|55=AAPL|54=1")
        rests, done = client.receive(2)
        assert has(rests, "20=3|39=1|14=1000|151=500")
        assert has(done, "20=3|39=2|14=10|151=0")
        client.send(order("rests"))
        assert has(client.receive(1)[0], "150=8|103=6")


def test_what_was_marked_as_sent_is_not_sent_again(venue: VenueProcess, tmp_path: Path) -> None:
    venue.start()
    with FixClient(venue.fix_port, "OPENBELL", tmp_path / "client") as client:
        client.send(order("marked"))
        client.receive(2)
        wait_until(lambda: venue.records()[-1] == {"sent": {"OPENBELL": 2}}, "the mark of an idle venue")
        venue.kill()
        client.wait_logged_out()
        venue.start()
        client.wait_logged_on()
        client.send(order("next"))
        assert [field(each, 11) for each in client.receive(2)] == ["next", "next"]


def decide(data_dir: Path, *cl_ord_ids: str) -> None:
    """What a venue leaves behind that is killed after the journal and before QuickFIX."""
    data_dir.mkdir(parents=True, exist_ok=True)
    journal = Journal(data_dir / "journal.jsonl", "XSIM", time.time_ns())
    recovered = recover(Market(journal.header.feed_session), journal.records(), lambda _, __: None)
    venue = Venue(recovered, journal, lambda _, __: None, COUNTERPARTIES, "always", time.time_ns)
    venue.add_instruments(instruments(Config()), time.time_ns())
    for cl_ord_id in cl_ord_ids:
        venue.place("OPENBELL", NewOrder(cl_ord_id, "acc", "AAPL", "1", "1", "0", "10", "", ""), time.time_ns())
    journal.close()


def test_an_order_journaled_and_never_answered_is_answered_and_not_executed_again(
    venue: VenueProcess, tmp_path: Path
) -> None:
    decide(venue.journal.parent, "crossed")
    venue.start()
    with FixClient(venue.fix_port, "OPENBELL", tmp_path / "client") as client:
        new, fill = client.receive(2)
        assert has(new, "97=Y|11=crossed|20=0|150=0")
        assert has(fill, "97=Y|11=crossed|20=0|150=2|14=10")
        client.send("97=Y|" + order("crossed"))
        assert has(client.receive(1)[0], "11=crossed|20=3|39=2|14=10")
        assert_nothing_lost_or_doubled(venue, client, {"crossed"})


def test_a_torn_last_line_never_happened(venue: VenueProcess, tmp_path: Path) -> None:
    decide(venue.journal.parent, "whole")
    whole = venue.journal.read_bytes()
    venue.journal.write_bytes(whole + b'{"n":4,"t":1795')
    venue.start()
    with FixClient(venue.fix_port, "OPENBELL", tmp_path / "client") as client:
        client.receive(2)
        client.send(order("later"))
        client.receive(2)
        assert venue.journal.read_bytes().startswith(whole + b'{"n":4,')
        assert_nothing_lost_or_doubled(venue, client, {"whole", "later"})


def test_a_long_torn_line_is_cut_too(tmp_path: Path) -> None:
    decide(tmp_path, "whole")
    path = tmp_path / "journal.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b"x" * 200_000)
    decide(tmp_path)
    assert path.read_bytes() == whole


def test_a_torn_header_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"version":1,"ve')
    decide(tmp_path, "first")
    assert [json.loads(line).get("n") for line in path.read_text().splitlines()] == [None, 1, 2, 3]


def edit(journal: Path, line: int, old: str, new: str) -> None:
    lines = journal.read_text().splitlines(keepends=True)
    assert old in lines[line]
    lines[line] = lines[line].replace(old, new)
    journal.write_text("".join(lines))


@pytest.mark.parametrize(
    ("line", "old", "new", "said"),
    [
        (3, '"last_px":1500100', '"last_px":1500200', "was not decided by these rules"),
        (3, '"feed":1', '"feed":2', "was not decided by these rules"),
        (3, '"n":3', '"n":4', "goes from event 2 to 4"),
        (3, '"out":', '"out"', "line 4 is damaged"),
        (0, '"version":1', '"version":2', "is no journal of XSIM in version 1"),
        (0, '"venue":"XSIM"', '"venue":"YSIM"', "is no journal of XSIM in version 1"),
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


def test_a_venue_with_a_damaged_journal_ends_with_one_line(venue: VenueProcess) -> None:
    decide(venue.journal.parent, "first")
    edit(venue.journal, 1, "{", "")
    assert "line 2 is damaged" in venue.refuse()


def test_two_venues_never_share_a_journal(tmp_path: Path) -> None:
    first = Journal(tmp_path / "journal.jsonl", "XSIM", time.time_ns())
    with pytest.raises(JournalError, match="is in use"):
        Journal(tmp_path / "journal.jsonl", "XSIM", time.time_ns())
    first.close()
    decide(tmp_path, "later")


def test_a_stopped_venue_logs_out_and_ends_cleanly(venue: VenueProcess, tmp_path: Path) -> None:
    venue.start()
    with FixClient(venue.fix_port, "OPENBELL", tmp_path / "client") as client:
        client.send(order("last"))
        client.receive(2)
        assert venue.stop() == 0
        client.wait_logged_out()
        assert has(client.admin[-1], "35=5|58=the venue stops")
    assert venue.records()[-1] == {"sent": {"OPENBELL": 2}}


def test_a_logout_ahead_of_its_turn_skips_no_order(tmp_path: Path) -> None:
    with VenueProcess(tmp_path) as venue:
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
