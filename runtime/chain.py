"""Hash chains over logs, and signed heads kept outside the database.

A batch adds one link: SHA-256 over the hash of the link before, the link's own row, and the canonical form of every
row the batch inserted. Once a second the newest link is signed (Ed25519) and appended to a file. So whoever changes a
stored row must change every later link as well, and then the signed heads no longer agree: nothing older than the last
one can be changed unseen. The ledger's log is chained, and so is every operator log.
"""

import asyncio
import hashlib
import hmac
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from runtime.db import Connection, Queries, Row

SQL = Queries(Path(__file__).parent / "sql" / "chain.sql")
GENESIS = bytes(32)
SIGN_SECONDS = 1.0
SEAL_BYTES = 16
LINE_BYTES_MAX = 1_000  # of a file of heads


class Broken(Exception):
    """The chain in the database is not the one that was signed. The text says where they part, and what to do."""


@dataclass(frozen=True, slots=True)
class Tip:
    """A link of a chain, mostly the newest; link 0 is that of an empty chain."""

    link: int = 0
    position: int = 0
    recorded_at_ns: int = 0
    hash: bytes = GENESIS


@dataclass(frozen=True, slots=True)
class SignedHead:
    """One line of a file of heads; `signature` is over the other fields."""

    log: str
    partition: int
    link: int
    position: int
    recorded_at_ns: int  # the link's
    hash: str  # hex
    signature: str = ""  # hex

    @property
    def tip(self) -> Tip:
        return Tip(self.link, self.position, self.recorded_at_ns, bytes.fromhex(self.hash))


def canonical(row: tuple[Any, ...]) -> bytes:
    """A row of int, bool, str, bytes, None and tuples of them, as bytes: Python's `ascii`, which no version changes."""
    return ascii(row).encode()


def row_check(line: bytes) -> int:
    """CRC-32 of a canonical row, as a PostgreSQL int. It only tells which row of a batch was changed."""
    return zlib.crc32(line) - 2**31


def next_hash(log: str, partition: int, previous: bytes, at: Tip, lines: Iterable[bytes]) -> bytes:
    """The hash of the link `at`, which covers `lines` and itself: its number, position and time."""
    own = canonical((log, partition, at.link, at.position, at.recorded_at_ns))
    return hashlib.sha256(b"\n".join((previous + own, *lines))).digest()


def seal(key: bytes, row: tuple[Any, ...]) -> bytes:
    """For rows that change, which no chain can cover: only who has the key can make it."""
    return hmac.digest(key, canonical(row), "sha256")[:SEAL_BYTES]


def read_tip(row: Row | None) -> Tip:
    return Tip(row["link"], row["position"], row["recorded_at_ns"], row["hash"]) if row else Tip()


async def tip(connection: Connection, log: str, partition: int) -> Tip:
    return read_tip(await connection.fetchrow(SQL.tip, log, partition))


async def append(
    connection: Connection, log: str, partition: int, before: Tip, position: int, at_ns: int, lines: Iterable[bytes]
) -> Tip:
    """Inside the transaction of the rows. `at_ns` must not be earlier than `before`."""
    bare = Tip(before.link + 1, position, at_ns)
    after = replace(bare, hash=next_hash(log, partition, before.hash, bare, lines))
    await connection.execute(SQL.append, log, partition, after.link, position, at_ns, after.hash)
    return after


async def check_heads(connection: Connection, path: Path, public_pem: str, log: str, partition: int) -> None:
    """Broken if the database does not have the newest signed link as it was signed: nothing may be added to it then."""
    head = newest_head(path, public_pem, log, partition)
    if head is None:
        return
    row = await connection.fetchrow(SQL.link, log, partition, head.link)
    if read_tip(row) != head.tip:
        what = "has other content there" if row else f"ends at link {(await tip(connection, log, partition)).link}"
        raise Broken(
            f"{path} vouches for link {head.link} of the chain over {log}/{partition}, and the database {what}."
            " It was changed, or restored from a backup that is older. `openbell ledger verify` shows where they part."
            " Restore a database that has the link. To go on without what is lost, keep that file elsewhere first:"
            " without it the chain begins to be vouched for anew."
        )


# --- the file of signed heads


def head_file(data: Path, log: str, partition: int) -> Path:
    return data / "chain" / f"{log}-{partition}.jsonl"


async def sign_heads(path: Path, private_pem: str, log: str, partition: int, newest: Callable[[], Tip]) -> None:
    """For ever: once a second the newest committed link, if it moved, signed and flushed to disk."""
    key = serialization.load_pem_private_key(private_pem.encode(), None)
    assert isinstance(key, Ed25519PrivateKey)
    path.parent.mkdir(exist_ok=True)
    last = _newest(path, key.public_key(), log, partition)
    _cut_short(path)
    signed = last.link if last else 0
    while True:
        at = newest()
        if at.link > signed:
            await asyncio.to_thread(_append_line, path, _signed(key, log, partition, at))
            signed = at.link
        await asyncio.sleep(SIGN_SECONDS)


def read_heads(path: Path, public_pem: str, log: str, partition: int) -> Iterator[SignedHead]:
    """Every head that is signed by now, oldest first, read as it is asked for. Broken at one that is forged.

    A last line that a kill cut short is left out.
    """
    end, _ = _last_line(path)
    return _heads(path, end, _public_key(public_pem), log, partition)


def newest_head(path: Path, public_pem: str, log: str, partition: int) -> SignedHead | None:
    """None if nothing is signed yet. Broken if it is forged."""
    return _newest(path, _public_key(public_pem), log, partition)


def _newest(path: Path, key: Ed25519PublicKey, log: str, partition: int) -> SignedHead | None:
    _, line = _last_line(path)
    return _verified(line, key, log, partition, f"{path}, last line") if line else None


def _heads(path: Path, end: int, key: Ed25519PublicKey, log: str, partition: int) -> Iterator[SignedHead]:
    if not end:
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            yield _verified(line, key, log, partition, f"{path}, line {number}")
            if file.tell() >= end:
                return


def _verified(line: bytes, key: Ed25519PublicKey, log: str, partition: int, where: str) -> SignedHead:
    try:
        head = SignedHead(**json.loads(line))
        key.verify(bytes.fromhex(head.signature), _content(head))
    except (ValueError, TypeError, InvalidSignature):
        raise Broken(f"{where}: not a head that this brokerage signed. Put the file back as it was") from None
    if (head.log, head.partition) != (log, partition):
        raise Broken(f"{where}: a head of {head.log}/{head.partition}, not of {log}/{partition}")
    return head


def _signed(key: Ed25519PrivateKey, log: str, partition: int, at: Tip) -> str:
    head = SignedHead(log, partition, at.link, at.position, at.recorded_at_ns, at.hash.hex())
    fields = asdict(head) | {"signature": key.sign(_content(head)).hex()}
    return json.dumps(fields) + "\n"


def _content(head: SignedHead) -> bytes:
    return canonical((head.log, head.partition, head.link, head.position, head.recorded_at_ns, head.hash))


def _public_key(pem: str) -> Ed25519PublicKey:
    key = serialization.load_pem_public_key(pem.encode())
    assert isinstance(key, Ed25519PublicKey)
    return key


def _last_line(path: Path) -> tuple[int, bytes]:
    """(where it ends, it) of the last whole line; (0, b"") if there is none. Reads the file's end only: it grows.

    Looks until it sees the same twice: while a torn line is being replaced, one look may see some of either."""
    if not path.exists():
        return 0, b""
    with path.open("rb") as file:
        start, tail = _tail(file.fileno())
        while (again := _tail(file.fileno())) != (start, tail):
            start, tail = again
    whole = tail[: tail.rfind(b"\n") + 1]
    return start + len(whole), whole[:-1].rpartition(b"\n")[2]


def _tail(file: int) -> tuple[int, bytes]:
    """(where it begins, the last bytes of the file)."""
    start = max(0, os.fstat(file).st_size - 2 * LINE_BYTES_MAX)
    return start, os.pread(file, 4 * LINE_BYTES_MAX, start)


def _cut_short(path: Path) -> None:
    """Removes a last line that a kill left half written: the next one would be written behind it."""
    end, _ = _last_line(path)
    if path.exists():
        os.truncate(path, end)


def _append_line(path: Path, line: str) -> None:
    with path.open("a") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
