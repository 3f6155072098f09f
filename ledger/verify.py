"""Proof that the ledger's history is the one that was signed: every link, every entry, every balance, every hold.

What it reads once, in the order of the log and in blocks, is hashed again and added up again. The signed heads, which
lie outside the database, then vouch for everything up to the newest of them.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ledger import history
from ledger.accounts import Hold, Kind
from ledger.history import Block, Covered, History, Posted
from ledger.recompute import Books, Finding, read_balance
from ledger.rows import read_hold
from runtime import chain, db
from runtime.chain import SignedHead, Tip

SQL = db.Queries(Path(__file__).parent / "sql" / "verify.sql")
LOG = "transactions"
FINDINGS_MAX = 1_000
TRIED_LINES_MAX = 2_000  # of a link in which a row is looked for that was added
TRIES_MAX = 20  # links

Progress = Callable[[int, int], None]  # position reached, position of the end


@dataclass(slots=True)
class Report:
    """What was looked at, and what is wrong, in order of position; the first FINDINGS_MAX of `found` findings."""

    tip: Tip = field(default_factory=Tip)
    signed: Tip = field(default_factory=Tip)  # the newest head
    rows: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    found: int = 0

    def add(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            self.found += 1
            if len(self.findings) < FINDINGS_MAX:
                self.findings.append(finding)


async def verify(
    connection: db.Connection,
    partition: int,
    seal_key: bytes,
    heads: Iterable[SignedHead],
    progress: Progress = lambda position, end: None,
) -> Report:
    """Reads the whole history, inside a transaction that sees one snapshot of it.

    `heads` must have been read before that transaction began: what is signed later may be newer than what it sees.
    """
    await connection.execute(SQL.work_mem)
    await connection.execute(SQL.date_style)
    end = await connection.fetchval(SQL.end, partition)
    report, links, books = Report(), Links(partition, heads), Books()
    async for block in (await History.open(connection, partition)).blocks():
        report.add(links.check(block))
        report.add(_recompute(books, seal_key, block))
        _count(report.rows, block)
        progress(links.tip.position, end)
    report.add(links.finish())
    report.tip, report.signed = links.tip, links.signed
    report.add(books.finish(links.tip.position))
    report.add(await _beside(connection, partition, links.tip))
    report.findings.sort(key=lambda finding: finding.position)
    return report


def _count(counts: Counter[str], block: Block) -> None:
    counts["links"] += len(block.links)
    counts["holds"] += len(block.holds)
    for link in block.links:
        counts.update(line.table for line in link.names)
        counts["transactions"] += len(link.posted)
        counts["entries"] += sum(len(posted.legs) for posted in link.posted)
        counts["commands"] += len(link.commands)


def _recompute(books: Books, seal_key: bytes, block: Block) -> Iterator[Finding]:
    for row in block.balances:
        books.name(read_balance(row))
    holds: dict[int, Hold | None] = {}
    for row in block.holds:
        yield from _sealed(books, seal_key, row, holds)
    for link in block.links:
        for posted in link.posted:
            yield from books.post(posted)
            if posted.row is not None and posted.row[1] == Kind.HOLD:
                yield from _made(books, posted, holds)
    for position in holds:
        yield Finding(position, "holds", (position,), "no transaction made it")


def _made(books: Books, posted: Posted, holds: dict[int, Hold | None]) -> Iterator[Finding]:
    position = posted.position
    if position not in holds:
        yield from books.no_hold(position, f"is missing: transaction {position} made it")
    elif (hold := holds.pop(position)) is not None:
        yield from books.made(posted, hold)


def _sealed(books: Books, seal_key: bytes, row: db.Row, holds: dict[int, Hold | None]) -> Iterator[Finding]:
    position = row["position"]
    if not _is_readable(row):
        holds[position] = None
        yield from books.no_hold(position, "was changed: what it drew cannot be read")
        return
    hold = holds[position] = read_hold(row)
    books.hold(hold)
    if history.hold_seal(seal_key, row) != row["seal"]:
        yield Finding(position, "holds", (position,), "was changed: the seal is not that of its content")


def _is_readable(row: db.Row) -> bool:
    """PostgreSQL lets NULL, and arrays of arrays, pass the CHECKs."""
    amounts = [*row["draw_amounts"], *row["taken_amounts"]]
    return all(type(path) is str for path in row["draw_paths"]) and all(type(amount) is int for amount in amounts)


async def _beside(connection: db.Connection, partition: int, tip: Tip) -> list[Finding]:
    found = [
        Finding(tip.position, table, tuple(key.split(" ")), f"belongs to another log than {LOG}/{partition}")
        for table, key in await connection.fetch(SQL.elsewhere, partition)
    ]
    for (account,) in await connection.fetch(SQL.unknown_accounts, partition):
        found.append(Finding(tip.position, "accounts", (account,), "is missing: it has balances"))
    head = await connection.fetchval(SQL.head, partition) or 0
    if head != tip.position:
        what = f"is at position {head}, the chain at {tip.position}"
        found.append(Finding(min(head, tip.position), "log_heads", (LOG, partition), what))
    return found


class Links:
    """Follows the chain: that it is dense, covers all there is, and is the one that was signed."""

    def __init__(self, partition: int, heads: Iterable[SignedHead]) -> None:
        self.tip = self.signed = Tip()  # the newest link; the newest head
        self._partition = partition
        self._should_be = chain.GENESIS  # the hash of the tip, recomputed
        self._reached = 0  # position
        self._tries = 0
        self._heads = iter(heads)
        self._forged: list[Finding] = []
        self._head = self._next_head()
        self._agreed: Tip | None = Tip()  # the newest head that agrees; None after one that does not

    def check(self, block: Block) -> Iterator[Finding]:
        for table, row in block.strays:
            if not block.links or row[0] < 1:  # else a link is missing, and that is told
                yield Finding(self._reached, table, history.key_of(table, row), "no link covers it")
        for link in block.links:
            yield from self._check_link(link)

    def finish(self) -> Iterator[Finding]:
        """Heads beyond the last link, and those that nobody signed."""
        beyond = self._head
        while self._head is not None:
            self._head = self._next_head()
        if beyond is not None:
            what = f"was signed and is not there, like all to {self.signed.link}: the database lost or hides them"
            yield Finding(beyond.position, "chain", (beyond.link,), what)
        yield from self._forged

    def _next_head(self) -> SignedHead | None:
        try:
            head = next(self._heads, None)
        except chain.Broken as problem:
            self._forged.append(Finding(self._reached, "heads", (), str(problem)))
            return None
        if head is not None:
            self.signed = max(self.signed, head.tip, key=lambda tip: tip.link)
        return head

    def _check_link(self, link: Covered) -> Iterator[Finding]:
        at, before = link.tip, self.tip
        if at.link < 1:
            yield Finding(at.position, "chain", (at.link,), "is no link: they count from 1")
            yield from self._positions(link)
            return
        if at.position < before.position:
            yield Finding(
                at.position, "chain", (at.link,), f"the position falls from {before.position} to {at.position}"
            )
        if at.recorded_at_ns < before.recorded_at_ns:
            yield Finding(at.position, "chain", (at.link,), "is recorded earlier than the link before")
        if at.link == before.link + 1:
            yield from self._hashed(link)
        else:
            what = "is missing" if at.link == before.link + 2 else f"is missing, like all to {at.link - 1}"
            yield Finding(before.position, "chain", (before.link + 1,), what)
            yield from _unlike(link, adopted=False)
            self._should_be = at.hash
        yield from self._positions(link)
        self.tip = at
        yield from self._compare_heads(at)

    def _positions(self, link: Covered) -> Iterator[Finding]:
        """Transactions that are missing, or have not their own entries."""
        expected = self._reached + 1
        for posted in link.posted:
            position = posted.position
            if position > expected:
                yield _missing(expected, position - 1)
            if position < expected:
                table, key = _named(posted)
                yield Finding(position, table, key, "stands before the links that could cover it")
            elif posted.row is None:
                yield Finding(position, "transactions", (position,), "is missing; its entries are there")
            else:
                yield from _legs(posted)
            expected = max(expected, position + 1)
        if expected <= link.end:
            yield _missing(expected, link.end)
        self._reached = max(self._reached, link.end)

    def _hashed(self, link: Covered) -> Iterator[Finding]:
        at, texts = link.tip, link.texts()
        should_be = self._hash(at, texts)
        fits = at.hash == should_be or at.hash == self._hash(at, texts, self._should_be)
        adopted = at.link == 1 and not fits and _is_adopted(link)
        if adopted:
            should_be = self._hash(at, [history.ADOPTED, *texts])
            fits = at.hash == should_be
        unlike = [*_unlike(link, adopted=adopted)]
        yield from unlike
        if not fits and not unlike and not self._has_gap(link):
            yield self._somewhere(link)
        if fits and not texts:
            yield Finding(at.position, "chain", (at.link,), "covers nothing")
        self._should_be = at.hash if fits else should_be

    def _has_gap(self, link: Covered) -> bool:
        """Told by itself."""
        places = [posted.position for posted in link.posted if posted.row is not None]
        count = link.end - self._reached
        return len(places) != count or (count > 0 and (places[0], places[-1]) != (self._reached + 1, link.end))

    def _hash(self, at: Tip, texts: Sequence[bytes], previous: bytes | None = None) -> bytes:
        return chain.next_hash(LOG, self._partition, previous or self.tip.hash, at, texts)

    def _somewhere(self, link: Covered) -> Finding:
        """The row without which the hash would be right; if there is none, the link."""
        at, lines = link.tip, link.lines()
        self._tries += 1
        if len(lines) <= TRIED_LINES_MAX and self._tries <= TRIES_MAX:
            texts = [line.text for line in lines]
            for number, line in enumerate(lines):
                if self._hash(at, texts[:number] + texts[number + 1 :]) == at.hash:
                    return Finding(at.position, line.table, line.key, f"was added to what link {at.link} covers")
        first = self.tip.position + 1
        where = f"positions {first} to {at.position}" if at.position >= first else f"no position after {at.position}"
        what = (
            f"the hash is not that of the {len(lines)} rows it covers, with {where}: it was changed itself, or a row"
            " was changed or taken away that has no check of its own"
        )
        return Finding(at.position, "chain", (at.link,), what)

    def _compare_heads(self, at: Tip) -> Iterator[Finding]:
        """A head of a link that is passed already tells nothing more: the later ones vouch for it."""
        while (head := self._head) is not None and head.link <= at.link:
            if head.link == at.link and head.tip == at:
                self._agreed = at
            elif head.link == at.link and self._agreed is not None:
                since = f"after link {self._agreed.link}, position {self._agreed.position},"
                what = f"is not as it was signed: something {since} was changed, and the links behind it made anew"
                yield Finding(at.position, "chain", (at.link,), what)
                self._agreed = None
            self._head = self._next_head()


def _missing(first: int, last: int) -> Finding:
    what = "is missing" if first == last else f"is missing, like all to {last}"
    return Finding(first, "transactions", (first,), what)


def _named(posted: Posted) -> tuple[str, tuple[int, ...]]:
    if posted.row is not None:
        return "transactions", (posted.position,)
    return "entries", (posted.position, posted.legs[0][0])


def _legs(posted: Posted) -> Iterator[Finding]:
    """Entries count from 1 to the transaction's number of them."""
    assert posted.row is not None
    position, count = posted.position, posted.row[2]
    there = [leg[0] for leg in posted.legs]
    if len(there) == count and there[-1] == count:
        return
    what = f"the transaction has {count} entries, and here are {len(there)}"
    missing = next((leg for leg in range(1, count + 1) if leg not in there), None)
    if missing is not None:
        yield Finding(position, "entries", (position, missing), f"is missing: {what}")
    for leg in there:
        if not 1 <= leg <= count:
            yield Finding(position, "entries", (position, leg), f"was added: {what}")


def _unlike(link: Covered, *, adopted: bool) -> Iterator[Finding]:
    """Rows that are not what their own check says. Those from before there was a chain have none."""
    for posted in link.posted:
        if posted.row is not None and posted.row_check != (0 if adopted else chain.row_check(posted.text)):
            what = "it, or an entry of it, was changed: the check is not that of its content"
            yield Finding(posted.position, "transactions", (posted.position,), what)
    for line in link.commands:
        if line.row_check != (0 if adopted else chain.row_check(line.text)):
            what = "was changed: the check is not that of its content"
            yield Finding(link.tip.position, "commands", line.key, what)


def _is_adopted(link: Covered) -> bool:
    checks = [posted.row_check for posted in link.posted] + [line.row_check for line in link.commands]
    return 2 * checks.count(0) >= len(checks)
