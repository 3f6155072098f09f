"""DATA/venue/venue.toml: the simulated venue's own configuration, from [venue] in openbell.toml.

The venue is a stranger: it gets a file, and nothing of it is imported here.
"""

import json
from dataclasses import dataclass
from typing import Any

import ems.config
from runtime.settings import Settings


@dataclass(frozen=True)
class Venue:
    """[venue]: what an operator may choose. Names and meanings are the venue's; exchange/README.md explains them."""

    name: str = "XSIM"
    feed_host: str = "127.0.0.1"  # or a multicast group
    symbols: tuple[dict[str, str], ...] = (
        {"symbol": "AAPL", "price": "150.00", "tick": "0.01"},
        {"symbol": "GOOGL", "price": "2800.00", "tick": "0.01"},
    )
    levels: int = 5
    shares_per_level: int = 1000
    first_level_ticks: int = 1
    level_step_ticks: int = 1
    counterparties: tuple[dict[str, Any], ...] = ()  # beside the EMS: drop copies, strangers
    pre_open_seconds: int = 1800
    pre_close_seconds: int = 60
    seed: int = 0
    rejects_per_million: int = 0
    answer_delay_ms: int = 0


def write(settings: Settings) -> None:
    directory = settings.data / "venue"
    chosen = settings.section("venue", Venue)
    values = vars(chosen) | {
        "counterparties": [{"comp_id": settings.section("ems", ems.config.Config).comp_id}, *chosen.counterparties],
        "fix_port": settings.port("venue"),
        "feed_port": settings.port("feed"),
        "rerequest_port": settings.port("rerequest"),
        "data_dir": str(directory),
        "session": settings.session,
    }
    lines = [f"{key} = {_toml(value)}\n" for key, value in values.items()]
    (directory / "venue.toml").write_text("".join(lines))


def _toml(value: Any) -> str:
    """TOML writes strings, integers, booleans and lists as JSON does; only tables differ."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(each) for each in value) + "]"
    return json.dumps(value)
