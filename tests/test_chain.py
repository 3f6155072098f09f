"""Hash chains and their signed heads: links on real PostgreSQL, heads in real files."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from runtime import auth, chain, db
from runtime.chain import Broken, SignedHead, Tip
from tests.brokerage import until
from tests.cluster import Cluster, Database

PRIVATE, PUBLIC = auth.new_keys()
LINES = [b"first", b"second"]


@pytest.fixture(scope="module")
def one(cluster: Cluster) -> Database:
    return asyncio.run(cluster.database(["ledger"]))


@pytest.fixture
async def connection(one: Database) -> AsyncIterator[db.Connection]:
    """As the service; nothing that a test does is kept."""
    pool = await db.pool(one.urls["ledger"], "ledger", size=1)
    async with pool.acquire() as found:
        transaction = found.transaction()
        await transaction.start()
        yield found
        await transaction.rollback()
    await pool.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return chain.head_file(tmp_path, "x", 0)


async def append(connection: db.Connection, *ends: tuple[int, int]) -> list[Tip]:
    """Links of the chain over x/0, each with its position and time."""
    tips = [await chain.tip(connection, "x", 0)]
    for position, at_ns in ends:
        tips.append(await chain.append(connection, "x", 0, tips[-1], position, at_ns, LINES))
    return tips[1:]


def heads(path: Path, *, log: str = "x", public: str = PUBLIC) -> list[SignedHead]:
    return list(chain.read_heads(path, public, log, 0))


async def sign(path: Path, newest: Callable[[], Tip], done: Callable[[], bool], private: str = PRIVATE) -> None:
    """Signs until `done`."""
    task = asyncio.create_task(chain.sign_heads(path, private, "x", 0, newest))
    await asyncio.to_thread(until, lambda: done() or task.done(), "signed")
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled() and (problem := task.exception()):
        raise problem


def tip(link: int, content: bytes = b"") -> Tip:
    bare = Tip(link, 10 * link, 100 * link)
    return Tip(bare.link, bare.position, bare.recorded_at_ns, chain.next_hash("x", 0, chain.GENESIS, bare, [content]))


# --- links


async def test_an_empty_chain_ends_at_link_0(connection: db.Connection) -> None:
    assert await chain.tip(connection, "x", 0) == Tip(0, 0, 0, bytes(32))


async def test_the_tip_is_what_was_appended_last(connection: db.Connection) -> None:
    first, second = await append(connection, (5, 50), (7, 70))
    assert (second.link, second.position, second.recorded_at_ns) == (2, 7, 70)
    assert await chain.tip(connection, "x", 0) == second
    assert first.hash == chain.next_hash("x", 0, chain.GENESIS, first, LINES)
    assert second.hash == chain.next_hash("x", 0, first.hash, second, LINES)
    assert await chain.tip(connection, "x", 1) == Tip()


HASHED = {
    "log": ("y", 0, chain.GENESIS, Tip(1, 2, 3), LINES),
    "partition": ("x", 1, chain.GENESIS, Tip(1, 2, 3), LINES),
    "link before": ("x", 0, bytes(31) + b"1", Tip(1, 2, 3), LINES),
    "link": ("x", 0, chain.GENESIS, Tip(2, 2, 3), LINES),
    "position": ("x", 0, chain.GENESIS, Tip(1, 3, 3), LINES),
    "time": ("x", 0, chain.GENESIS, Tip(1, 2, 4), LINES),
    "line": ("x", 0, chain.GENESIS, Tip(1, 2, 3), [b"first", b"Second"]),
    "order": ("x", 0, chain.GENESIS, Tip(1, 2, 3), LINES[::-1]),
    "more": ("x", 0, chain.GENESIS, Tip(1, 2, 3), [*LINES, b""]),
    "joined": ("x", 0, chain.GENESIS, Tip(1, 2, 3), [b"firstsecond"]),
}


@pytest.mark.parametrize("what", HASHED)
def test_the_hash_is_another_one_if_anything_is(what: str) -> None:
    assert chain.next_hash(*HASHED[what]) != chain.next_hash("x", 0, chain.GENESIS, Tip(1, 2, 3), LINES)


def test_no_two_rows_have_the_same_lines() -> None:
    rows = [(1, "a\nb"), (1, "a", "b"), ("1", "a\\nb"), (1, b"a\nb"), (1, None), (1, "None"), (True, "a"), (1, ("a",))]
    lines = [chain.canonical(row) for row in rows]
    assert len(set(lines)) == len(rows)
    assert all(b"\n" not in line and line.isascii() for line in lines)
    assert chain.canonical((1, "ü", b"\xff", None, (True,))) == b"(1, '\\xfc', b'\\xff', None, (True,))"


def test_a_check_fits_an_int_and_tells_rows_apart() -> None:
    checks = {chain.row_check(str(number).encode()) for number in range(1_000)}
    assert len(checks) == 1_000
    assert all(-(2**31) <= check < 2**31 for check in checks)


def test_a_seal_needs_the_key() -> None:
    assert chain.seal(b"key", (1, "a")) == chain.seal(b"key", (1, "a"))
    assert len({chain.seal(b"key", (1, "a")), chain.seal(b"other", (1, "a")), chain.seal(b"key", (1, "b"))}) == 3


POSITION_AT = [(49, 0), (50, 5), (69, 5), (70, 8), (71, 8)]


@pytest.mark.parametrize(("at_ns", "position"), POSITION_AT)
async def test_an_instant_saw_the_last_link_up_to_then(connection: db.Connection, at_ns: int, position: int) -> None:
    await append(connection, (5, 50), (7, 70), (8, 70))
    assert await connection.fetchval(chain.SQL.position_at, "x", 0, at_ns) == position


# --- the file


def test_without_a_file_nothing_is_signed(path: Path) -> None:
    assert heads(path) == []
    assert chain.newest_head(path, PUBLIC, "x", 0) is None


async def test_a_head_is_signed_once_and_only_when_it_moved(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "SIGN_SECONDS", 0.001)
    asked = []

    def newest() -> Tip:
        asked.append(1)
        return tip(min(len(asked) // 10, 3))

    await sign(path, newest, lambda: len(asked) > 60)
    assert [head.tip for head in heads(path)] == [tip(1), tip(2), tip(3)]


async def test_what_moves_faster_is_signed_once_a_second(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "SIGN_SECONDS", 3600)
    links = iter(range(1, 1_000_000))
    await sign(path, lambda: tip(next(links)), lambda: len(heads(path)) > 0)
    assert [head.link for head in heads(path)] == [1]


async def test_a_new_process_goes_on_after_the_last_head(path: Path) -> None:
    for link in (1, 1, 2):
        at = tip(link)
        await sign(path, lambda: at, lambda: path.exists() and chain_end(path) == at.link)  # noqa: B023  done in its turn
    assert [head.link for head in heads(path)] == [1, 2]


def chain_end(path: Path) -> int:
    head = chain.newest_head(path, PUBLIC, "x", 0)
    return head.link if head else 0


@pytest.mark.parametrize("kept", [1, 100, -1])
async def test_a_last_line_that_a_kill_cut_short_is_left_out_and_written_over(path: Path, kept: int) -> None:
    await sign_all(path, 1, 2)
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    path.write_bytes(whole[:first] + whole[first:][:kept])
    assert [head.link for head in heads(path)] == [1]
    assert chain_end(path) == 1
    await sign_all(path, 3)
    assert [head.link for head in heads(path)] == [1, 3]


async def sign_all(path: Path, *links: int) -> None:
    for link in links:
        await sign(path, lambda: tip(link), lambda: chain_end(path) == link)  # noqa: B023  done in its turn


async def test_of_a_long_file_only_the_end_is_read_for_the_newest_head(path: Path) -> None:
    await sign_all(path, 1)
    path.write_bytes(b"nothing that was signed\n" * 1_000 + path.read_bytes())
    assert chain_end(path) == 1
    with pytest.raises(Broken, match="line 1: not a head"):
        heads(path)


async def test_heads_are_those_of_the_moment_they_were_asked_for(path: Path) -> None:
    await sign_all(path, 1)
    found = chain.read_heads(path, PUBLIC, "x", 0)
    await sign_all(path, 2)
    assert [head.link for head in found] == [1]


FORGED: dict[str, Callable[[dict[str, object]], object]] = {
    "link": lambda head: head | {"link": 7},
    "position": lambda head: head | {"position": 7},
    "time": lambda head: head | {"recorded_at_ns": 7},
    "hash": lambda head: head | {"hash": "00" * 32},
    "log": lambda head: head | {"log": "y"},
    "partition": lambda head: head | {"partition": 1},
    "signature": lambda head: head | {"signature": "00" * 64},
    "no signature": lambda head: head | {"signature": ""},
    "no hexadecimals": lambda head: head | {"signature": "x"},
    "another field": lambda head: head | {"more": 1},
    "a field less": lambda head: {name: value for name, value in head.items() if name != "hash"},
    "a list": lambda head: [head],
}


@pytest.mark.parametrize("what", FORGED)
async def test_a_head_that_was_not_signed_is_refused(path: Path, what: str) -> None:
    await sign_all(path, 1, 2)
    first, second = path.read_text().splitlines()
    path.write_text(json.dumps(FORGED[what](json.loads(first))) + "\n" + second + "\n")
    with pytest.raises(Broken, match="line 1: not a head that this brokerage signed"):
        heads(path)
    path.write_text(second + "\n" + json.dumps(FORGED[what](json.loads(first))) + "\n")
    with pytest.raises(Broken, match="last line: not a head"):
        chain.newest_head(path, PUBLIC, "x", 0)


async def test_another_brokerages_heads_and_another_logs_are_refused(path: Path) -> None:
    await sign_all(path, 1)
    with pytest.raises(Broken, match="not a head that this brokerage signed"):
        heads(path, public=auth.new_keys()[1])
    with pytest.raises(Broken, match="a head of x/0, not of y/0"):
        heads(path, log="y")


# --- what is signed against what is stored


async def test_a_chain_that_has_the_newest_signed_link_may_go_on(connection: db.Connection, path: Path) -> None:
    await chain.check_heads(connection, path, PUBLIC, "x", 0)
    first, _ = await append(connection, (5, 50), (7, 70))
    await sign(path, lambda: first, lambda: chain_end(path) == 1)
    await chain.check_heads(connection, path, PUBLIC, "x", 0)


async def test_a_chain_that_lost_the_newest_signed_link_may_not_go_on(connection: db.Connection, path: Path) -> None:
    await append(connection, (5, 50))
    await sign_all(path, 2)
    with pytest.raises(Broken, match=r"vouches for link 2 .* ends at link 1.*openbell ledger verify"):
        await chain.check_heads(connection, path, PUBLIC, "x", 0)


@pytest.mark.parametrize("other", [Tip(1, 6, 50), Tip(1, 5, 51), Tip(1, 5, 50, bytes(32))])
async def test_a_chain_with_another_link_may_not_go_on(connection: db.Connection, path: Path, other: Tip) -> None:
    (stored,) = await append(connection, (5, 50))
    signed = Tip(1, other.position, other.recorded_at_ns, other.hash if other.position == 5 else stored.hash)
    await sign(path, lambda: signed, lambda: chain_end(path) == 1)
    with pytest.raises(Broken, match="has other content there"):
        await chain.check_heads(connection, path, PUBLIC, "x", 0)
