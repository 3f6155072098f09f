"""The section [ems] of openbell.toml."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from runtime.settings import Settings, SettingsError

HEARTBEATS_MAX: Final = 2.5  # a venue silent for longer than so many heartbeat intervals gets no new order


@dataclass(frozen=True, slots=True)
class Venue:
    """A venue as the EMS sees it. Its number is its place in the list, from 1: the partition of its logs."""

    name: str = "XSIM"
    comp_id: str = "XSIM"  # TargetCompID(56)
    host: str = "127.0.0.1"
    port: int = 0  # 0: the port of this brokerage's own venue
    symbols: tuple[str, ...] = ()  # empty: takes every symbol


@dataclass(frozen=True, slots=True)
class Config:
    venues: tuple[Venue, ...] = (Venue(),)
    comp_id: str = "OPENBELL"  # SenderCompID(49)
    heartbeat_seconds: int = 5  # HeartBtInt(108)
    status_after_seconds: float = 5.0  # an order unanswered for so long is asked about
    message_log: bool = True  # every FIX message also in DATA/fix/VENUE/log

    def __post_init__(self) -> None:
        venues = tuple(venue if isinstance(venue, Venue) else _venue(venue) for venue in self.venues)
        object.__setattr__(self, "venues", venues)
        if not venues or len({venue.name for venue in venues}) < len(venues):
            raise SettingsError("openbell.toml: [ems] venues must name at least one venue, and each only once")

    @property
    def partitions(self) -> int:
        """Of the execution log: 0 for the EMS's own refusals, and one a venue."""
        return 1 + len(self.venues)

    def partition_for(self, symbol: str) -> int | None:
        """The number of the first venue that takes `symbol`."""
        for number, venue in enumerate(self.venues, 1):
            if not venue.symbols or symbol in venue.symbols:
                return number
        return None

    def venue(self, name: str) -> tuple[int, Venue]:
        """(number, venue). SettingsError if there is none of that name."""
        for number, venue in enumerate(self.venues, 1):
            if venue.name == name:
                return number, venue
        raise SettingsError(f"openbell.toml: [ems] has no venue {name!r}; it has {self.names()}")

    def names(self) -> str:
        return ", ".join(venue.name for venue in self.venues)


def _venue(given: Mapping[str, Any]) -> Venue:
    known = {field.name for field in fields(Venue)}
    for key in given:
        if key not in known:
            raise SettingsError(
                f"openbell.toml: a venue of [ems] knows no {key!r}; it knows {', '.join(sorted(known))}"
            )
    return Venue(**{**given, "symbols": tuple(given.get("symbols", ()))})


def load(settings: Settings) -> Config:
    return settings.section("ems", Config)
