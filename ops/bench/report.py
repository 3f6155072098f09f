"""The figures of a run: medians over its rounds, as data and for people."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

from rich.table import Table

from ops.bench.measure import Measured
from ops.bench.rounds import SHAPES, Phase
from ops.show import table


@dataclass(frozen=True, slots=True)
class Found:
    """Everything that a run measured; `grown` is None if it filled nothing."""

    fresh: Phase
    grown: Phase | None
    bytes_two_legs: int
    bytes_four_legs: int


def as_data(found: Found, machine: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
    cases = {name: _case(found, name) for name in SHAPES}
    return {
        "tpcb_per_s": _rounded(median(found.fresh.tpcb)),
        **cases,
        "bytes_two_legs": found.bytes_two_legs,
        "bytes_four_legs": found.bytes_four_legs,
        "machine": machine | _meanwhile(found),
        "arguments": arguments,
    }


def _case(found: Found, name: str) -> dict[str, Any]:
    plain = found.fresh.plain[name]
    rate = _rate(plain)
    return {
        "per_s": _rounded(rate),
        "ratio_tpcb": _rounded(rate / median(found.fresh.tpcb)),
        "p50_ms": _rounded(median(each.outcome.p50_ms for each in plain)),
        "p99_ms": _rounded(median(each.outcome.p99_ms for each in plain)),
        "refused_ratio": _rounded(_rate(found.fresh.refused[name]) / rate),
        "grown_ratio": _rounded(_rate(found.grown.plain[name]) / rate) if found.grown else None,
        "cpu_us": {which: _rounded(median(each.cpu_us[which] for each in plain)) for which in plain[0].cpu_us},
    }


def _meanwhile(found: Found) -> dict[str, Any]:
    """How the machine did in each phase: figures of two phases compare as far as these do."""
    phases = {"fresh": found.fresh} | ({"grown": found.grown} if found.grown else {})
    return {
        "tpcb_per_s": {name: _rounded(median(phase.tpcb)) for name, phase in phases.items()},
        "others_cpu_share": {name: _rounded(_others(phase)) for name, phase in phases.items()},
    }


def _others(phase: Phase) -> float:
    return median(each.others for measured in phase.plain.values() for each in measured)


def _rate(measured: Iterable[Measured]) -> float:
    return median(each.outcome.per_s for each in measured)


def _rounded(value: float) -> float:
    """Three decimals where there is nothing else, one for large numbers."""
    return round(value, 1 if value >= 100 else 3)


def as_table(found: Found) -> Table:
    """One row a case; what is a share is one of the case's own rate, plain and in an empty ledger."""
    shares = ("1 % refused", "grown", "grown, refused")
    numbers = ("per s", "x TPC-B", "p50 ms", "p99 ms", *shares, "CPU us: ledger", "postgres", "client")
    rows = table("case", *numbers, right=numbers)
    for name in SHAPES:
        told = _case(found, name)
        both = _rate(found.grown.refused[name]) / told["per_s"] if found.grown else None
        rows.add_row(
            name,
            f"{told['per_s']:,.0f}",
            *(f"{told[key]:.2f}" for key in ("ratio_tpcb", "p50_ms", "p99_ms", "refused_ratio")),
            *("-" if share is None else f"{share:.2f}" for share in (told["grown_ratio"], both)),
            *(f"{spent:.0f}" for spent in told["cpu_us"].values()),
        )
    return rows


def as_lines(found: Found) -> Iterator[str]:
    """What the table has no place for."""
    meanwhile = _meanwhile(found)
    for name, rate in meanwhile["tpcb_per_s"].items():
        others = meanwhile["others_cpu_share"][name]
        yield f"{name}: TPC-B {rate:,.0f}/s; other programs used {others:.0%} of the processors"
    yield f"a transaction takes {found.bytes_two_legs} bytes with two legs, {found.bytes_four_legs} with four"
