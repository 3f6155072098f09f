"""The venue's configuration: defaults, and one line that says what to do."""

import socket
from pathlib import Path

import pytest

from exchange.config import Config, ConfigError, instruments, load
from tests.exchange_process import VenueProcess


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
    config = load(
        written(
            tmp_path,
            'counterparties=["A", "B"]\ndata_dir="x"\nsession="regular"\nlevels=0\n'
            '[[symbols]]\nsymbol="BRK.B"\nprice="400.5"\ntick="0.5"\n',
        )
    )
    assert (config.counterparties, config.data_dir, config.session) == (("A", "B"), Path("x"), "regular")
    assert [(row.symbol, row.price, row.tick) for row in instruments(config)] == [("BRK.B", 4_005_000, 5_000)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("colour=1", "knows no 'colour': remove it, or use one of"),
        ("fix_port='7405'", "fix_port must be like 7405"),
        ("fix_port=0", "fix_port must be a port from 1 to 65535"),
        ("fix_log=1", "fix_log must be like False"),
        ("levels=true", "levels must be like 5"),
        ("levels=-1", "levels must be from 0 to 1,000,000"),
        ("host='localhost'", "host must be an IP address"),
        ("session='night'", "session must be one of always, regular"),
        ("name='X SIM'", "must be letters, digits and _"),
        ("counterparties=[]", "counterparties must name at least one"),
        ("counterparties=['A','A']", "counterparties must name at least one, and each once"),
        ("counterparties='A'", "counterparties must be like"),
        ("symbols=['AAPL']", "symbols must be tables"),
        ("[[symbols]]\nsymbol='AAPL'\nprice=150.0", "price must be a string in quotes"),
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
        instruments(load(written(tmp_path, text)))
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
