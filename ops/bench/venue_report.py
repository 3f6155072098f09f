"""The figures of the venue's benchmark: medians over its rounds, as data and for people."""

from collections.abc import Iterable, Iterator
from statistics import median
from typing import Any

from rich.table import Table

from ops.bench.venue_measure import Measured
from ops.bench.venue_rounds import CASES, PLAIN, Found
from ops.show import table


def as_data(found: Found, machine: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
    cases = {name: _case(found, name) for name in CASES}
    return {
        "matching_per_s": _matching(found, "matching_per_s"),
        "matching_p99_us": _matching(found, "matching_p99_us"),
        **{key: cases[PLAIN][key] for key in ("pair_per_s", "venue_per_s", "ratio_pair")},
        "cases": {"matching": _matching_case(found), **cases},
        "machine": machine | {"others_cpu_share": _rounded(_others(found))},
        "arguments": arguments,
    }


def _matching(found: Found, key: str) -> float:
    return _rounded(median(each[key] for each in found.matching))


def _matching_case(found: Found) -> dict[str, Any]:
    """As the matching core told it: one entry a round."""
    return {"per_s": _matching(found, "matching_per_s"), "rounds": found.matching}


def _case(found: Found, name: str) -> dict[str, Any]:
    """`ratio_pair` is the median of the rounds' ratios, each of two measurements made one after the other."""
    pair, venue = found.pair[name], found.venue[name]
    ratios = (at.outcome.per_s / beside.outcome.per_s for at, beside in zip(venue, pair, strict=True))
    return {
        "pair_per_s": _rounded(_rate(pair)),
        "venue_per_s": _rounded(_rate(venue)),
        "ratio_pair": _rounded(median(ratios)),
        "pair": _end(pair),
        "venue": _end(venue),
    }


def _end(measured: list[Measured]) -> dict[str, Any]:
    """`max_us` is the longest of all rounds: a median would hide what happens now and then."""
    return {
        "p50_us": _rounded(median(each.outcome.p50_us for each in measured)),
        "p99_us": _rounded(median(each.outcome.p99_us for each in measured)),
        "max_us": _rounded(max(each.outcome.max_us for each in measured)),
        "cpu_us": {which: _rounded(median(each.cpu_us[which] for each in measured)) for which in measured[0].cpu_us},
    }


def _rate(measured: Iterable[Measured]) -> float:
    return median(each.outcome.per_s for each in measured)


def _others(found: Found) -> float:
    ends = (found.pair, found.venue)
    return median(each.others for end in ends for measured in end.values() for each in measured)


def _rounded(value: float) -> float:
    """Three decimals where there is nothing else, one for large numbers."""
    return round(value, 1 if value >= 100 else 3)


def as_table(found: Found) -> Table:
    """One row a case. CPU is that of the server, an order, and of the load generator at the venue."""
    numbers = ("pair per s", "venue per s", "x pair", *_columns("pair"), *_columns("venue"), "CPU us: client")
    rows = table("case", *numbers, right=numbers)
    for name in CASES:
        case = _case(found, name)
        ends = [case[end] for end in ("pair", "venue")]
        rows.add_row(
            name,
            *(f"{case[key]:,.0f}" for key in ("pair_per_s", "venue_per_s")),
            f"{case['ratio_pair']:.2f}",
            *(f"{value:,.0f}" for end in ends for value in _values(end)),
            f"{case['venue']['cpu_us']['client']:.0f}",
        )
    return rows


def _columns(end: str) -> tuple[str, ...]:
    return (f"{end} p50 us", "p99 us", "max us", "CPU us")


def _values(end: dict[str, Any]) -> tuple[float, ...]:
    return (*(end[key] for key in ("p50_us", "p99_us", "max_us")), end["cpu_us"]["server"])


def as_lines(found: Found) -> Iterator[str]:
    """What the table has no place for."""
    per_s, p99 = (_matching(found, key) for key in ("matching_per_s", "matching_p99_us"))
    resting = found.matching[0]["resting"]
    yield f"matching core alone: {per_s:,.0f}/s, p99 {p99:.1f} us, with {resting:,} orders resting"
    yield f"other programs used {_others(found):.0%} of the processors"
