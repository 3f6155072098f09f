"""The venue's configuration: defaults, one line that says what to do, and the conduct that it chooses."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import time
from pathlib import Path

import pytest

from exchange.config import Config, ConfigError, Counterparty, instruments, load, opening_hours
from tests.exchange_line import operate
from tests.exchange_process import VenueProcess
from tests.exchange_trader import Counterparty as Client
from tests.exchange_trader import Trader, order
from tests.fix_client import field, has


def written(directory: Path, text: str) -> Path:
    path = directory / "exchange.toml"
    path.write_text(text)
    return path


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    assert load(written(tmp_path, "")) == Config()
    apple, google = instruments(Config())
    assert (apple.symbol, apple.price, apple.tick) == ("AAPL", 1_500_000, 100)
    assert (google.symbol, google.price, google.tick) == ("GOOGL", 28_000_000, 100)


def test_values_replace_the_defaults(tmp_path: Path) -> None:
    text = """
        data_dir="x"
        session="regular"
        open="08:00"
        close="12:30"
        pre_open_seconds=60
        levels=0
        [[counterparties]]
        comp_id="A"
        cancel_on_disconnect=true
        [[counterparties]]
        comp_id="B"
        reset_on_logon=true
        copies=["A"]
        [[symbols]]
        symbol="BRK.B"
        price="400.5"
        tick="0.5"
    """
    config = load(written(tmp_path, text))
    assert (config.data_dir, config.session) == (Path("x"), "regular")
    assert config.counterparties == (
        Counterparty("A", cancel_on_disconnect=True),
        Counterparty("B", reset_on_logon=True, copies=("A",)),
    )
    assert [(row.symbol, row.price, row.tick) for row in instruments(config)] == [("BRK.B", 4_005_000, 5_000)]
    hours = opening_hours(config)
    assert (hours.open, hours.close, hours.pre_open_s, hours.pre_close_s) == (time(8), time(12, 30), 60, 60)


A, B = '[[counterparties]]\ncomp_id="A"\n', '[[counterparties]]\ncomp_id="B"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("colour=1", "knows no 'colour': remove it, or use one of"),
        ("fix_port='7405'", "fix_port must be like 7405"),
        ("fix_port=0", "fix_port must be a port from 1 to 65535"),
        ("levels=true", "levels must be like 5"),
        ("levels=-1", "levels must be from 0 to 1,000,000"),
        ("seed=-1", "seed must be from 0 to 1,000,000"),
        ("rejects_per_million=1000001", "rejects_per_million must be from 0 to 1,000,000"),
        ("answer_delay_ms=-5", "answer_delay_ms must be from 0 to 1,000,000"),
        ("answer_delay_ms=0.5", "answer_delay_ms must be like 0"),
        ("host='localhost'", "host must be an IP address"),
        ("session='night'", "session must be one of always, regular, manual"),
        ("open='9:30'", "open and close must be like 09:30"),
        ("open='09:30Z'", "open and close must be like 09:30"),
        ("close='24:00'", "open and close must be like 09:30"),
        ("open='16:00'", "pre_open_seconds, open, pre_close_seconds and close must follow in one day"),
        ("pre_open_seconds=40000", "must follow in one day"),
        ("pre_close_seconds=-1", "must follow in one day"),
        ("pre_close_seconds=23400", "must follow in one day"),
        ("name='X SIM'", "must be letters, digits and _"),
        ("counterparties=[]", "counterparties must name at least one"),
        ("counterparties=['A', 'B']", "[[counterparties]] must be tables, each after a line [[counterparties]]"),
        ("counterparties='A'", "[[counterparties]] must be tables"),
        ("[[counterparties]]\n", "must be letters, digits and _"),
        ("[[counterparties]]\ncomp_id='../A'", "must be letters, digits and _"),
        ("[[counterparties]]\ncomp_id=1", "[[counterparties]] comp_id must be text in quotes, not 1"),
        (A + A, "counterparties must name at least one, and each once"),
        (A + "reset_on_logon=1", "[[counterparties]] reset_on_logon must be like false, not 1"),
        (A + "copies='B'\n" + B, "[[counterparties]] copies must be like [], not 'B'"),
        (A + "copies=[1]\n" + B, "[[counterparties]] copies must be like [], not [1]"),
        (A + "copies=['C']\n" + B, "A copies C: name other counterparties"),
        (A + "copies=['A']\n" + B, "A copies A: name other counterparties"),
        (A + "drop_copy=true", "[[counterparties]] knows no 'drop_copy'"),
        ("symbols=['AAPL']", "[[symbols]] must be tables"),
        ("symbols=[]", "symbols must name at least one"),
        ("[[symbols]]\nsymbol='AAPL'\nprice=150.0", "[[symbols]] price must be text in quotes, not 150.0"),
        ("[[symbols]]\nsymbol='AAPL'\nlot='1'", "[[symbols]] knows no 'lot'"),
        ("[[symbols]]\nsymbol='AAPL'\nprice='150.005'", "price 150.005 must be a positive multiple of tick 0.01"),
        ("[[symbols]]\nsymbol='AAPL'\nprice='x'", "'x' is not a decimal number"),
        ("[[symbols]]\nsymbol='TOOLONGNAME'\nprice='1'", "1 to 8 letters"),
        ("[[symbols]]\nsymbol='AAPL'\nprice='429496.72'", "must stay below 429,496.7295"),
        ("= 1", "cannot read"),
    ],
)
def test_a_value_that_cannot_be_used_is_told_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(written(tmp_path, text))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load(tmp_path / "none.toml")


def test_a_taken_port_is_told_in_one_line(tmp_path: Path) -> None:
    venue = VenueProcess(tmp_path / "venue")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", venue.fix_port))
        taken.listen()
        assert f"port {venue.fix_port} (fix_port) cannot be opened" in venue.refuse()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", venue.rerequest_port))
        assert f"port {venue.rerequest_port} (rerequest_port) cannot be opened" in venue.refuse()


def test_a_counterparty_may_leave_the_configuration_and_come_back(tmp_path: Path) -> None:
    directory = tmp_path / "venue"
    with VenueProcess(directory, parties=A + B) as venue:
        first = Client(venue, "A")
        first.send(order("rests", "54=1|38=10|40=2|44=150.00", account="a"))
        first.read("11=rests|150=0")
    with VenueProcess(directory, parties=B) as venue:
        other = Client(venue, "B")
        other.send(order("hits", "54=2|38=10|40=2|44=150.00", account="b"))
        other.read("11=hits|150=2")
    with VenueProcess(directory, parties=A + B) as venue:
        again = Client(venue, "A", first)
        again.ask_from(max(first.came) + 1)
        (fill,) = again.catch_up()
        assert has(fill, "11=rests|150=2|14=10")


# What it chooses of the venue's conduct


@contextmanager
def conducted(directory: Path, settings: str) -> Iterator[tuple[VenueProcess, Client]]:
    with VenueProcess(directory, settings) as venue:
        yield venue, Client(venue, "RAW")


def answers(directory: Path, settings: str) -> list[tuple[str, ...]]:
    """To the same hundred requests, without what clock and journal give."""
    with conducted(directory, settings) as (_, client):
        trader = Trader(client, "a", 4)
        for _ in range(100):
            trader.act()
        return [tuple(field(each, tag) for tag in (35, 11, 150, 39, 14, 102, 103, 58)) for each in client.catch_up()]


def test_the_same_seed_and_requests_give_the_same_rejects(tmp_path: Path) -> None:
    settings = "rejects_per_million=200000\n"
    first = answers(tmp_path / "first", settings + "seed=7\n")
    at_random = [each[1] for each in first if "at random" in each[-1]]
    assert 5 < len(at_random) < 40
    assert {each[0] for each in first if "at random" in each[-1]} == {"8", "9"}, "orders, and cancels or replaces"
    assert answers(tmp_path / "again", settings + "seed=7\n") == first
    other = answers(tmp_path / "other", settings + "seed=8\n")
    assert [each[1] for each in other if "at random" in each[-1]] != at_random
    assert not any("at random" in each[-1] for each in answers(tmp_path / "none", "seed=7\n"))


def test_an_answer_is_given_so_much_after_the_request_came(tmp_path: Path) -> None:
    with conducted(tmp_path / "venue", "answer_delay_ms=100\n") as (venue, client):
        for name in ("a", "b"):
            client.send(order(name))
        came = [client.read("35=8") for _ in range(6)]
        for name in ("a", "b"):
            assert [field(each, 150) for each in came if field(each, 11) == name] == ["A", "0", "2"]
        records = venue.records()
        asked = [record["t"] for record in records if record.get("in", {}).get("kind") == "order"]
        decided = [record["t"] for record in records if record.get("in", {}).get("kind") == "answer"]
        assert decided == [at + 100_000_000 for at in asked]


def test_what_was_pending_at_a_kill_is_decided_when_it_was_due(tmp_path: Path) -> None:
    with conducted(tmp_path / "venue", "answer_delay_ms=800\n") as (venue, client):
        client.send(order("a"))
        client.read("11=a|150=A|39=A")
        venue.kill()
        assert venue.records()[-1]["in"]["kind"] == "order"
        venue.start()
        again = Client(venue, "RAW", client)
        again.ask_from(max(client.came) + 1)
        again.read("11=a|150=2")
        asked, decided = venue.records()[-2:]
        assert decided["t"] - asked["t"] == 800_000_000
        assert operate(venue, "status")["pending"] == 0
