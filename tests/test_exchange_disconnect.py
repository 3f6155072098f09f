"""Cancel on disconnect, and sessions whose numbers start anew at each logon: also when the venue is killed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.exchange_line import operate
from tests.exchange_process import VenueProcess
from tests.exchange_trader import Counterparty, order
from tests.fix_client import FixClient, field, has, wait_until

PARTIES = """
[[counterparties]]
comp_id = "LEAVES"
cancel_on_disconnect = true
[[counterparties]]
comp_id = "STAYS"
[[counterparties]]
comp_id = "ANEW"
reset_on_logon = true
[[counterparties]]
comp_id = "COPY"
copies = ["LEAVES", "STAYS", "ANEW"]
"""
RESTS = "54=1|38=100|40=2|44=149.00"
CANCELLED = "35=8|20=0|150=4|39=4|378=4|58=cancelled on disconnect|151=0|14=0"


@pytest.fixture
def venue(tmp_path: Path) -> Iterator[VenueProcess]:
    with VenueProcess(tmp_path / "venue", parties=PARTIES) as process:
        yield process


def open_orders(venue: VenueProcess) -> list[str]:
    return [each["cl_ord_id"] for each in operate(venue, "orders")["orders"]]


def resting(venue: VenueProcess, comp_id: str, *cl_ord_ids: str) -> Counterparty:
    client = Counterparty(venue, comp_id)
    for name in cl_ord_ids:
        client.send(order(name, RESTS))
    client.catch_up()
    return client


def cancels_after_return(venue: VenueProcess, left: Counterparty) -> list[str]:
    """ClOrdIDs of the cancelled orders; everything that is missing is asked for."""
    back = Counterparty(venue, "LEAVES", left)
    back.ask_from(max(left.came) + 1)
    said = back.catch_up()
    back.close()
    assert all(has(each, CANCELLED) for each in said), said
    return [field(each, 11) for each in said]


def test_the_orders_of_a_counterparty_are_cancelled_when_its_connection_goes(venue: VenueProcess) -> None:
    stays = resting(venue, "STAYS", "other")
    leaves = resting(venue, "LEAVES", "one", "two")
    leaves.close()
    wait_until(lambda: open_orders(venue) == ["other"], "the others are cancelled")
    assert cancels_after_return(venue, leaves) == ["one", "two"]
    assert [field(each, 150) for each in stays.catch_up()] == ["0"]


def test_a_logout_is_a_disconnect_too(venue: VenueProcess) -> None:
    leaves = resting(venue, "LEAVES", "one")
    leaves.send("35=5|58=good night")
    leaves.read("35=5")
    wait_until(lambda: open_orders(venue) == [], "cancelled")
    assert cancels_after_return(venue, leaves) == ["one"]


def test_a_killed_venue_cancels_at_its_start(venue: VenueProcess) -> None:
    stays = resting(venue, "STAYS", "other")
    leaves = resting(venue, "LEAVES", "one", "two")
    venue.kill()
    for _ in range(2):
        venue.start()
        assert open_orders(venue) == ["other"]
        venue.kill()  # what the next one finds is cancelled already
    venue.start()
    assert cancels_after_return(venue, leaves) == ["one", "two"]
    back = Counterparty(venue, "STAYS", stays)
    back.send("35=H|11=other|55=AAPL|54=1")
    assert has(back.read("20=3"), "39=0|151=100")


def test_an_order_that_was_never_decided_is_rejected_by_a_disconnect(tmp_path: Path) -> None:
    with VenueProcess(tmp_path / "venue", "answer_delay_ms=60000\n", PARTIES) as venue:
        leaves = Counterparty(venue, "LEAVES")
        leaves.send(order("one", RESTS))
        leaves.read("150=A|39=A")
        venue.kill()
        leaves.close()
        venue.start()
        back = Counterparty(venue, "LEAVES", leaves)
        back.ask_from(max(leaves.came) + 1)
        (rejected,) = back.catch_up()
        assert has(rejected, "11=one|150=8|39=8|151=0|58=the session ended before the order was decided")


def test_a_session_that_starts_anew_is_not_told_what_it_missed_and_a_drop_copy_is(
    venue: VenueProcess, tmp_path: Path
) -> None:
    stays = Counterparty(venue, "STAYS")
    with FixClient(venue.fix_port, "COPY", tmp_path / "copy") as copy:
        anew = Counterparty(venue, "ANEW")
        anew.send(order("away", "54=1|38=10|40=2|44=150.00"))
        anew.read("11=away|150=0")
        anew.close()
        wait_until(lambda: "logged out" in venue.output(), "the connection is gone")
        stays.send(order("hit", "54=2|38=10|40=2|44=150.00"))
        stays.read("11=hit|150=2")
        again = Counterparty(venue, "ANEW")
        assert field(again.logon, 34) == "1"
        assert again.catch_up() == []
        wait_until(lambda: any(has(each, "11=away|150=2|115=ANEW") for each in copy.app), "the drop copy has the fill")
        again.send(order("next", RESTS))
        assert field(again.read("11=next|150=0"), 34) == "3"


def test_a_session_that_starts_anew_does_so_after_a_kill_and_no_report_comes_back(venue: VenueProcess) -> None:
    anew = resting(venue, "ANEW", "one")
    venue.kill()
    anew.close()
    for _ in range(2):
        venue.start()
        again = Counterparty(venue, "ANEW")
        assert field(again.logon, 34) == "1"
        assert again.catch_up() == []
        again.close()
        venue.kill()
    assert [row["number"] for row in venue.executions()] == [1]
