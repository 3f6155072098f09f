"""`openbell bench`: what is sent, what is reported, and that nothing stays behind. Not how fast anything is."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from openbell.ledger.v1 import ledger_pb2 as pb
from ops.bench import report
from ops.bench.measure import Measured
from ops.bench.report import Found
from ops.bench.rounds import REFUSED_EVERY, SHAPES, Phase
from ops.bench.traffic import BEYOND, Holder, Job, Outcome, Shape, messages
from tests.brokerage import OPENBELL, new_directory, openbell, parse, until

whole = pytest.mark.brokerage

HOLDERS = tuple(Holder(f"acc_{number}", f"ord_{number}", f"hld_0_{number:012d}") for number in range(256))
CASE_KEYS = {"per_s", "ratio_tpcb", "p50_ms", "p99_ms", "refused_ratio", "grown_ratio", "cpu_us"}


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Where a benchmark makes its own directory."""
    directory = new_directory()
    yield directory
    shutil.rmtree(directory)


def job(shape: Shape, refused_every: int = 0, *, four_legs: bool = False) -> Job:
    return Job("127.0.0.1:1", "token", shape, HOLDERS, "2026-11-30", four_legs, refused_every, seconds=1)


def commands(shape: Shape, request: bytes) -> list[pb.CaptureRequest]:
    if shape.rpc == "Capture":
        return [pb.CaptureRequest.FromString(request)]
    return [command.capture for command in pb.SubmitBatchRequest.FromString(request).commands]


def test_a_job_is_the_same_on_the_other_side_of_a_pipe() -> None:
    given = job(SHAPES["stream"], REFUSED_EVERY)
    assert Job.from_json(given.to_json()) == given


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_keys_are_unique_and_in_order_of_time_across_calls(shape: Shape) -> None:
    made = messages(job(shape))[:20]
    sent = [each for number, message in enumerate(made) for each in commands(shape, message.numbered(number))]
    keys = [each.idempotency_key for each in sent]
    assert len(keys) == 20 * shape.commands
    assert keys == sorted(set(keys))
    assert {len(key) for key in keys} == {20}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_one_command_in_a_hundred_asks_for_more_than_is_held_and_every_hold_is_used(shape: Shape) -> None:
    made = messages(job(shape, REFUSED_EVERY))
    sent = [each for message in made for each in commands(shape, message.numbered(0))]
    beyond = [each for each in sent if each.amount == BEYOND]
    assert len(beyond) * REFUSED_EVERY == len(sent)
    assert sum(message.refused for message in made) == len(beyond)
    assert {each.amount for each in sent} == {1, BEYOND}
    assert {each.hold_id for each in sent} == {holder.hold_id for holder in HOLDERS}


def test_four_legs_are_a_share_for_a_cent_out_of_the_hold() -> None:
    (message, *_) = messages(job(SHAPES["per_call_10"], four_legs=True))
    trades = [command.trade for command in pb.SubmitBatchRequest.FromString(message.numbered(1)).commands]
    assert [trade.order_id for trade in trades] == [holder.order_id for holder in HOLDERS[:10]]
    assert {(trade.quantity, trade.price, trade.settle_date) for trade in trades} == {(1, 100, "2026-11-30")}


def phase(tpcb: list[float], plain: list[float], refused: list[float]) -> Phase:
    def measured(rates: list[float]) -> dict[str, list[Measured]]:
        found = [
            Measured(Outcome(100, 0, rate, 1.0, 2.0, 0.1), {"ledger": 10.0, "postgres": 20.0, "client": 5.0}, 0.25)
            for rate in rates
        ]
        return dict.fromkeys(SHAPES, found)

    return Phase(tpcb, measured(plain), measured(refused))


def test_figures_are_medians_and_shares_of_the_plain_and_fresh_rate() -> None:
    fresh = phase([900, 1000, 5000], [1, 2000, 3000], [1000, 1900, 9000])
    grown = phase([1, 2, 3], [1600, 1700, 1800], [1, 1, 1])
    told = report.as_data(Found(fresh, grown, 700, 950), {}, {})
    assert told["tpcb_per_s"] == 1000
    assert told["machine"]["tpcb_per_s"] == {"fresh": 1000, "grown": 2}
    assert told["machine"]["others_cpu_share"] == {"fresh": 0.25, "grown": 0.25}
    assert told["stream"] == {
        "per_s": 2000,
        "ratio_tpcb": 2,
        "p50_ms": 1,
        "p99_ms": 2,
        "refused_ratio": 0.95,
        "grown_ratio": 0.85,
        "cpu_us": {"ledger": 10, "postgres": 20, "client": 5},
    }


@whole
def test_a_short_run_reports_every_figure_and_leaves_nothing_behind(temporary: Path) -> None:
    flags = ["--seconds", "0.2", "--rounds", "1", "--grow", "2000", "--json"]
    done = openbell("bench", "ledger", *flags, TMPDIR=str(temporary))
    assert done.returncode == 0, done.stderr
    found = parse(done.stdout)
    assert set(found) == {"tpcb_per_s", *SHAPES, "bytes_two_legs", "bytes_four_legs", "machine", "arguments"}
    assert found["tpcb_per_s"] > 0
    for name in SHAPES:
        assert set(found[name]) == CASE_KEYS
        assert set(found[name]["cpu_us"]) == {"ledger", "postgres", "client"}
        assert all(found[name][key] > 0 for key in CASE_KEYS - {"cpu_us"}), (name, found[name])
    assert 0 < found["bytes_two_legs"] < found["bytes_four_legs"]
    assert found["machine"].items() >= {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}.items()
    assert found["arguments"].items() >= {"seconds": 0.2, "rounds": 1, "grow": 2000}.items()
    assert list(temporary.iterdir()) == []


@whole
def test_a_run_that_is_ended_ends_what_it_started(temporary: Path) -> None:
    process = subprocess.Popen(
        [OPENBELL, "bench", "ledger"], stderr=subprocess.DEVNULL, env=os.environ | {"TMPDIR": str(temporary)}
    )
    try:
        (pid_file,) = until(lambda: list(temporary.glob("*/pg/postmaster.pid")), "PostgreSQL runs")
        postmaster = int(pid_file.read_text().split()[0])
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 128 + signal.SIGTERM
    finally:
        process.kill()
    assert not Path(f"/proc/{postmaster}").exists()
    assert list(temporary.iterdir()) == []
