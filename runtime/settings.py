"""One openbell.toml, every value with a default; resolved once by `openbell up` into DATA/settings.json.

Every process reads only that file, so all of them, and the command line, see the same values.
"""

import json
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, TypeVar

# What listens where, counted from port_base. `metrics` ports are those of the services plus 20.
PORTS: Final = {
    "postgres": 0,
    "oms": 1,
    "ledger": 2,
    "ems": 3,
    "marketdata": 4,
    "venue": 5,
    "feed": 6,
    "rerequest": 7,
    "engine": 8,
    "tracer": 9,
}
METRICS_OFFSET: Final = 20

Section = TypeVar("Section")


class SettingsError(Exception):
    """The configuration cannot be used; the text says which value and what to do."""


@dataclass(frozen=True)
class Settings:
    """Where this brokerage lives, and the sections of its configuration."""

    data: Path
    sections: dict[str, Any]

    @property
    def port_base(self) -> int:
        return int(self.sections.get("port_base", 7400))

    def port(self, name: str) -> int:
        return self.port_base + PORTS[name]

    def metrics_port(self, name: str) -> int:
        return self.port(name) + METRICS_OFFSET

    def address(self, name: str) -> str:
        return f"127.0.0.1:{self.port(name)}"

    @property
    def session(self) -> str:
        """`always`: trades at any hour; `regular`: New York exchange hours."""
        return str(self.sections.get("session", "always"))

    @property
    def ems_partitions(self) -> range:
        """Partitions of the execution log: 0 for the EMS's own refusals, then one a venue."""
        venues = self.sections.get("ems", {}).get("venues", ["the default one"])
        return range(1 + len(venues))

    def secret(self, name: str) -> str:
        return (self.data / "secrets" / name).read_text().strip()

    def section(self, name: str, kind: type[Section]) -> Section:
        """The section as its service's frozen dataclass; an unknown or mistyped value is a SettingsError."""
        given = self.sections.get(name, {})
        known = {field.name: field.default for field in fields(kind)}  # type: ignore[arg-type]
        for key, value in given.items():
            if key not in known:
                raise SettingsError(f"openbell.toml: [{name}] knows no {key!r}; it knows {', '.join(sorted(known))}")
            if type(value) is not type(known[key]) and not isinstance(value, list | dict):
                raise SettingsError(f"openbell.toml: [{name}] {key} must be like {known[key]!r}, not {value!r}")
        return kind(**given)


def read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as problem:
        raise SettingsError(f"cannot read {path}: {problem}") from None


def load(data: Path) -> Settings:
    """Settings of the brokerage in `data`. SettingsError if there is none."""
    try:
        return Settings(data, json.loads((data / "settings.json").read_text()))
    except (OSError, ValueError):
        raise SettingsError(f"no brokerage in {data}; start one with: openbell up --data {data}") from None
