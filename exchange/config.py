"""The venue's configuration: one TOML file, every value with a default; resolved once, at the start."""

import json
import tomllib
from dataclasses import dataclass, fields
from datetime import time
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from exchange.checks import CARRIED_MAX
from exchange.hours import Hours
from exchange.itch import SYMBOL_LENGTH_MAX
from exchange.market import Instrument
from exchange.venue import Conduct
from runtime.units import to_units

LOCATE_MAX: Final = 65_535  # the feed numbers symbols in 16 bits
SESSIONS: Final = ("always", "regular", "manual")
_CONVERT: Final = {"data_dir": Path}


class ConfigError(Exception):
    """The configuration cannot be used; the text says which value and what to do."""


@dataclass(frozen=True, slots=True)
class Symbol:
    """A row of `symbols`; price and tick are decimal strings, in dollars."""

    symbol: str = ""
    price: str = ""
    tick: str = "0.01"


@dataclass(frozen=True, slots=True)
class Counterparty:
    """A row of `counterparties`: one FIX session. One that `copies` others gets their reports, and sends nothing."""

    comp_id: str = ""
    reset_on_logon: bool = False  # numbers start at 1 with each logon: what was missed is not resent
    cancel_on_disconnect: bool = False
    copies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Config:
    """`name` is the venue's CompID too. Distances of the house's liquidity count in ticks."""

    name: str = "XSIM"
    host: str = "127.0.0.1"
    fix_port: int = 7405
    counterparties: tuple[Counterparty, ...] = (Counterparty("OPENBELL"),)
    data_dir: Path = Path("exchange-data")
    session: str = (
        "always"  # or "regular": exchange days from open to close; or "manual": the operator opens and closes
    )
    open: str = "09:30"  # in New York, as close is; an early close is the calendar's
    close: str = "16:00"
    pre_open_seconds: int = 1800  # how long before the open orders are taken, for the opening auction
    pre_close_seconds: int = 60  # how long before the close orders only gather, for the closing auction
    seed: int = 0  # of what is random
    rejects_per_million: int = 0  # requests refused at random
    answer_delay_ms: int = 0  # requests are acknowledged as pending at once, and decided so much later
    feed_host: str = "127.0.0.1"  # or a multicast group
    feed_port: int = 7406
    rerequest_port: int = 7407
    symbols: tuple[Symbol, ...] = (Symbol("AAPL", "150.00"), Symbol("GOOGL", "2800.00"))
    levels: int = 5  # of the house's liquidity, on each side
    shares_per_level: int = 1000
    first_level_ticks: int = 1  # from the price
    level_step_ticks: int = 1  # from one level to the next


def load(path: Path) -> Config:
    """ConfigError if the file cannot be read or a value cannot be used."""
    try:
        given = tomllib.loads(path.read_text())
    except (OSError, ValueError) as problem:
        raise ConfigError(f"cannot read {path}: {problem}") from None
    _check_keys(given, Config, str(path))
    return _checked(Config(**{key: _read(key, value, path) for key, value in given.items()}), path)


def instruments(config: Config) -> list[Instrument]:
    """ValueError for a price or tick that is no decimal number of dollars, or does not fit."""
    return [_instrument(row, config) for row in config.symbols]


def _instrument(row: Symbol, config: Config) -> Instrument:
    price, tick = to_units(row.price), to_units(row.tick)
    readable = row.symbol.isascii() and row.symbol.replace(".", "").isalnum()
    if not readable or len(row.symbol) > SYMBOL_LENGTH_MAX:
        raise ValueError(f"symbol must have 1 to {SYMBOL_LENGTH_MAX} letters, digits or dots")
    if tick <= 0 or price <= 0 or price % tick:
        raise ValueError(f"price {row.price} must be a positive multiple of tick {row.tick}, which must be positive")
    furthest = config.first_level_ticks + config.levels * config.level_step_ticks
    if price + furthest * tick > CARRIED_MAX:
        raise ValueError(f"price {row.price} and the levels above it must stay below 429,496.7295")
    return Instrument(
        symbol=row.symbol,
        price=price,
        tick=tick,
        levels=config.levels,
        shares_per_level=config.shares_per_level,
        first_level_ticks=config.first_level_ticks,
        level_step_ticks=config.level_step_ticks,
    )


def opening_hours(config: Config) -> Hours:
    return Hours(
        kind=config.session,
        open=time.fromisoformat(config.open),
        close=time.fromisoformat(config.close),
        pre_open_s=config.pre_open_seconds,
        pre_close_s=config.pre_close_seconds,
    )


def conduct(config: Config) -> Conduct:
    return Conduct(config.seed, config.rejects_per_million, config.answer_delay_ms * 1_000_000)


def _check_keys(given: dict[str, Any], kind: type, where: str) -> None:
    known = {field.name for field in fields(kind)}
    for key in given:
        if key not in known:
            raise ConfigError(f"{where} knows no {key!r}: remove it, or use one of {', '.join(sorted(known))}")


def _read(key: str, value: Any, path: Path) -> Any:
    if key == "symbols":
        return _read_rows(value, Symbol, f"{path}: [[symbols]]")
    if key == "counterparties":
        return _read_rows(value, Counterparty, f"{path}: [[counterparties]]")
    default = getattr(Config(), key)
    fits = isinstance(value, str) if key == "data_dir" else type(value) is type(default)
    if not fits:
        raise ConfigError(f"{path}: {key} must be like {default!r}, not {value!r}")
    return _CONVERT[key](value) if key in _CONVERT else value


def _read_rows(value: Any, kind: type, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise ConfigError(f"{where} must be tables, each after a line {where.rpartition(' ')[2]}")
    return tuple(_read_row(row, kind, where) for row in value)


def _read_row(row: dict[str, Any], kind: type, where: str) -> Any:
    _check_keys(row, kind, where)
    values: dict[str, Any] = {}
    for key, value in row.items():
        default = getattr(kind(), key)
        values[key] = tuple(value) if isinstance(default, tuple) and isinstance(value, list) else value
        if type(values[key]) is not type(default) or not all(isinstance(each, str) for each in _listed(values[key])):
            wanted = "text in quotes" if default == "" else f"like {json.dumps(default)}"
            raise ConfigError(f"{where} {key} must be {wanted}, not {value!r}")
    return kind(**values)


def _listed(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else ()


def _checked(config: Config, path: Path) -> Config:
    if config.session not in SESSIONS:
        raise ConfigError(f"{path}: session must be one of {', '.join(SESSIONS)}, not {config.session!r}")
    try:
        ip_address(config.host)
    except ValueError:
        raise ConfigError(f"{path}: host must be an IP address, not {config.host!r}") from None
    _check_hours(config, path)
    for port in ("fix_port", "feed_port", "rerequest_port"):
        if not 0 < getattr(config, port) < 65536:
            raise ConfigError(f"{path}: {port} must be a port from 1 to 65535, not {getattr(config, port)}")
    _check_names(config, path)
    _check_liquidity(config, path)
    return config


def _check_hours(config: Config, path: Path) -> None:
    try:
        hours = opening_hours(config)
        is_plain = all(len(each) == len("09:30") for each in (config.open, config.close))
    except ValueError:
        is_plain = False
    if not is_plain:
        text = f"open and close must be like 09:30, not {config.open!r} and {config.close!r}"
        raise ConfigError(f"{path}: {text}")
    opens = hours.open.hour * 3600 + hours.open.minute * 60
    closes = hours.close.hour * 3600 + hours.close.minute * 60
    if not 0 <= config.pre_open_seconds <= opens or not opens < closes - config.pre_close_seconds <= closes:
        raise ConfigError(f"{path}: pre_open_seconds, open, pre_close_seconds and close must follow in one day")


def _check_names(config: Config, path: Path) -> None:
    comp_ids = [party.comp_id for party in config.counterparties]
    names = (config.name, *comp_ids)
    # They become parts of file names.
    if not all(name.isascii() and name.replace("_", "").isalnum() for name in names):
        raise ConfigError(f"{path}: name and counterparties must be letters, digits and _, not {names}")
    if len(config.symbols) > LOCATE_MAX:
        raise ConfigError(f"{path}: symbols must be at most {LOCATE_MAX}")
    for what, values in (
        ("counterparties", comp_ids),
        ("symbols", [row.symbol for row in config.symbols]),
    ):
        if not values or len(set(values)) != len(values):
            raise ConfigError(f"{path}: {what} must name at least one, and each once")
    for party in config.counterparties:
        if not set(party.copies) <= set(comp_ids) - {party.comp_id}:
            raise ConfigError(f"{path}: {party.comp_id} copies {', '.join(party.copies)}: name other counterparties")


def _check_liquidity(config: Config, path: Path) -> None:
    least = {
        "seed": 0,
        "rejects_per_million": 0,
        "answer_delay_ms": 0,
        "levels": 0,
        "shares_per_level": 1,
        "first_level_ticks": 1,
        "level_step_ticks": 1,
    }
    for key, minimum in least.items():
        if not minimum <= getattr(config, key) <= 1_000_000:
            raise ConfigError(f"{path}: {key} must be from {minimum} to 1,000,000, not {getattr(config, key)}")
    for row in config.symbols:
        try:
            _instrument(row, config)
        except ValueError as problem:
            raise ConfigError(f"{path}: [[symbols]] {row.symbol}: {problem}") from None
