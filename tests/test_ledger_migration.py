"""A ledger from before the hash chain, brought up to date: it answers as before, and its history is provable."""

import hashlib
import json
import random
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import pytest

from ledger import decode, history
from ledger.accounts import Kind
from ledger.book import AdjustHold, Deposit, OpenAccount, PlaceHold, ReleaseHold
from ledger.config import Config
from ledger.reads import Reads
from ledger.reasons import STATUS, Reason
from ledger.verify import LOG
from ledger.writer import Writer
from openbell.ledger.v1 import ledger_pb2 as pb
from ops.database import migrations
from runtime import db, log
from runtime.units import CASH
from tests.chained_history import Proof, sign, unguarded
from tests.cluster import PASSWORD, Cluster, Database
from tests.history_changes import KEYS, change
from tests.test_house_rules import normal
from tests.test_ledger import DOLLAR, SEAL, Ledger

ALICE, BOB = "acc_alice", "acc_bob"
TRACE = b"t" * 16
CHANGES = 40

ACCOUNTS = [(ALICE, "cus_älice", 100), (BOB, "cus_bob", 200)]
BALANCES = {  # as they were named, in this order
    ("house/0", "bank"): CASH,
    (ALICE, "cash/settled"): CASH,
    (ALICE, "cash/held"): CASH,
    ("house/0", "clearing/2026-11-23"): CASH,
    ("house/0", "street/AAPL"): "AAPL",
    (ALICE, "position/available/AAPL"): "AAPL",
    (BOB, "cash/settled"): CASH,
}


class Old(NamedTuple):
    """A transaction as it was stored: kind, account, order, hold, execution, and (account, path, amount) by leg."""

    kind: Kind
    account: str
    order_id: str | None
    hold_id: str | None
    execution_id: str | None
    legs: list[tuple[str, str, int]]


POSTED = [
    Old(Kind.DEPOSIT, ALICE, None, None, None, [("house/0", "bank", -1000), (ALICE, "cash/settled", 1000)]),
    Old(
        Kind.HOLD,
        ALICE,
        "ord_1",
        "hld_0_000000000002",
        None,
        [(ALICE, "cash/settled", -400), (ALICE, "cash/held", 400)],
    ),
    Old(
        Kind.TRADE,
        ALICE,
        "ord_1",
        "hld_0_000000000002",
        "exe_1_000000000001",
        [
            (ALICE, "cash/held", -150),
            ("house/0", "clearing/2026-11-23", 150),
            ("house/0", "street/AAPL", -1),
            (ALICE, "position/available/AAPL", 1),
        ],
    ),
    Old(
        Kind.RELEASE,
        ALICE,
        "ord_1",
        "hld_0_000000000002",
        "exe_1_000000000001",
        [(ALICE, "cash/held", -250), (ALICE, "cash/settled", 250)],
    ),
    Old(
        Kind.HOLD,
        ALICE,
        "ord_2",
        "hld_0_000000000005",
        None,
        [(ALICE, "cash/settled", -100), (ALICE, "cash/held", 100)],
    ),
    Old(Kind.DEPOSIT, BOB, None, None, None, [("house/0", "bank", -70), (BOB, "cash/settled", 70)]),
]
HOLDS = [
    (2, ALICE, "ord_1", CASH, ["cash/settled"], [0], 1, 1, True, 300, "hold 1"),
    (5, ALICE, "ord_2", CASH, ["cash/settled"], [100], 0, None, False, 400, "hold 2"),
]
CASH_AT_6 = pb.Balances(
    account_id=ALICE,
    settled=750,
    held=100,
    buying_power=750,
    withdrawable=750,
    as_of_position=6,
    unsettled=[pb.UnsettledCash(settle_date=f"2026-11-{day}", amount=day) for day in range(10, 20)],
)
HELD = pb.HoldRecord(
    hold_id="hld_0_000000000005",
    account_id=ALICE,
    order_id="ord_2",
    asset=CASH,
    remaining=100,
    state=pb.HOLD_STATE_OPEN,
    created_at_ns=400,
)
RELEASED = pb.HoldRecord(
    hold_id="hld_0_000000000002",
    account_id=ALICE,
    order_id="ord_1",
    asset=CASH,
    state=pb.HOLD_STATE_RELEASED,
    created_at_ns=300,
)

# What was asked, where its key was unique, what was answered, and how that is found in an Answer.
ANSWERED: list[tuple[Any, str, Any, str]] = [
    (
        pb.OpenAccountRequest(customer_id="cus_älice", idempotency_key="k"),
        "OpenAccount cus_älice",
        pb.OpenAccountResponse(account=pb.Account(account_id=ALICE, customer_id="cus_älice", opened_at_ns=100)),
        "open_account",
    ),
    (
        pb.DepositRequest(account_id=ALICE, amount=1000, idempotency_key="k"),
        f"Deposit {ALICE}",
        pb.DepositResponse(transaction_id="txn_0_000000000001", balances=CASH_AT_6),
        "deposit",
    ),
    (
        pb.WithdrawRequest(account_id=BOB, amount=1, idempotency_key="k"),
        f"Withdraw {BOB}",
        pb.WithdrawResponse(transaction_id="txn_0_000000000007", balances=pb.Balances(account_id=BOB, settled=70)),
        "withdraw",
    ),
    (
        pb.HoldRequest(account_id=ALICE, order_id="ord_2", asset=CASH, amount=100, idempotency_key="hold 2"),
        f"PlaceHold {ALICE}",
        pb.HoldResponse(hold=HELD, transaction_id="txn_0_000000000005", balances=CASH_AT_6),
        "hold",
    ),
    (
        pb.AdjustHoldRequest(hold_id="hld_0_000000000005", amount=100, idempotency_key="k"),
        "AdjustHold hld_0_000000000005",
        pb.AdjustHoldResponse(hold=HELD, balances=CASH_AT_6),
        "adjust_hold",
    ),
    (
        pb.ReleaseRequest(hold_id="hld_0_000000000002", idempotency_key="k"),
        "ReleaseHold hld_0_000000000002",
        pb.ReleaseResponse(hold=RELEASED, transaction_id="txn_0_000000000004", balances=CASH_AT_6),
        "release",
    ),
]
# What was refused: why, how it was said, with what.
REFUSED: list[tuple[Any, str, Reason, str, dict[str, str]]] = [
    (
        pb.WithdrawRequest(account_id=ALICE, amount=10**9, idempotency_key="much"),
        f"Withdraw {ALICE}",
        Reason.INSUFFICIENT_FUNDS,
        "100000.00 dollars asked for, 0.10 available – " + "ü" * 300,
        {"asset": CASH, "available": "1000", "wanted": str(10**9)},
    ),
    (
        pb.ReleaseRequest(hold_id="hld_0_000000000002", idempotency_key="again"),
        "ReleaseHold hld_0_000000000002",
        Reason.HOLD_RELEASED,
        "the hold is released",
        {"order_id": "ord_1"},
    ),
    (
        pb.AdjustHoldRequest(hold_id="hld_0_000000000099", amount=1, idempotency_key="k"),
        "AdjustHold hld_0_000000000099",
        Reason.UNKNOWN_HOLD,
        "there is no hold",
        {},
    ),
    (
        pb.DepositRequest(account_id=ALICE, amount=-1, idempotency_key="less"),
        f"Deposit {ALICE}",
        Reason.INVALID_AMOUNT,
        "the amount must be from 0.0001",
        {},
    ),
    (
        pb.HoldRequest(account_id=ALICE, order_id="ord_2", asset=CASH, amount=1, idempotency_key="twice"),
        f"PlaceHold {ALICE}",
        Reason.ORDER_HAS_HOLD,
        "ord_2 has a hold already",
        {"order_id": "ord_2"},
    ),
    (
        pb.HoldRequest(account_id=BOB, order_id="ord_3", asset="AAPL", amount=1, idempotency_key="owing"),
        f"PlaceHold {BOB}",
        Reason.ACCOUNT_OWES,
        "the account owes: deposit what is missing first",
        {"account_id": BOB},
    ),
]


async def migrate_to_the_first(cluster: Cluster, directory: Path) -> Database:
    """A database as it was before 0002."""
    for name in ("0000_log.sql", "0001_spine.sql"):
        (found,) = [path / name for path in migrations("ledger") if (path / name).exists()]
        shutil.copy(found, directory)
    name = await cluster.empty_database()
    await db.migrate(cluster.url(name), "ledger", PASSWORD, [directory])
    return Database(name, cluster.url(name), {"ledger": db.with_role(cluster.url(name), f"{name}_ledger", PASSWORD)})


async def fill(database: Database) -> None:
    """As the service of that time did it."""
    connection = await asyncpg.connect(database.urls["ledger"], server_settings={"search_path": "ledger"})
    await connection.executemany("INSERT INTO accounts VALUES ($1, $2, $3)", ACCOUNTS)
    insert = "INSERT INTO balances (account_id, path, asset) VALUES ($1, $2, $3) RETURNING balance_id"
    ids = {name: await connection.fetchval(insert, *name, asset) for name, asset in BALANCES.items()}
    running: dict[int, tuple[int, int]] = {}
    for position, posted in enumerate(POSTED, 1):
        async with connection.transaction():
            await post(connection, position, posted, ids, running)
    for hold in HOLDS:
        await connection.execute(
            """INSERT INTO holds (log_partition, position, account_id, order_id, asset, draw_paths, draw_amounts,
            captured_quantity, done_quantity, released, created_at_ns, idempotency_key)
            VALUES (0, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)""",
            *hold,
        )
    for request, scope, answer, _ in ANSWERED:
        await answered(connection, request, scope, answer.SerializeToString(), None)
    for request, scope, reason, message, metadata in REFUSED:
        refusal = json.dumps({"reason": reason, "message": message, "metadata": metadata})
        await answered(connection, request, scope, None, refusal)
    await connection.execute("INSERT INTO log_heads VALUES ('transactions', 0, 3, $1)", len(POSTED))
    await connection.execute("INSERT INTO cursors VALUES ('ems', 1, 1)")
    await connection.close()


async def post(
    connection: asyncpg.Connection,
    position: int,
    posted: Old,
    ids: dict[tuple[str, str], int],
    running: dict[int, tuple[int, int]],
) -> None:
    """The entries first, in one statement; then the transaction, which counts them."""
    entries = []
    for leg, (account, path, amount) in enumerate(posted.legs, 1):
        balance, version = running.get(ids[account, path], (0, 0))
        running[ids[account, path]] = balance + amount, version + 1
        entries.append((leg, ids[account, path], amount, balance + amount, version + 1))
    await connection.execute(
        """INSERT INTO entries (log_partition, position, leg, balance_id, amount, balance, version)
        SELECT 0, $1, * FROM unnest($2::smallint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[])""",
        position,
        *zip(*entries, strict=True),
    )
    await connection.execute(
        """INSERT INTO transactions (log_partition, position, kind, legs, effective_date, requested_at_ns,
        recorded_at_ns, account_id, order_id, hold_id, execution_id, trace_id, span_id)
        VALUES (0, $1, $2, $3, '2026-11-20', $4, $4, $5, $6, $7, $8, $9, repeat('s', 8)::bytea)""",
        position,
        posted.kind,
        len(entries),
        1_000 + position,
        posted.account,
        posted.order_id,
        posted.hold_id,
        posted.execution_id,
        TRACE,
    )


async def answered(
    connection: asyncpg.Connection, request: Any, scope: str, answer: bytes | None, refusal: str | None
) -> None:
    content = type(request).__name__.encode() + request.SerializeToString(deterministic=True)
    statement = "INSERT INTO commands VALUES ($1, $2, $3, $4, $5, 1)"
    await connection.execute(
        statement, scope, request.idempotency_key, hashlib.sha256(content).digest(), answer, refusal
    )


@pytest.fixture
async def filled(cluster: Cluster, tmp_path: Path) -> Database:
    """A database that was filled before 0002, and then brought up to date."""
    database = await migrate_to_the_first(cluster, tmp_path)
    await fill(database)
    await db.migrate(database.admin_url, "ledger", PASSWORD, migrations("ledger"))
    return database


@pytest.fixture
async def ledger(filled: Database) -> AsyncIterator[Ledger]:
    pool = await db.pool(filled.urls["ledger"], "ledger", size=2)
    yield new_ledger(pool)
    await pool.close()


def new_ledger(pool: db.Pool) -> Ledger:
    bell = log.Bell()
    return Ledger(pool, Writer(pool, Config(), bell, SEAL), Reads(pool, Config(), bell), ALICE)


async def ask(ledger: Ledger, request: Any) -> pb.Answer:
    (answer,) = await ledger.writer.commit([decode.request(request, TRACE, 1)])
    assert isinstance(answer, bytes), answer
    return pb.Answer.FromString(answer)


@pytest.mark.parametrize(("request_", "scope", "expected", "name"), ANSWERED, ids=[row[3] for row in ANSWERED])
async def test_an_old_key_gives_the_answer_that_was_given(
    ledger: Ledger, request_: Any, scope: str, expected: Any, name: str
) -> None:
    answer = await ask(ledger, request_)
    assert answer.WhichOneof("response") == name
    assert getattr(answer, name) == expected
    assert ledger.writer.tip.link == 1  # the rows from before, and nothing new


@pytest.mark.parametrize(
    ("request_", "scope", "reason", "message", "metadata"), REFUSED, ids=[row[2] for row in REFUSED]
)
async def test_an_old_key_that_was_refused_is_refused_again(
    ledger: Ledger, request_: Any, scope: str, reason: Reason, message: str, metadata: dict[str, str]
) -> None:
    refused = (await ask(ledger, request_)).refused
    code = STATUS[reason].value[0]
    assert refused == pb.Refused(reason=reason, code=code, message=message, metadata=metadata)


async def test_an_old_key_with_other_content_is_still_refused(ledger: Ledger) -> None:
    for request in (row[0] for row in ANSWERED if "amount" in row[0].DESCRIPTOR.fields_by_name):
        other = type(request)()
        other.CopyFrom(request)
        other.amount += 1
        assert (await ask(ledger, other)).refused.reason == Reason.KEY_REUSED


async def test_balances_and_holds_are_what_they_were_and_go_on(ledger: Ledger) -> None:
    account, position = await ledger.reads.account(ALICE)
    held = {"cash/held": 100, "cash/settled": 750, "position/available/AAPL": 1}
    assert {path: account.amount(path) for path in account.paths("")} == held
    assert position == len(POSTED)
    await ledger.do(AdjustHold("hld_0_000000000005", 300))
    await ledger.do(ReleaseHold("hld_0_000000000005"))
    deposited = (await ledger.do(Deposit(BOB, DOLLAR))).deposit
    assert (deposited.transaction_id, deposited.balances.settled) == ("txn_0_000000000009", 70 + DOLLAR)
    await ledger.do(PlaceHold(BOB, "ord_9", CASH, 1))  # names a balance that BOB never had


async def test_the_history_from_before_the_chain_is_its_first_link_and_vouched_for(
    ledger: Ledger, filled: Database, tmp_path: Path
) -> None:
    heads = tmp_path / "transactions-0.jsonl"
    await ledger.do(Deposit(BOB, DOLLAR))
    await sign(ledger.writer, heads)
    async with unguarded(filled, heads) as proof:
        await proof.connection.execute("ALTER TABLE balances ALTER balance_id SET GENERATED BY DEFAULT")
        report = await proof.verify()
        assert report.findings == []
        assert (report.tip.link, report.signed.link, report.rows["transactions"]) == (2, 2, len(POSTED) + 1)
        (first,) = await proof.connection.fetch("SELECT position, recorded_at_ns FROM chain WHERE link = 1")
        assert tuple(first) == (len(POSTED), 1_000 + len(POSTED))
        assert await changes_that_nobody_sees(proof) == []


async def changes_that_nobody_sees(proof: Proof) -> list[str]:
    chance, unseen = random.Random(20261121), []
    tables = [table for table in KEYS if table not in ("settlements", "reconciliations")]  # there were none
    for number in range(CHANGES):
        attempt = proof.connection.transaction()
        await attempt.start()
        changed = await change(proof.connection, chance, tables[number % len(tables)])
        if not (await proof.verify()).findings:
            unseen.append(changed.what)
        await attempt.rollback()
    return unseen


async def test_the_first_link_is_made_once(ledger: Ledger) -> None:
    await ask(ledger, ANSWERED[0][0])
    first = ledger.writer.tip
    assert first.link == 1
    again = new_ledger(ledger.pool)
    await ask(again, ANSWERED[0][0])
    assert again.writer.tip == first


async def test_a_writer_that_was_replaced_makes_no_first_link(ledger: Ledger) -> None:
    async with ledger.pool.acquire() as connection:
        before = await log.take(connection, LOG, 0)
        await log.take(connection, LOG, 0)
        with pytest.raises(log.Fenced):
            await history.take_up(connection, before, SEAL)
    assert await ledger.pool.fetchval("SELECT count(*) FROM chain") == 0


async def test_a_hold_whose_seal_is_not_right_is_not_sealed_anew(ledger: Ledger, filled: Database) -> None:
    """Whoever empties the chain does not get forged holds blessed."""
    await ask(ledger, ANSWERED[0][0])
    admin = await asyncpg.connect(filled.admin_url, server_settings={"search_path": "ledger"})
    await admin.execute(
        "SET session_replication_role = replica; TRUNCATE chain; UPDATE holds SET captured_quantity = 7"
    )
    await admin.close()
    again = new_ledger(ledger.pool)
    await ask(again, ANSWERED[0][0])
    async with unguarded(filled, Path("none")) as proof:
        found = (await proof.verify()).findings
    assert [finding.table for finding in found] == ["holds"] * len(HOLDS)


async def test_an_empty_ledger_begins_without_a_link_for_what_was_before(cluster: Cluster, tmp_path: Path) -> None:
    database = await migrate_to_the_first(cluster, tmp_path)
    await db.migrate(database.admin_url, "ledger", PASSWORD, migrations("ledger"))
    pool = await db.pool(database.urls["ledger"], "ledger", size=1)
    made = new_ledger(pool)
    await made.do(OpenAccount("cus_alice"))
    assert made.writer.tip.link == 1
    async with unguarded(database, Path("none")) as proof:
        assert (await proof.verify()).findings == []
    await pool.close()


async def test_a_database_whose_0002_had_some_of_0003_in_it_comes_to_the_same_schema(cluster: Cluster) -> None:
    database = await cluster.database(["ledger"])
    before = normal(cluster.dump(database.name, "ledger"), database.name)
    connection = await asyncpg.connect(database.admin_url)
    await connection.execute(
        "UPDATE ledger.migrations SET sha256 = $1 WHERE name = '0002_ledger.sql'", db.REISSUED["0002_ledger.sql"]
    )
    await connection.execute("DELETE FROM ledger.migrations WHERE name = '0003_guards.sql'")
    await connection.close()
    await db.migrate(database.admin_url, "ledger", PASSWORD, migrations("ledger"))
    assert normal(cluster.dump(database.name, "ledger"), database.name) == before
