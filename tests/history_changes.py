"""Changes of one stored row, drawn by chance: what somebody can do whom PostgreSQL lets do everything."""

import random
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from typing import Any, NamedTuple

import asyncpg

# Tables that `verify` vouches for, and what names a row.
KEYS = {
    "accounts": ("account_id",),
    "balances": ("balance_id",),
    "transactions": ("position",),
    "entries": ("position", "leg"),
    "holds": ("position",),
    "commands": ("scope", "key"),
    "settlements": ("settle_date",),
    "reconciliations": ("recorded_at_ns",),
    "chain": ("link",),
}
# Rows that were never there, made of one that was.
FORGED: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "accounts": lambda row: {"account_id": row["account_id"] + "x"},
    "balances": lambda row: {
        "balance_id": row["balance_id"] + 1_000,
        "path": "cash/unsettled/2031-01-02",
        "asset": "$USD",
    },
    "transactions": lambda row: {"position": row["position"] + 1_000, "execution_id": None, "reverses": None},
    "entries": lambda row: {"leg": row["leg"] + 100, "balance_id": row["balance_id"] + 1_000},
    "holds": lambda row: {"position": row["position"] + 1, "order_id": "x", "idempotency_key": "x"},
    "commands": lambda row: {"key": row["key"] + "x"},
    "settlements": lambda row: {"settle_date": row["settle_date"] + timedelta(1)},
    "reconciliations": lambda row: {"link": row["link"] + 1, "recorded_at_ns": row["recorded_at_ns"] + 1},
    "chain": lambda row: {"link": row["link"] + 1_000},
}


ATTEMPTS_MAX = 200


class Change(NamedTuple):
    """What was done to which row, named as it was before and is after. `column`: None if the row came or went."""

    what: str
    table: str
    column: str | None
    keys: set[tuple[Any, ...]]


async def change(connection: asyncpg.Connection, chance: random.Random, table: str) -> Change:
    """One row of the table, in a transaction that the caller rolls back. Tries until PostgreSQL lets it through."""
    rows = await connection.fetch(f"SELECT ctid::text AS place, * FROM {table} ORDER BY {', '.join(KEYS[table])}")
    act = chance.choices((_update, _delete, _insert), (8, 1, 1))[0]
    for _ in range(ATTEMPTS_MAX):
        try:
            async with connection.transaction():
                return await act(connection, chance, table, rows)
        except (asyncpg.PostgresError, asyncpg.InterfaceError):  # a constraint stops even a superuser; not that type
            continue
    raise AssertionError(f"no row of {table} can be changed so")


async def _update(
    connection: asyncpg.Connection, chance: random.Random, table: str, rows: Sequence[asyncpg.Record]
) -> Change:
    row = chance.choice(rows)
    column = chance.choice([name for name in row.keys() if name != "place"])  # noqa: SIM118  a Record iterates values
    new = row[column]
    while new == row[column]:
        new = _other(chance, row[column], [each[column] for each in rows])
    await connection.execute(f"UPDATE {table} SET {column} = $1 WHERE ctid = $2::text::tid", new, row["place"])
    what = f"{table}{_key(table, row)}: {column} from {row[column]!r} to {new!r}"
    return Change(what, table, column, {_key(table, row), _key(table, dict(row) | {column: new})})


def _other(chance: random.Random, value: Any, column: Sequence[Any]) -> Any:
    return chance.choice([*_others(chance, value), chance.choice(column), chance.choice(column), None])


def _others(chance: random.Random, value: Any) -> list[Any]:
    number = chance.randrange(1, 9)
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + number, value - 1, -value, value * 10, 0]
    if isinstance(value, str):
        return [value + "x", "x", "", value.upper(), value[:-1]]
    if isinstance(value, bytes):
        at = chance.randrange(len(value)) if value else 0
        return [value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :] if value else b"x", bytes(len(value)), b""]
    if isinstance(value, date):
        return [value + timedelta(number), date.max]  # PostgreSQL's infinity
    if isinstance(value, list):
        return [value[1:], *([each, *value[1:]] for each in (*_others(chance, value[0] if value else "x"), None))]
    return [number, "x", date(2026, 1, number)]


async def _delete(
    connection: asyncpg.Connection, chance: random.Random, table: str, rows: Sequence[asyncpg.Record]
) -> Change:
    row = chance.choice(rows)
    await connection.execute(f"DELETE FROM {table} WHERE ctid = $1::text::tid", row["place"])
    return Change(f"{table}{_key(table, row)}: deleted", table, None, {_key(table, row)})


async def _insert(
    connection: asyncpg.Connection, chance: random.Random, table: str, rows: Sequence[asyncpg.Record]
) -> Change:
    row = dict(chance.choice(rows))
    del row["place"]
    row |= FORGED[table](row)
    places = ", ".join(f"${number}" for number in range(1, len(row) + 1))
    names = ", ".join(row)
    await connection.execute(f"INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE VALUES ({places})", *row.values())
    return Change(f"{table}{_key(table, row)}: inserted", table, None, {_key(table, row)})


def _key(table: str, row: Any) -> tuple[Any, ...]:
    return tuple(row[name] for name in KEYS[table])
