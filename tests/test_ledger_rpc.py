"""The ledger through real gRPC: each bad input by its name, alone, in a batch and on a stream; order; who goes away."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from datetime import timedelta
from typing import Any, NamedTuple

import grpc
import pytest
from google.protobuf.message import Message
from grpc import StatusCode

from openbell.fix.v1 import fix_pb2
from openbell.ledger.v1 import ledger_pb2 as pb
from runtime import calendar
from runtime.errors import Refusal
from runtime.units import CASH
from tests.ledger_process import (
    DOLLAR,
    LedgerProcess,
    Tab,
    adjust,
    capture,
    deposit,
    hold,
    is_done,
    journal,
    keyed,
    name_of,
    open_account,
    release,
    reverse,
    trade,
    withdraw,
)

pytestmark = pytest.mark.brokerage

INVALID, FAILED = StatusCode.INVALID_ARGUMENT, StatusCode.FAILED_PRECONDITION
NOT_FOUND, EXISTS, DENIED = StatusCode.NOT_FOUND, StatusCode.ALREADY_EXISTS, StatusCode.PERMISSION_DENIED
COMMANDS_MAX = 1_000
AMOUNT_MAX = 10**15


class Stage(NamedTuple):
    """Alice has 800 dollars settled, 40 unsettled, 100 held, and four shares, two held. Bob has 50 dollars, 50 held."""

    alice: str
    bob: str
    bystander: str
    open_hold: str  # 100 dollars, for ord_open
    share_hold: str  # two shares, for ord_shares
    released_hold: str
    deposited: str  # transactions from here on
    held: str
    traded: str
    reversed: str
    reversal: str


@pytest.fixture(scope="module")
def process() -> Iterator[LedgerProcess]:
    found = LedgerProcess()
    yield found
    unbalanced = "SELECT asset FROM entries JOIN balances USING (balance_id) GROUP BY asset HAVING sum(amount) <> 0"
    assert not asyncio.run(found.fetch(unbalanced))
    found.remove()


@pytest.fixture(scope="module")
def stage(process: LedgerProcess) -> Stage:
    return asyncio.run(set_up(process))


@pytest.fixture
async def tab(process: LedgerProcess) -> AsyncIterator[Tab]:
    async with Tab(process.settings) as found:
        yield found


async def do(tab: Tab, command: pb.Command) -> pb.Answer:
    """The answer to what must not be refused."""
    answer = await tab.unary(keyed(command))
    assert is_done(answer), answer
    return answer


async def new_account(tab: Tab, dollars: int = 0) -> str:
    account_id = (await do(tab, open_account("cus_somebody"))).open_account.account.account_id
    if dollars:
        await do(tab, deposit(account_id, dollars * DOLLAR))
    return account_id


async def set_up(process: LedgerProcess) -> Stage:
    async with Tab(process.settings) as tab:
        alice, bob, bystander = [await new_account(tab) for _ in range(3)]
        deposited = (await do(tab, deposit(alice, 1_000 * DOLLAR))).deposit.transaction_id
        await do(tab, trade(alice, 10, 10 * DOLLAR))
        opened = (await do(tab, hold(alice, "ord_open", 100 * DOLLAR))).hold
        traded = (await do(tab, trade(alice, 4, 10 * DOLLAR, side=fix_pb2.SIDE_SELL))).trade.transaction_id
        share_hold = (await do(tab, hold(alice, "ord_shares", 2, "AAPL"))).hold.hold.hold_id
        released = (await do(tab, hold(alice, "ord_released"))).hold.hold.hold_id
        await do(tab, release(released))
        reversed_ = (await do(tab, deposit(alice))).deposit.transaction_id
        reversal = (await do(tab, reverse(reversed_))).reverse.transaction_id
        await do(tab, deposit(bob, 100 * DOLLAR))
        await do(tab, hold(bob, "ord_bob", 50 * DOLLAR))
    holds = (opened.hold.hold_id, share_hold, released)
    return Stage(alice, bob, bystander, *holds, deposited, opened.transaction_id, traded, reversed_, reversal)


# --- refusals by name: one row, one command, one reason

Make = Callable[[Stage, Any], pb.Command]


class Row(NamedTuple):
    name: str
    command: Callable[[Stage], pb.Command]
    reason: str
    status: StatusCode


def row(name: str, make: Make, given: Any, reason: str, status: StatusCode) -> Row:
    return Row(f"{name} {given!r}", lambda stage: make(stage, given), reason, status)


TODAY = calendar.new_york(time.time_ns()).date()
COMING = [TODAY + timedelta(days) for days in range(1, 500)]
WEEKEND = next(str(day) for day in COMING if day.weekday() == 5)
ONLY_TRADES = next(str(day) for day in COMING if calendar.is_exchange_day(day) and not calendar.is_settlement_day(day))
PAST, TOMORROW = str(TODAY - timedelta(7)), str(TODAY + timedelta(1))
NO_DATES = ["tomorrow", "2026-13-01", "2026-02-30", "20261123", "2026-W47-1", " 2026-11-23", "2026-11-23T00:00:00"]
OUT_OF_CALENDAR = ["0001-01-01", "2019-12-31", "9999-12-31"]
NO_AMOUNTS = [0, -1, -(2**63), AMOUNT_MAX + 1, 2**63 - 1]
NO_ACCOUNTS = ["", "acc_nobody", "house", "house/0", "house/1", "cus_alice", "hld_0_000000000001"]
NO_HOLDS = [
    "",
    "nonsense",
    "hld_0_000000999999",
    "hld_1_000000000003",
    "hld_0_3",
    "hld_0_-00000000003",
    "txn_0_000000000003",
]
NO_TRANSACTIONS = ["", "nonsense", "txn_0_000000999999", "txn_1_000000000001", "txn_0_1", "hld_0_000000000001"]
NO_PATHS = ["", "cash/settled", "street/", "street/aapl", "clearing", "clearing/", "bank/1", "position/available/AAPL"]
NO_ASSETS = ["", "aapl", "$usd", "$USD ", "AAPL/X", "123", "ABCDEFGHI", "ＡＡＰＬ"]

OF_AMOUNTS: dict[str, Make] = {
    "deposit": lambda s, amount: deposit(s.alice, amount),
    "withdrawal": lambda s, amount: withdraw(s.alice, amount),
    "hold of cash": lambda s, amount: hold(s.alice, "ord_new", amount),
    "hold of shares": lambda s, amount: hold(s.alice, "ord_new", amount, "AAPL"),
    "hold adjusted to": lambda s, amount: adjust(s.open_hold, amount),
    "capture": lambda s, amount: capture(s.open_hold, amount),
    "traded quantity": lambda s, amount: trade(s.alice, quantity=amount),
    "traded price": lambda s, amount: trade(s.alice, price=amount),
    "journal of": lambda _, amount: journal(("bank", CASH, amount), ("fees", CASH, 1)),
}
OF_SETTLE_DATES: dict[str, Make] = {
    "capture settles": lambda s, day: capture(s.open_hold, settle_date=day),
    "trade settles": lambda s, day: trade(s.alice, settle_date=day),
}
OF_DATES: dict[str, Make] = {
    **OF_SETTLE_DATES,
    "trade of": lambda s, day: trade(s.alice, trade_date=day),
    "journal effective": lambda _, day: journal(("bank", CASH, 1), ("fees", CASH, -1), effective_date=day),
    "journal by clearing of": lambda _, day: journal((f"clearing/{day}", CASH, 1), ("fees", CASH, -1)),
}
OF_ACCOUNTS: dict[str, Make] = {
    "deposit to": lambda _, account: deposit(account),
    "withdrawal from": lambda _, account: withdraw(account),
    "hold for": lambda _, account: hold(account, "ord_new"),
    "trade for": lambda _, account: trade(account),
}
OF_HOLDS: dict[str, Make] = {
    "adjust": lambda _, hold_id: adjust(hold_id),
    "capture of": lambda _, hold_id: capture(hold_id),
    "release of": lambda _, hold_id: release(hold_id),
}


def rows_of_each() -> Iterator[Row]:
    """Every command that takes an amount, a date, an account, a hold with each that it must not take."""
    for name, make in OF_AMOUNTS.items():
        for amount in NO_AMOUNTS:
            if (name, amount) != ("journal of", -1):  # which is a debit
                yield row(name, make, amount, "INVALID_AMOUNT", INVALID)
    for name, make in OF_DATES.items():
        for day in (*NO_DATES, *OUT_OF_CALENDAR):
            yield row(name, make, day, "INVALID_DATE", INVALID)
    for name, make in OF_SETTLE_DATES.items():
        yield row(name, make, WEEKEND, "NOT_A_SETTLEMENT_DAY", INVALID)
        yield row(name, make, ONLY_TRADES, "NOT_A_SETTLEMENT_DAY", INVALID)
        yield row(name, make, PAST, "SETTLE_DATE_PAST", FAILED)
    for name, make in OF_ACCOUNTS.items():
        for account in NO_ACCOUNTS:
            yield row(name, make, account, "UNKNOWN_ACCOUNT", NOT_FOUND)
    for name, make in OF_HOLDS.items():
        for hold_id in NO_HOLDS:
            yield row(name, make, hold_id, "UNKNOWN_HOLD", NOT_FOUND)


def legs(name: str, reason: str, *given: tuple[str, str, int], status: StatusCode = INVALID) -> Row:
    return Row(f"journal: {name}", lambda _: journal(*given), reason, status)


OTHERS = [
    Row("account of nobody", lambda _: open_account(""), "MISSING_CUSTOMER", INVALID),
    Row("hold without an order", lambda s: hold(s.alice, ""), "MISSING_ORDER", INVALID),
    Row("second hold of an order", lambda s: hold(s.alice, "ord_open"), "ORDER_HAS_HOLD", EXISTS),
    Row("second hold after a release", lambda s: hold(s.alice, "ord_released"), "ORDER_HAS_HOLD", EXISTS),
    Row("hold for another's order", lambda s: hold(s.alice, "ord_bob"), "ORDER_HAS_HOLD", EXISTS),
    *[
        row("hold of", lambda s, name: hold(s.alice, "ord_x", 1, name), name, "INVALID_ASSET", INVALID)
        for name in NO_ASSETS
    ],
    Row("hold beyond all cash", lambda s: hold(s.alice, "ord_x", 841 * DOLLAR), "INSUFFICIENT_FUNDS", FAILED),
    Row("hold beyond all shares", lambda s: hold(s.alice, "ord_x", 5, "AAPL"), "INSUFFICIENT_SHARES", FAILED),
    Row("hold of shares of the ticker USD", lambda s: hold(s.alice, "ord_x", 1, "USD"), "INSUFFICIENT_SHARES", FAILED),
    Row("hold raised beyond all cash", lambda s: adjust(s.open_hold, 941 * DOLLAR), "INSUFFICIENT_FUNDS", FAILED),
    Row("hold raised beyond all shares", lambda s: adjust(s.share_hold, 7), "INSUFFICIENT_SHARES", FAILED),
    Row("adjust of a released hold", lambda s: adjust(s.released_hold), "HOLD_RELEASED", FAILED),
    Row("capture of a released hold", lambda s: capture(s.released_hold), "HOLD_RELEASED", FAILED),
    Row("second release", lambda s: release(s.released_hold), "HOLD_RELEASED", FAILED),
    Row("capture beyond the hold", lambda s: capture(s.open_hold, 100 * DOLLAR + 1), "CAPTURE_BEYOND_HOLD", FAILED),
    Row("capture beyond the shares held", lambda s: capture(s.share_hold, 3), "CAPTURE_BEYOND_HOLD", FAILED),
    Row("withdrawal of unsettled cash", lambda s: withdraw(s.alice, 801 * DOLLAR), "FUNDS_UNSETTLED", FAILED),
    Row("withdrawal of held cash", lambda s: withdraw(s.alice, 841 * DOLLAR), "FUNDS_HELD", FAILED),
    Row("withdrawal of what is not there", lambda s: withdraw(s.alice, 941 * DOLLAR), "INSUFFICIENT_FUNDS", FAILED),
    Row("trade without a side", lambda s: trade(s.alice, side=0), "INVALID_SIDE", INVALID),
    Row("trade of a side that is none", lambda s: trade(s.alice, side=99), "INVALID_SIDE", INVALID),
    Row("buy by a hold of shares", lambda s: trade(s.alice, order_id="ord_shares"), "INVALID_SIDE", INVALID),
    Row("trade of cash", lambda s: trade(s.alice, symbol=CASH), "INVALID_ASSET", INVALID),
    Row("trade whose value is too much", lambda s: trade(s.alice, 10**10, 10**10), "INVALID_AMOUNT", INVALID),
    Row("trade for another's order", lambda s: trade(s.alice, order_id="ord_bob"), "ORDER_NOT_YOURS", INVALID),
    Row("trade of tomorrow", lambda s: trade(s.alice, trade_date=TOMORROW), "DATE_IN_FUTURE", FAILED),
    Row("buy beyond all cash", lambda s: trade(s.alice, 1, 841 * DOLLAR), "INSUFFICIENT_FUNDS", FAILED),
    Row("sale beyond all shares", lambda s: trade(s.alice, 5, side=fix_pb2.SIDE_SELL), "INSUFFICIENT_SHARES", FAILED),
    legs("no leg", "INVALID_LEGS"),
    legs("one leg", "INVALID_LEGS", ("bank", CASH, 1)),
    legs("101 legs", "INVALID_LEGS", *[("bank", CASH, 1)] * 101),
    legs("one path twice", "INVALID_LEGS", ("bank", CASH, 1), ("bank", CASH, -1)),
    legs("unbalanced", "UNBALANCED", ("bank", CASH, 1), ("fees", CASH, -2)),
    legs("one asset of two unbalanced", "UNBALANCED", ("bank", CASH, 1), ("fees", CASH, -1), ("street/A", "A", 1)),
    legs("dollars against shares", "UNBALANCED", ("bank", CASH, 1), ("street/A", "A", -1)),
    legs("shares in the bank", "INVALID_ASSET", ("bank", "AAPL", 1), ("fees", CASH, -1)),
    legs("dollars in the street", "INVALID_ASSET", ("street/AAPL", CASH, 1), ("fees", CASH, -1)),
    legs("settled", "SETTLE_DATE_PAST", (f"clearing/{PAST}", CASH, 1), ("fees", CASH, -1), status=FAILED),
    *[legs(f"path {path!r}", "INVALID_PATH", (path, CASH, 1), ("fees", CASH, -1)) for path in NO_PATHS],
    *[
        row("reversal of", lambda _, txn: reverse(txn), txn, "UNKNOWN_TRANSACTION", NOT_FOUND)
        for txn in NO_TRANSACTIONS
    ],
    Row("reversal of a reversal", lambda s: reverse(s.reversal), "REVERSES_REVERSAL", FAILED),
    Row("second reversal", lambda s: reverse(s.reversed), "ALREADY_REVERSED", FAILED),
    Row("reversal of a hold", lambda s: reverse(s.held), "NOT_REVERSIBLE", FAILED),
    Row("reversal of a trade", lambda s: reverse(s.traded), "NOT_REVERSIBLE", FAILED),
    Row("reversal of a deposit that is spent", lambda s: reverse(s.deposited), "INSUFFICIENT_FUNDS", FAILED),
]
ROWS = [*rows_of_each(), *OTHERS]


@pytest.mark.parametrize("bad", ROWS, ids=[each.name for each in ROWS])
async def test_bad_input_is_refused_by_name_and_alone(tab: Tab, stage: Stage, bad: Row) -> None:
    before = await balances(tab, stage)
    asked = keyed(bad.command(stage))
    alone = await tab.unary(asked)
    assert reason(alone) == (bad.reason, bad.status)
    assert await tab.unary(asked) == alone
    for refused in await among_others(tab, stage, lambda: keyed(bad.command(stage))):
        assert refused == alone
    assert await balances(tab, stage) == before


def reason(answer: pb.Answer) -> tuple[str, StatusCode]:
    code = next((status for status in StatusCode if status.value[0] == answer.refused.code), StatusCode.OK)
    return answer.refused.reason, code


async def among_others(tab: Tab, stage: Stage, bad: Callable[[], pb.Command]) -> list[pb.Answer]:
    """What a command is told between two others, in a batch and on a stream; the others are done."""
    found = []
    for send in (tab.batch, tab.streamed):
        before, refused, after = await send([keyed(deposit(stage.bystander)), bad(), keyed(deposit(stage.bystander))])
        assert is_done(before)
        assert is_done(after)
        found.append(refused)
    return found


async def balances(tab: Tab, stage: Stage) -> list[pb.GetBalancesResponse]:
    """Alice's and Bob's, without the position at which they stand: others move that."""
    found = []
    for account in (stage.alice, stage.bob):
        answer = await tab.call("GetBalances", pb.GetBalancesRequest(account_id=account))
        answer.balances.as_of_position = 0
        found.append(answer)
    return found


@pytest.mark.parametrize("alias", ["hld_0_0{}", "hld_00_{}"])
async def test_an_id_is_written_in_one_way_only(tab: Tab, stage: Stage, alias: str) -> None:
    """Else one key could be used twice for one hold, for keys are unique by the id as it is written."""
    hold_id = alias.format(stage.open_hold.removeprefix("hld_0_"))
    assert reason(await tab.unary(keyed(adjust(hold_id, 100 * DOLLAR)))) == ("UNKNOWN_HOLD", NOT_FOUND)


# --- texts, keys

VALID: dict[str, Callable[[Stage], pb.Command]] = {
    "open_account": lambda _: open_account("cus_x"),
    "deposit": lambda s: deposit(s.alice),
    "withdraw": lambda s: withdraw(s.alice),
    "hold": lambda s: hold(s.alice, "ord_x"),
    "adjust_hold": lambda s: adjust(s.open_hold, 100 * DOLLAR),
    "capture": lambda s: capture(s.open_hold),
    "release": lambda s: release(s.open_hold),
    "trade": lambda s: trade(s.alice),
    "journal": lambda _: journal(("bank", CASH, 1), ("fees", CASH, -1)),
    "reverse": lambda s: reverse(s.deposited),
}
NO_TEXTS = {"too long": "x" * 257, "a NUL": "a\0b", "a line's end": "a\n", "written backwards": "\u202eabc"}


def texts_of(command: pb.Command) -> Iterator[tuple[Message, str]]:
    """Each text of the command: the message that it stands in, and its name there."""
    request: Message = getattr(command, name_of(command))
    for field in request.DESCRIPTOR.fields:
        if field.type == field.TYPE_STRING:
            yield request, field.name
        elif field.type == field.TYPE_MESSAGE:
            nested = getattr(request, field.name)[0]
            yield from ((nested, each.name) for each in nested.DESCRIPTOR.fields if each.type == each.TYPE_STRING)


@pytest.mark.parametrize("what", NO_TEXTS)
@pytest.mark.parametrize("name", VALID)
async def test_no_text_is_too_long_or_unprintable(tab: Tab, stage: Stage, name: str, what: str) -> None:
    before = await balances(tab, stage)
    count = len(list(texts_of(VALID[name](stage))))
    for number in range(count):
        command = keyed(VALID[name](stage))
        message, field = list(texts_of(command))[number]
        setattr(message, field, NO_TEXTS[what])
        alone = await tab.unary(command)
        assert reason(alone) == ("INVALID_TEXT", INVALID)
        assert alone.refused.metadata["field"] == field
        assert await among_others(tab, stage, lambda: command) == [alone, alone]  # noqa: B023
    assert count >= 2
    assert await balances(tab, stage) == before


@pytest.mark.parametrize("name", VALID)
async def test_every_command_needs_a_key(tab: Tab, stage: Stage, name: str) -> None:
    command = keyed(VALID[name](stage), "")
    alone = await tab.unary(command)
    assert reason(alone) == ("MISSING_KEY", INVALID)
    assert await among_others(tab, stage, lambda: command) == [alone, alone]


async def test_a_command_without_a_request_is_refused_alone(tab: Tab, stage: Stage) -> None:
    for refused in await among_others(tab, stage, pb.Command):
        assert reason(refused) == ("EMPTY_COMMAND", INVALID)


async def test_a_key_that_was_used_for_something_else_is_refused(tab: Tab, stage: Stage) -> None:
    account = await new_account(tab)
    first = keyed(deposit(account, 5), "k")
    done = await tab.unary(first)
    other = keyed(deposit(account, 6), "k")
    alone = await tab.unary(other)
    assert reason(alone) == ("KEY_REUSED", EXISTS)
    assert await among_others(tab, stage, lambda: other) == [alone, alone]
    assert await among_others(tab, stage, lambda: first) == [done, done]
    assert await settled(tab, account) == 5


async def test_one_key_is_one_answer_whichever_way_it_is_asked(tab: Tab) -> None:
    account = await new_account(tab, 100)
    command = keyed(withdraw(account, DOLLAR))
    first, *again = await tab.batch([command] * 3)
    again += await tab.streamed([command], [command])
    assert is_done(first)
    assert [await tab.unary(command), *again] == [first] * 5
    assert await settled(tab, account) == 99 * DOLLAR


async def settled(tab: Tab, account_id: str) -> int:
    answer = await tab.call("GetBalances", pb.GetBalancesRequest(account_id=account_id))
    return int(answer.balances.settled)


# --- who may

RPCS: dict[str, Any] = {
    "SubmitBatch": pb.SubmitBatchRequest(),
    "Settle": pb.SettleRequest(),
    "Reconcile": pb.ReconcileRequest(),
    "GetHold": pb.GetHoldRequest(),
    "ListHolds": pb.ListHoldsRequest(),
}


async def test_who_may_only_read_may_command_nothing(process: LedgerProcess, stage: Stage) -> None:
    async with Tab(process.settings, ["read"]) as reader:
        for make in VALID.values():
            assert reason(await reader.unary(keyed(make(stage)))) == ("MISSING_SCOPE", DENIED)
        for rpc, request in RPCS.items():
            with pytest.raises(Refusal) as refusal:
                await reader.call(rpc, request)
            assert (refusal.value.reason, refusal.value.status) == ("MISSING_SCOPE", DENIED)
        with pytest.raises(Refusal, match="SubmitStream needs the scope"):
            await reader.streamed([keyed(deposit(stage.alice))])


@pytest.mark.parametrize(
    ("scope", "may"), [("hold", "hold adjust_hold capture release"), ("operate", "deposit withdraw")]
)
async def test_each_command_of_a_batch_needs_its_own_scope(
    process: LedgerProcess, stage: Stage, scope: str, may: str
) -> None:
    commands = [keyed(make(stage), "") for make in VALID.values()]  # without a key: none of them is done
    async with Tab(process.settings, [scope]) as tab:
        for answers in (await tab.batch(commands), await tab.streamed(commands)):
            reasons = {name_of(each): answer.refused.reason for each, answer in zip(commands, answers, strict=True)}
            allowed = {name for name, why in reasons.items() if why == "MISSING_KEY"}
            assert set(may.split()) <= allowed
            assert {why for name, why in reasons.items() if name not in allowed} == {"MISSING_SCOPE"}
            assert allowed == {
                name for name in VALID if (name in "hold adjust_hold capture release") == (scope == "hold")
            }


async def test_a_command_beyond_the_scope_of_its_token_is_refused_alone(process: LedgerProcess, tab: Tab) -> None:
    account = await new_account(tab, 100)
    holds = iter([keyed(hold(account, f"ord_{account}_{number}")) for number in range(4)])
    async with Tab(process.settings, ["hold"], "service:oms") as oms:
        for send in (oms.batch, oms.streamed):
            first, refused, last = await send([next(holds), keyed(deposit(account)), next(holds)])
            assert is_done(first)
            assert reason(refused) == ("MISSING_SCOPE", DENIED)
            assert is_done(last)
    assert await settled(tab, account) == 100 * DOLLAR - 4


# --- sizes, queries


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "EMPTY_BATCH"), (1_001, "BATCH_TOO_LARGE"), (100_000, "BATCH_TOO_LARGE")]
)
async def test_a_batch_has_1_to_1000_commands(tab: Tab, count: int, expected: str) -> None:
    account = await new_account(tab, 100)
    commands = [keyed(hold(account, f"ord_01m7zf6kd0zwknx{number:06d}")) for number in range(count)]
    for send in (tab.batch, tab.streamed):
        with pytest.raises(Refusal) as refusal:
            await send(commands)
        assert (refusal.value.reason, refusal.value.status) == (expected, INVALID)
    assert await settled(tab, account) == 100 * DOLLAR


async def test_a_stream_answers_what_came_before_the_message_it_refuses(tab: Tab) -> None:
    account = await new_account(tab)
    heard = []
    with pytest.raises(Refusal, match="there is no command in the batch"):
        async for answers in tab.stream([keyed(deposit(account))], [], [keyed(deposit(account))]):
            heard += answers
    assert [is_done(answer) for answer in heard] == [True]
    assert await settled(tab, account) == 1


async def test_a_page_token_from_elsewhere_is_refused(tab: Tab, stage: Stage) -> None:
    holds = pb.ListHoldsRequest(created_before_ns=2**62, page_size=1)
    entries = pb.ListEntriesRequest(account_id=stage.alice, page_size=1)
    of_holds = (await tab.call("ListHolds", holds)).next_page_token
    of_entries = (await tab.call("ListEntries", entries)).next_page_token
    assert of_holds
    assert of_entries
    for token in (of_entries, of_holds[:-4], of_holds.lower(), "nonsense", "é"):
        await refuses_token(tab, "ListHolds", pb.ListHoldsRequest(created_before_ns=2**62, page_token=token))
    for token in (of_holds, of_entries[:-4], of_entries.lower(), "nonsense", "é"):
        await refuses_token(tab, "ListEntries", pb.ListEntriesRequest(account_id=stage.alice, page_token=token))


async def refuses_token(tab: Tab, rpc: str, request: Any) -> None:
    with pytest.raises(Refusal) as refusal:
        await tab.call(rpc, request)
    assert (refusal.value.reason, refusal.value.status) == ("INVALID_PAGE_TOKEN", INVALID)


@pytest.mark.parametrize(
    ("day", "expected"),
    [(TOMORROW, "DATE_IN_FUTURE"), *[(day, "INVALID_DATE") for day in ["", *NO_DATES, *OUT_OF_CALENDAR]]],
)
async def test_only_a_date_that_has_come_is_settled(tab: Tab, day: str, expected: str) -> None:
    with pytest.raises(Refusal) as refusal:
        await tab.call("Settle", pb.SettleRequest(settle_date=day))
    assert (refusal.value.reason, refusal.value.status) == (
        expected,
        FAILED if expected == "DATE_IN_FUTURE" else INVALID,
    )


# --- order, and clients that go away


def in_and_out(account_id: str, count: int) -> list[pb.Command]:
    """A dollar comes, the dollar goes, `count` times: in any other order something is refused."""
    return [keyed(make(account_id, DOLLAR)) for _ in range(count) for make in (deposit, withdraw)]


def check_in_and_out(answers: list[pb.Answer]) -> None:
    moved = [answer.deposit if answer.HasField("deposit") else answer.withdraw for answer in answers]
    assert [each.balances.settled for each in moved] == [DOLLAR, 0] * (len(answers) // 2)
    positions = [each.balances.as_of_position for each in moved]
    assert positions == sorted(set(positions))


async def test_a_stream_keeps_the_order_within_an_account(tab: Tab) -> None:
    commands = in_and_out(await new_account(tab), 1_000)
    check_in_and_out(await tab.streamed(*[[command] for command in commands]))


async def test_a_stream_of_batches_keeps_the_order_within_an_account(tab: Tab) -> None:
    commands = in_and_out(await new_account(tab), 1_000)
    check_in_and_out(await tab.streamed(*[commands[at : at + 7] for at in range(0, len(commands), 7)]))


async def test_a_batch_keeps_the_order_within_an_account(tab: Tab) -> None:
    check_in_and_out(await tab.batch(in_and_out(await new_account(tab), COMMANDS_MAX // 2)))


async def test_answers_come_in_the_order_of_the_requests_whoever_else_asks(process: LedgerProcess) -> None:
    async with Tab(process.settings) as one, Tab(process.settings) as other:
        accounts = [await new_account(one) for _ in range(2)]
        mixed = [
            command
            for number, pair in enumerate(zip(*[in_and_out(account, 300) for account in accounts], strict=True))
            for command in (*pair, keyed(withdraw(accounts[number % 2], AMOUNT_MAX)))
        ]
        own = in_and_out(await new_account(other), 300)
        answers, others = await asyncio.gather(
            one.streamed(*[mixed[at : at + 10] for at in range(0, len(mixed), 10)]),
            other.streamed(*[[command] for command in own]),
        )
    check_in_and_out(others)
    assert [answer.refused.reason for answer in answers[2::3]] == ["INSUFFICIENT_FUNDS"] * 600
    for account in range(2):
        check_in_and_out(answers[account::3])


SENT = [[1 + number for number in range(at, at + 10)] for at in range(0, 15_000, 10)]  # amounts, by message


@pytest.mark.parametrize("leaves", ["cancels", "hangs up"])
async def test_a_client_that_leaves_in_the_middle_of_a_stream_leaves_nothing_half_done(
    process: LedgerProcess, tab: Tab, leaves: str
) -> None:
    account, leaver = await new_account(tab), Tab(process.settings)
    messages = [[keyed(deposit(account, amount)) for amount in amounts] for amounts in SENT]
    heard: list[pb.Answer] = []
    async with aclosing(leaver.stream(*messages)) as answers:
        async for of_message in answers:
            heard += of_message
            if len(heard) >= 50:
                break
        if leaves == "hangs up":
            await leaver.close()
    await leaver.close()
    done = await until_quiet(process, account)
    assert len(heard) <= len(done) < 15_000
    assert done == [amount for amounts in SENT[: len(done) // 10] for amount in amounts]
    again = await tab.streamed(*messages)
    assert again[: len(heard)] == heard
    assert await settled(tab, account) == sum(map(sum, SENT))


async def until_quiet(process: LedgerProcess, account_id: str) -> list[int]:
    """The account's entries in order, once no more of them come."""
    query = "SELECT amount FROM entries JOIN balances USING (balance_id) WHERE account_id = $1 ORDER BY position"
    before: list[int] | None = None
    async with asyncio.timeout(20):
        while True:
            found = [row["amount"] for row in await process.fetch(query, account_id)]
            if found == before:
                return found
            before = found
            await asyncio.sleep(0.3)


AHEAD_MAX = 4 * COMMANDS_MAX  # what may be done before a call that comes later: a few batches, not a whole queue


async def test_a_stream_keeps_no_call_waiting_even_if_its_client_does_not_listen(
    process: LedgerProcess, tab: Tab
) -> None:
    account, other = await new_account(tab), await new_account(tab)
    messages = [pb.SubmitStreamRequest(commands=[keyed(deposit(account)) for _ in range(40)]) for _ in range(1_000)]
    ahead: list[int] = []
    async with Tab(process.settings) as deaf:
        call = deaf.stub.SubmitStream(iter(messages), metadata=deaf.metadata())
        for _ in range(40):
            before = await tab.call("GetBalances", pb.GetBalancesRequest(account_id=other))
            answer = await tab.unary(keyed(deposit(other)))
            assert is_done(answer), answer
            ahead.append(answer.deposit.balances.as_of_position - before.balances.as_of_position)
        heard = [answer.deposit.balances.settled async for response in call for answer in response.answers]
    assert heard == list(range(1, 40_001))
    assert max(ahead) <= AHEAD_MAX


async def test_a_deadline_that_passes_neither_undoes_nor_doubles(tab: Tab) -> None:
    account = await new_account(tab)
    requests = [keyed(deposit(account)).deposit for _ in range(100)]
    in_time = [await is_in_time(tab, request, 0.0002 * (1 + n % 10)) for n, request in enumerate(requests)]
    assert not all(in_time)
    again = [await tab.call("Deposit", request) for request in requests]
    assert sorted(answer.balances.settled for answer in again) == list(range(1, 101))
    assert await settled(tab, account) == 100


async def is_in_time(tab: Tab, request: pb.DepositRequest, seconds: float) -> bool:
    try:
        await tab.stub.Deposit(request, metadata=tab.metadata(), timeout=seconds)
    except grpc.aio.AioRpcError as error:
        if error.code() != StatusCode.DEADLINE_EXCEEDED:
            raise
        return False
    return True
