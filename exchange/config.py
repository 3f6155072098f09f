"""The venue's configuration: one TOML file, every value with a default; resolved once, at the start."""

import tomllib
from dataclasses import dataclass, fields
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from exchange.checks import CARRIED_MAX
from exchange.itch import SYMBOL_LENGTH_MAX
from exchange.market import Instrument
from runtime.units import to_units

SESSIONS: Final = ("always", "regular")
_CONVERT: Final = {"data_dir": Path, "counterparties": tuple}


class ConfigError(Exception):
    """The configuration cannot be used; the text says which value and what to do."""


@dataclass(frozen=True, slots=True)
class Symbol:
    """A row of `symbols`; price and tick are decimal strings, in dollars."""

    symbol: str = ""
    price: str = ""
    tick: str = "0.01"


@dataclass(frozen=True, slots=True)
class Config:
    """`name` is the venue's CompID too. Distances of the house's liquidity count in ticks."""

    name: str = "XSIM"
    host: str = "127.0.0.1"  # QuickFIX listens on all; a loopback one admits only connections from there
    fix_port: int = 7405
    counterparties: tuple[str, ...] = ("OPENBELL",)
    data_dir: Path = Path("exchange-data")
    session: str = "always"  # or "regular": New York exchange hours
    feed_host: str = "127.0.0.1"  # or a multicast group
    feed_port: int = 7406
    rerequest_port: int = 7407
    symbols: tuple[Symbol, ...] = (Symbol("AAPL", "150.00"), Symbol("GOOGL", "2800.00"))
    levels: int = 5  # of the house's liquidity, on each side
    shares_per_level: int = 1000
    first_level_ticks: int = 1  # from the price
    level_step_ticks: int = 1  # from one level to the next
    fix_log: bool = False  # QuickFIX's own logs, every message in them, in data_dir; they halve the speed


def load(path: Path) -> Config:
    """ConfigError if the file cannot be read or a value cannot be used."""
    try:
        given = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as problem:
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


def _check_keys(given: dict[str, Any], kind: type[Config] | type[Symbol], where: str) -> None:
    known = {field.name for field in fields(kind)}
    for key in given:
        if key not in known:
            raise ConfigError(f"{where} knows no {key!r}: remove it, or use one of {', '.join(sorted(known))}")


def _read(key: str, value: Any, path: Path) -> Any:
    default = getattr(Config(), key)
    if key == "symbols":
        return _read_symbols(value, path)
    if key == "counterparties":
        fits = isinstance(value, list) and all(isinstance(each, str) for each in value)
    elif key == "data_dir":
        fits = isinstance(value, str)
    else:
        fits = type(value) is type(default)
    if not fits:
        raise ConfigError(f"{path}: {key} must be like {default!r}, not {value!r}")
    return _CONVERT[key](value) if key in _CONVERT else value


def _read_symbols(value: Any, path: Path) -> tuple[Symbol, ...]:
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise ConfigError(f'{path}: symbols must be tables: [[symbols]] symbol = "AAPL" price = "150.00" tick = "0.01"')
    for row in value:
        _check_keys(row, Symbol, f"{path}: [[symbols]]")
        for key, text in row.items():
            if not isinstance(text, str):
                raise ConfigError(f"{path}: [[symbols]] {key} must be a string in quotes, not {text!r}")
    return tuple(Symbol(**row) for row in value)


def _checked(config: Config, path: Path) -> Config:
    if config.session not in SESSIONS:
        raise ConfigError(f"{path}: session must be one of {', '.join(SESSIONS)}, not {config.session!r}")
    try:
        ip_address(config.host)
    except ValueError:
        raise ConfigError(f"{path}: host must be an IP address, not {config.host!r}") from None
    for port in ("fix_port", "feed_port", "rerequest_port"):
        if not 0 < getattr(config, port) < 65536:
            raise ConfigError(f"{path}: {port} must be a port from 1 to 65535, not {getattr(config, port)}")
    _check_names(config, path)
    _check_liquidity(config, path)
    return config


def _check_names(config: Config, path: Path) -> None:
    names = (config.name, *config.counterparties)
    # They become lines of QuickFIX's settings and parts of its file names.
    if not all(name.isascii() and name.replace("_", "").isalnum() for name in names):
        raise ConfigError(f"{path}: name and counterparties must be letters, digits and _, not {names}")
    for what, values in (
        ("counterparties", config.counterparties),
        ("symbols", [row.symbol for row in config.symbols]),
    ):
        if not values or len(set(values)) != len(values):
            raise ConfigError(f"{path}: {what} must name at least one, and each once")


def _check_liquidity(config: Config, path: Path) -> None:
    least = {"levels": 0, "shares_per_level": 1, "first_level_ticks": 1, "level_step_ticks": 1}
    for key, minimum in least.items():
        if not minimum <= getattr(config, key) <= 1_000_000:
            raise ConfigError(f"{path}: {key} must be from {minimum} to 1,000,000, not {getattr(config, key)}")
    for row in config.symbols:
        try:
            _instrument(row, config)
        except ValueError as problem:
            raise ConfigError(f"{path}: [[symbols]] {row.symbol}: {problem}") from None
