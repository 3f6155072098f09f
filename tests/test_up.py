"""`openbell up`, `down`, `status`: a round trip, and what they say when they cannot."""

import asyncio
import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

import pytest

import exchange.config
from ops import config, ports
from ops.leftover import alive
from ops.venue_file import Venue
from runtime.settings import SettingsError
from tests.brokerage import Brokerage, free_port_base, new_directory, openbell, until
from tests.cluster import Cluster

NAMES = ["postgres", "venue", "ledger", "ems", "marketdata", "oms", "engine", "tracer"]

whole = pytest.mark.brokerage
NewBrokerage = Callable[..., Brokerage]


@pytest.fixture
def data() -> Iterator[Path]:
    """A directory in which nothing will be started."""
    directory = new_directory()
    yield directory / "data"
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def stopped_and_started() -> Iterator[Brokerage]:
    found = Brokerage()
    yield found
    found.remove()


@pytest.fixture
def own(stopped_and_started: Brokerage) -> Iterator[Brokerage]:
    """A brokerage that the tests here stop and break; each leaves it running. The audit follows."""
    yield stopped_and_started
    stopped_and_started.until_up()
    stopped_and_started.audit()


def refused(*arguments: str, **environment: str) -> str:
    """The one line that a command refuses with."""
    done = openbell(*arguments, **environment)
    assert done.returncode == 1, done
    assert done.stderr.startswith("openbell: ")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    return done.stderr


@whole
def test_up_starts_every_process_and_each_is_healthy(brokerage: Brokerage) -> None:
    status = brokerage.cli("status")
    assert status["running"]
    assert [row["name"] for row in status["processes"]] == NAMES
    assert {row["health"] for row in status["processes"]} == {"ok"}
    assert all(row["pid"] > 0 and row["state"] == "RUNNING" for row in status["processes"])


@whole
def test_a_second_up_says_that_the_brokerage_runs_and_starts_nothing(brokerage: Brokerage) -> None:
    before = {name: row["pid"] for name, row in brokerage.processes().items()}
    assert "already runs" in brokerage.up()
    assert {name: row["pid"] for name, row in brokerage.processes().items()} == before


@whole
def test_another_brokerage_on_the_same_ports_is_refused(brokerage: Brokerage, data: Path) -> None:
    message = refused("up", "--data", str(data), "--port-base", str(brokerage.port_base))
    assert f"port {brokerage.port_base} (postgres) is taken" in message
    assert "--port-base" in message


@whole
def test_secrets_are_readable_by_their_owner_only(brokerage: Brokerage) -> None:
    secrets = brokerage.data / "secrets"
    assert secrets.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in secrets.iterdir()} == {0o600}


@whole
@pytest.mark.parametrize("name", ["marketdata", "postgres"])
def test_a_killed_process_is_started_again(own: Brokerage, name: str) -> None:
    own.until_restarted(name, own.kill(name))


@whole
def test_down_ends_everything_and_up_starts_it_again_with_its_secrets(own: Brokerage) -> None:
    token = own.settings.secret("token_oms")
    own.down()
    assert ports.taken(own.port_base) is None
    assert own.cli("status")["running"] is False
    assert "does not run" in own.cli("down", json=False)
    own.up()
    assert own.settings.secret("token_oms") == token


@whole
def test_down_ends_processes_whose_supervisor_was_killed(own: Brokerage) -> None:
    supervisor = int((own.data / "run" / "supervisord.pid").read_text())
    os.kill(supervisor, signal.SIGKILL)
    until(lambda: not alive(supervisor), "the supervisor is gone")
    message = refused("up", "--data", str(own.data), "--port-base", str(own.port_base))
    assert "openbell down" in message
    own.down()
    assert ports.taken(own.port_base) is None
    own.up()


@whole
def test_a_brokerage_runs_on_a_postgresql_by_url(cluster: Cluster, new_brokerage: NewBrokerage) -> None:
    url = asyncio.run(cluster.empty_database())
    brokerage = new_brokerage(OPENBELL_DATABASE_URL=cluster.url(url))
    assert [row["name"] for row in brokerage.cli("status")["processes"]] == NAMES[1:]
    assert not (brokerage.data / "pg").exists()


@pytest.mark.parametrize(
    ("name", "kind"), [("oms", socket.SOCK_STREAM), ("feed", socket.SOCK_DGRAM), ("metrics of oms", socket.SOCK_STREAM)]
)
def test_a_taken_port_is_named_with_a_way_out(data: Path, name: str, kind: socket.SocketKind) -> None:
    base = free_port_base()
    port = next(number for known, number, _ in ports.used(base) if known == name)
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind(("127.0.0.1", port))
        if kind == socket.SOCK_STREAM:
            other.listen()
        message = refused("up", "--data", str(data), "--port-base", str(base))
    assert f"port {port} ({name}) is taken" in message
    assert "--port-base" in message


def test_a_data_directory_of_another_version_is_refused(data: Path) -> None:
    data.mkdir()
    (data / "VERSION").write_text("2\n")
    message = refused("up", "--data", str(data))
    assert "layout '2'" in message
    assert "--data" in message


def test_a_directory_that_holds_something_else_is_refused_and_left_alone(data: Path) -> None:
    data.mkdir()
    (data / "thesis.txt").write_text("mine")
    assert "holds no brokerage" in refused("up", "--data", str(data))
    assert [path.name for path in data.iterdir()] == ["thesis.txt"]


CONFIGURATIONS = [
    ("[omz]", "there is no 'omz'"),
    ("oms = 1", "write [oms]"),
    ("[venue]\ncolour = 'red'", "[venue] knows no 'colour'"),
    ("[venue]\nlevels = 'five'", "[venue] levels must be like 5"),
    ("[marketdata]\nsilence = 3", "[marketdata] knows no 'silence'"),
    ("port_base = 'high'", "port_base must be a number"),
    ("port_base = 70000", "port_base must be a number"),
    ("session = 'sometimes'", "session must be one of always, regular"),
    ("port_base = ", "cannot read"),
]


@pytest.mark.parametrize(("text", "expected"), CONFIGURATIONS)
def test_a_value_that_cannot_be_used_is_named(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "openbell.toml"
    file.write_text(text)
    with pytest.raises(SettingsError) as refusal:
        config.resolve(file, None)
    assert expected in str(refusal.value)


def test_an_unknown_key_is_one_line_and_starts_nothing(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "openbell.toml"
    file.write_text("[oms]\nno_such_value = 1\n")
    assert "no_such_value" in refused("up", "--data", str(data), "--config", str(file))
    assert not data.exists()


def test_a_named_configuration_must_exist(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot read"):
        config.resolve(tmp_path / "missing.toml", None)


def test_flags_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "openbell.toml"
    file.write_text("port_base = 8000\nsession = 'regular'\n")
    assert config.resolve(file, None)["port_base"] == 8000
    assert config.resolve(file, 9000) == {"port_base": 9000, "session": "regular"}


def test_status_and_down_without_a_brokerage_say_how_to_start_one(data: Path) -> None:
    for command in ("status", "down"):
        assert "openbell up" in refused(command, "--data", str(data))


def test_a_postgresql_that_does_not_answer_is_one_line(data: Path) -> None:
    url = f"postgresql://nobody:secret@127.0.0.1:{free_port_base()}/none"
    message = refused("up", "--data", str(data), "--port-base", str(free_port_base()), OPENBELL_DATABASE_URL=url)
    assert "OPENBELL_DATABASE_URL" in message
    assert "secret" not in message


def test_a_crash_point_that_does_not_exist_is_one_line(data: Path) -> None:
    assert "oms.order_committed" in refused("up", "--data", str(data), OPENBELL_CRASH="oms.lunch")


def test_the_venue_knows_every_value_that_openbell_writes_for_it() -> None:
    theirs = {field.name: field for field in fields(exchange.config.Config)}
    assert {field.name for field in fields(Venue)} <= set(theirs)
    scalars = [field for field in fields(Venue) if field.name not in ("symbols", "counterparties")]
    assert {field.name: field.default for field in scalars} == {
        field.name: theirs[field.name].default for field in scalars
    }
