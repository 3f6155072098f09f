"""`openbell bench venue`: what is sent, what is reported, and that nothing stays behind. Not how fast anything is."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ops.bench import venue_report
from ops.bench.venue_measure import Measured
from ops.bench.venue_rounds import CASES, PLAIN, Found
from ops.bench.venue_traffic import SOH, ClientJob, Load, Outcome, PairJob, answers, orders
from tests.brokerage import OPENBELL, new_directory, openbell, parse, until

whole = pytest.mark.brokerage

RATES = {"pair_per_s", "venue_per_s", "ratio_pair"}


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Where a benchmark makes its own directory."""
    directory = new_directory()
    yield directory
    shutil.rmtree(directory)


def test_a_job_is_the_same_on_the_other_side_of_a_pipe() -> None:
    client = ClientJob(1, "store", Load(sessions=4, window=64, market=True), 0.5)
    pair = PairJob(1, "store", market=True)
    assert ClientJob.from_json(client.to_json()) == client
    assert PairJob.from_json(pair.to_json()) == pair


def test_limit_orders_buy_below_the_market_and_market_orders_are_answered_twice() -> None:
    resting = [text.replace(SOH, "|") for text in orders(market=False)]
    assert len(set(resting)) == len(resting) == 100
    assert all("|54=1|" in each and "|40=2|44=90." in each for each in resting)
    assert all("|40=1|" in each.replace(SOH, "|") for each in orders(market=True))
    exec_types = [text.replace(SOH, "|").partition("|150=")[2][0] for text in answers(market=True)]
    assert exec_types == ["0", "2"]
    assert len(list(answers(market=False))) == 1


def measured(rates: list[float]) -> dict[str, list[Measured]]:
    found = [
        Measured(Outcome(100, rate, 1000.0, 2000.0, 3000.0, 0.1), {"server": 10.0, "client": 5.0}, 0.25)
        for rate in rates
    ]
    return dict.fromkeys(CASES, found)


def test_figures_are_medians_and_the_ratio_is_one_of_neighbours() -> None:
    matching = [{"matching_per_s": rate, "matching_p99_us": 2.0, "resting": 10_000} for rate in (1000, 3000, 2000)]
    found = Found(matching, measured([100, 1000, 200]), measured([80, 600, 150]))
    told = venue_report.as_data(found, {}, {})
    assert told.items() >= {"matching_per_s": 2000, "matching_p99_us": 2.0}.items()
    assert told.items() >= {"pair_per_s": 200, "venue_per_s": 150, "ratio_pair": 0.75}.items()
    times = {"p50_us": 1000, "p99_us": 2000, "max_us": 3000}
    assert told["cases"]["window_1"]["venue"] == times | {"cpu_us": {"server": 10, "client": 5}}
    assert told["machine"]["others_cpu_share"] == 0.25


def assert_above_zero(value: Any, where: str) -> None:
    if isinstance(value, dict):
        for key, each in value.items():
            assert_above_zero(each, f"{where}.{key}")
    else:
        assert value > 0, where


@whole
def test_a_short_run_reports_every_figure_and_leaves_nothing_behind(temporary: Path) -> None:
    flags = ["--seconds", "0.2", "--rounds", "1", "--orders", "2000", "--json"]
    done = openbell("bench", "venue", *flags, TMPDIR=str(temporary))
    assert done.returncode == 0, done.stderr
    found = parse(done.stdout)
    assert set(found) == {"matching_per_s", "matching_p99_us", *RATES, "cases", "machine", "arguments"}
    assert set(found["cases"]) == {"matching", *CASES}
    assert {key: found[key] for key in RATES} == {key: found["cases"][PLAIN][key] for key in RATES}
    for name in CASES:
        case = found["cases"][name]
        assert set(case) == {*RATES, "pair", "venue"}
        assert all(set(case[end]) == {"p50_us", "p99_us", "max_us", "cpu_us"} for end in ("pair", "venue"))
        assert_above_zero(case, name)
    assert found["matching_per_s"] > 0
    assert found["matching_p99_us"] > 0
    assert found["arguments"].items() >= {"seconds": 0.2, "rounds": 1, "orders": 2000}.items()
    assert list(temporary.iterdir()) == []


@whole
def test_a_run_that_is_ended_ends_what_it_started(temporary: Path) -> None:
    process = subprocess.Popen(
        [OPENBELL, "bench", "venue"], stderr=subprocess.DEVNULL, env=os.environ | {"TMPDIR": str(temporary)}
    )
    try:
        until(lambda: list(temporary.glob("*/client-pair/*")), "orders are sent")
        (directory,) = temporary.iterdir()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 128 + signal.SIGTERM
    finally:
        process.kill()
    assert not [entry for entry in Path("/proc").iterdir() if entry.name.isdigit() and uses(entry, directory)]
    assert list(temporary.iterdir()) == []


def uses(process: Path, directory: Path) -> bool:
    """Whether a process has a file of the directory open."""
    try:
        files = [os.readlink(each) for each in (process / "fd").iterdir()]
    except OSError:
        return False
    return any(file.startswith(f"{directory}/") for file in files)
