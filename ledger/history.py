"""The ledger's rows as its hash chain covers them, read back in the chain's order to be hashed again.

Accounts, balances and commands know their link and no partition; so a database has one partition.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import pairwise
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from asyncpg.cursor import Cursor

from ledger import rows
from runtime import chain, db, log
from runtime.chain import Tip

SQL = db.Queries(Path(__file__).parent / "sql" / "history.sql")
FETCHED = 2_000  # rows at a time, of each table
LINKS_MAX = 200  # and
POSITIONS_MAX = 20_000  # in one block
ADOPTED = b"adopted"  # the first line of a link over rows from before there was a chain

# What the chain covers and knows by link, in the order of rows.store: columns of the key, columns of the line.
NAMED = {"accounts": (1, 3), "balances": (1, 4), "settlements": (1, 1), "reconciliations": (1, 3), "commands": (2, 4)}
BY_LINK = (*NAMED,)
BY_POSITION = ("transactions", "entries", "holds")


class Line(NamedTuple):
    """A row as the chain covers it. `row_check`: as stored with it, None where there is none."""

    table: str
    key: tuple[Any, ...]
    text: bytes
    row_check: int | None = None


class Posted(NamedTuple):
    """A transaction: its row as the chain covers it, and its entries (leg, balance id, amount, balance, version).

    Without a row there are only entries: somebody took the transaction away.
    """

    position: int
    row: tuple[Any, ...] | None
    legs: tuple[tuple[int, ...], ...]
    text: bytes = b""
    row_check: int = 0


class Covered(NamedTuple):
    """A link, and what the database has of what it covers."""

    tip: Tip
    end: int  # position up to which it covers transactions: the tip's, unless later links contradict
    names: list[Line]
    posted: list[Posted]
    commands: list[Line]

    def texts(self) -> list[bytes]:
        """Of the rows, in the order in which they are hashed."""
        posted = [each.text for each in self.posted if each.row is not None]
        return [*(line.text for line in self.names), *posted, *(line.text for line in self.commands)]

    def lines(self) -> list[Line]:
        """The rows themselves, in that order."""
        posted = [Line("transactions", (each.position,), each.text) for each in self.posted if each.row is not None]
        return [*self.names, *posted, *self.commands]


class Block(NamedTuple):
    """Some links in a row, and what was read with them. `strays`: (table, row) that no link covers."""

    links: list[Covered]
    balances: list[db.Row]
    holds: list[db.Row]
    strays: list[tuple[str, db.Row]]


class Stream:
    """Rows of a statement in the order of their first column, read only as far as asked."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._rows: list[db.Row] = []
        self._more = True

    async def through(self, last: int | None) -> list[db.Row]:
        """The next rows, up to those with `last` in the first column; for None FETCHED of them, whatever they have."""
        while self._more and (not self._rows or (last is not None and self._rows[-1][0] <= last)):
            fetched = await self._cursor.fetch(FETCHED)
            self._more = len(fetched) == FETCHED
            self._rows += fetched
        end = len(self._rows) if last is None else bisect_right(self._rows, last, key=itemgetter(0))
        taken, self._rows = self._rows[:end], self._rows[end:]
        return taken


class History:
    """All rows of a partition, each once. Inside a transaction; of one snapshot, if somebody writes meanwhile."""

    def __init__(self, streams: dict[str, Stream]) -> None:
        self._streams = streams

    @classmethod
    async def open(cls, connection: db.Connection, partition: int) -> "History":
        streams = {}
        for table in ("links", *BY_LINK, *BY_POSITION):
            statement = getattr(SQL, table)
            arguments = [partition] if "$1" in statement else []
            streams[table] = Stream(await connection.cursor(statement, *arguments))
        return cls(streams)

    async def blocks(self) -> AsyncIterator[Block]:
        """In the order of the chain; at last what is beyond it, in blocks without links."""
        held: list[Tip] = []  # the newest stays back: a link ends where the next one allows
        while found := [chain.read_tip(row) for row in await self._streams["links"].through(None)]:
            tips = held + found
            for some in _cut([(tip, min(tip.position, later.position)) for tip, later in pairwise(tips)]):
                yield await self.block(some)
            held = tips[-1:]
        for tip in held:
            yield await self.block([(tip, tip.position)])
        while (rest := await self._rest()).strays:
            yield rest

    async def block(self, links: Sequence[tuple[Tip, int]]) -> Block:
        """The links given, each with the position where it ends."""
        last, end = links[-1][0].link, max(end for _, end in links)
        named = {table: await self._streams[table].through(last) for table in BY_LINK}
        transactions, entries, holds = [await self._streams[table].through(end) for table in BY_POSITION]
        lines = {table: _lines(table, found) for table, found in named.items()}
        posted = _posted(transactions, entries)
        covered = [_covered(*link, lines, of_link) for link, of_link in zip(links, _split(posted, links), strict=True)]
        known = {tip.link for tip, _ in links}
        strays = [(table, row) for table, found in named.items() for row in found if row[0] not in known]
        return Block(covered, named["balances"], holds, strays)

    async def _rest(self) -> Block:
        strays = [
            (table, row) for table in (*BY_LINK, *BY_POSITION) for row in await self._streams[table].through(None)
        ]
        return Block([], [row for table, row in strays if table == "balances"], [], strays)


def key_of(table: str, row: db.Row) -> tuple[Any, ...]:
    """What names a row of the statement `table`."""
    if table in NAMED:
        return tuple(row)[1 : 1 + NAMED[table][0]]
    return tuple(row)[: 2 if table == "entries" else 1]


def _cut(links: list[tuple[Tip, int]]) -> Iterator[list[tuple[Tip, int]]]:
    start = 0
    for number, (_, end) in enumerate(links):
        if number > start and (number - start == LINKS_MAX or end - links[start][1] > POSITIONS_MAX):
            yield links[start:number]
            start = number
    if links[start:]:
        yield links[start:]


def _lines(table: str, found: Sequence[db.Row]) -> dict[int, list[Line]]:
    """By link, in the order in which they are hashed."""
    key, width = NAMED[table]
    lines: dict[int, list[Line]] = defaultdict(list)
    for row in found:
        link, *values = row
        check = values[-1] if table == "commands" else None
        lines[link].append(Line(table, tuple(values[:key]), chain.canonical(tuple(values[:width])), check))
    for of_link in lines.values():
        of_link.sort(key=attrgetter("key"))
    return lines


def _posted(transactions: Sequence[db.Row], entries: Sequence[db.Row]) -> list[Posted]:
    legs: dict[int, list[tuple[Any, ...]]] = {}
    for position, *leg in entries:
        legs.setdefault(position, []).append(tuple(leg))
    posted = []
    for found in transactions:
        *row, check = found
        told = tuple(legs.pop(row[0], ()))
        posted.append(Posted(row[0], tuple(row), told, rows.transaction_line(row, told), check))
    if legs:
        posted += [Posted(position, None, tuple(told)) for position, told in legs.items()]
        posted.sort(key=attrgetter("position"))
    return posted


def _split(posted: Sequence[Posted], links: Sequence[tuple[Tip, int]]) -> Iterator[list[Posted]]:
    at = 0
    for _, end in links:
        start = at
        while at < len(posted) and posted[at].position <= end:
            at += 1
        yield list(posted[start:at])


def _covered(tip: Tip, end: int, lines: dict[str, dict[int, list[Line]]], posted: list[Posted]) -> Covered:
    of_link = {table: found.get(tip.link, []) for table, found in lines.items()}
    commands = of_link.pop("commands")
    return Covered(tip, end, [line for found in of_link.values() for line in found], posted, commands)


async def take_up(connection: db.Connection, head: log.Head, seal_key: bytes) -> Tip:
    """The chain's newest link. Rows from before there was a chain become its first one, and their holds are sealed."""
    tip = await chain.tip(connection, head.log, head.partition)
    if tip.link:
        return tip
    async with connection.transaction():
        await log.advance(connection, head, 0)  # nobody else may take over meanwhile
        block = await (await History.open(connection, head.partition)).block([(Tip(1, head.position), head.position)])
        (adopted,) = block.links
        texts = adopted.texts()
        if not texts:
            return tip
        for row in await connection.fetch(SQL.unsealed_holds, head.partition):
            await connection.execute(SQL.seal_hold, head.partition, row["position"], hold_seal(seal_key, row))
        newest_ns = max((each.row[5] for each in adopted.posted if each.row is not None), default=0)
        return await chain.append(
            connection, head.log, head.partition, tip, head.position, newest_ns, [ADOPTED, *texts]
        )


def hold_seal(seal_key: bytes, row: db.Row) -> bytes:
    """What the seal of a stored hold must be."""
    return chain.seal(seal_key, rows.hold_row(rows.read_hold(row)))
