"""openbell.toml and the flags, checked and resolved: what ends in DATA/settings.json."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ems.config
import ledger.config
import marketdata.config
import oms.config
from ops import ports
from ops.venue_file import Venue
from runtime.fees import FeeSchedule
from runtime.settings import Settings, SettingsError, read_toml

DEFAULT_FILE = Path("openbell.toml")
SESSIONS = ("always", "regular")


@dataclass(frozen=True)
class Ops:
    """[ops]: how long the command line waits, what is traced."""

    start_seconds: float = 60.0
    stop_seconds: float = 30.0
    trace_ratio: float = 1.0  # share of the traces that is exported; ids are stored for all


SECTIONS: dict[str, Any] = {
    "oms": oms.config.Config,
    "ledger": ledger.config.Config,
    "ems": ems.config.Config,
    "marketdata": marketdata.config.Config,
    "fees": FeeSchedule,
    "venue": Venue,
    "ops": Ops,
}
DEFAULTS: dict[str, Any] = {"port_base": 7400, "session": "always"}


def resolve(config: Path | None, port_base: int | None, before: dict[str, Any] | None = None) -> dict[str, Any]:
    """Defaults, the ports of the last start (`before`), the file, the flags. Only a file that is named must exist."""
    given = read_toml(config or DEFAULT_FILE) if config or DEFAULT_FILE.exists() else {}
    kept = {"port_base": before["port_base"]} if before else {}
    sections = DEFAULTS | kept | given | ({} if port_base is None else {"port_base": port_base})
    _check(sections)
    return sections


def _check(sections: dict[str, Any]) -> None:
    for name, value in sections.items():
        if name not in DEFAULTS and name not in SECTIONS:
            known = ", ".join([*DEFAULTS, *(f"[{section}]" for section in SECTIONS)])
            raise SettingsError(f"openbell.toml: there is no {name!r}; there are {known}")
        if name in SECTIONS and not isinstance(value, dict):
            raise SettingsError(f"openbell.toml: {name} is a section: write [{name}] and its values below it")
    base = sections["port_base"]
    if type(base) is not int or not ports.BASE_MIN <= base <= ports.BASE_MAX:
        raise SettingsError(f"port_base must be a number from {ports.BASE_MIN} to {ports.BASE_MAX}, not {base!r}")
    if sections["session"] not in SESSIONS:
        raise SettingsError(f"session must be one of {', '.join(SESSIONS)}, not {sections['session']!r}")
    settings = Settings(Path(), sections)
    for name, kind in SECTIONS.items():
        settings.section(name, kind)
