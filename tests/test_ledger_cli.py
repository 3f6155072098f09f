"""`openbell ledger`: each command against a running brokerage, and what its arguments mean."""

import json
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from typer.testing import CliRunner

from openbell.ledger.v1 import ledger_pb2 as pb
from ops import cli, ledger_options
from ops.client import Client
from ops.failure import Failure
from runtime.calendar import new_york
from runtime.errors import Refusal
from runtime.units import CASH, to_units
from tests.brokerage import Brokerage, until
from tests.customer import BUY, DOLLAR, Customer

whole = pytest.mark.brokerage


@pytest.fixture
def alice(brokerage: Brokerage) -> Customer:
    """She has 100,000 dollars."""
    return Customer(brokerage)


def run(brokerage: Brokerage, *arguments: str) -> str:
    """What `openbell ledger` prints, in this process: a new one for each command would take a second."""
    done = CliRunner().invoke(cli.app, ["ledger", *arguments, "--data", str(brokerage.data)])
    if done.exception:
        raise done.exception
    return done.stdout


def ledger(customer: Customer, *arguments: str) -> Any:
    return json.loads(run(customer.brokerage, *arguments, "--json"))


def refused(customer: Customer, *arguments: str) -> str:
    """The ledger's reason."""
    with pytest.raises(Refusal) as refusal:
        run(customer.brokerage, *arguments)
    return refusal.value.reason


# --- what the arguments mean

PAST = [
    ("7", (7, 0)),
    ("txn_0_000000000007", (7, 0)),
    ("1970-01-01T00:00:01Z", (0, 1_000_000_000)),
    ("2026-11-20T15:30:00.000001Z", (0, 1_795_188_600_000_001_000)),
    ("2026-11-20T10:30:00-05:00", (0, 1_795_188_600_000_000_000)),
]


@pytest.mark.parametrize(("text", "expected"), PAST)
def test_the_past_is_a_position_a_transaction_or_a_time(text: str, expected: tuple[int, int]) -> None:
    assert ledger_options.past(text) == expected


NO_PAST = [
    ("0", "count from 1"),
    ("-1", "write 7 or 2026"),
    ("9" * 5000, "write 7 or 2026"),
    ("yesterday", "write 7 or 2026"),
    ("txn_7", "names no row"),
    ("2026-11-20", "in which time zone"),
    ("2026-11-20T15:30:00", "in which time zone"),
    ("1969-12-31T23:59:59Z", "there is no ledger of"),
    ("9999-01-01T00:00:00Z", "there is no ledger of"),
]


@pytest.mark.parametrize(("text", "expected"), NO_PAST)
def test_what_is_no_past_is_a_line_that_says_how_to_write_one(text: str, expected: str) -> None:
    with pytest.raises(Failure, match=expected):
        ledger_options.past(text)


LEGS = [
    ("bank=-100.25", pb.JournalLeg(path="bank", asset=CASH, amount=-1_002_500)),
    ("clearing/2026-11-23=1", pb.JournalLeg(path="clearing/2026-11-23", asset=CASH, amount=DOLLAR)),
    ("street/AAPL=-5", pb.JournalLeg(path="street/AAPL", asset="AAPL", amount=-5)),
]


@pytest.mark.parametrize(("text", "expected"), LEGS)
def test_a_leg_moves_what_its_path_holds(text: str, expected: pb.JournalLeg) -> None:
    assert ledger_options.leg(text) == expected


NO_LEGS = [
    ("bank", "write PATH=AMOUNT"),
    ("bank=", "is not a decimal number"),
    ("bank=0.00001", "finer than"),
    ("bank=99999999999999999999", "out of range"),
    ("street/AAPL=1.5", "no whole number of shares"),
    ("street/AAPL=9223372036854775808", "more than there are"),
]


@pytest.mark.parametrize(("text", "expected"), NO_LEGS)
def test_what_is_no_leg_is_a_line_that_says_why(text: str, expected: str) -> None:
    with pytest.raises(Failure, match=expected):
        ledger_options.leg(text)


def test_a_day_may_be_written_shortly_and_nothing_else_is_one() -> None:
    assert ledger_options.day("--from", "20261120") == "2026-11-20"
    with pytest.raises(Failure, match="--from: '2026-11-31' is no date"):
        ledger_options.day("--from", "2026-11-31")


# --- the commands


@whole
def test_a_withdrawal_takes_settled_cash_and_no_more(alice: Customer) -> None:
    paid = ledger(alice, "withdraw", alice.account, "250.25")
    assert (paid["amount"], paid["balances"]["withdrawable"]) == ("250.25", "99749.75")
    assert refused(alice, "withdraw", alice.account, "99749.76") == "INSUFFICIENT_FUNDS"
    assert refused(alice, "withdraw", alice.account, "-5") == "INVALID_AMOUNT"
    with pytest.raises(Failure, match="is not a decimal number"):
        run(alice.brokerage, "withdraw", alice.account, "much")


@whole
def test_a_refusal_is_one_line_and_exit_1(alice: Customer) -> None:
    done = alice.brokerage.run("ledger", "withdraw", alice.account, "200000")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "openbell: 200000.00 dollars asked for, 100000.00 available\n"


@whole
def test_a_command_with_the_same_key_is_done_once(alice: Customer) -> None:
    first = ledger(alice, "deposit", alice.account, "10", "--key", "k")
    assert ledger(alice, "deposit", alice.account, "10", "--key", "k") == first
    assert ledger(alice, "balances", alice.account)["settled"] == "100010.00"
    assert refused(alice, "deposit", alice.account, "11", "--key", "k") == "KEY_REUSED"


@whole
def test_balances_show_open_holds_and_the_past(alice: Customer) -> None:
    before = ledger(alice, "balances", alice.account)
    placed = alice.place(BUY, "AAPL", 10, limit=100 * DOLLAR)
    after = ledger(alice, "balances", alice.account)
    assert (after["settled"], after["held"]) == ("99000.00", "1000.00")
    (hold,) = after["holds"]
    assert (hold["order_id"], hold["remaining"]) == (placed.order_id, "1000.00")
    assert hold in ledger(alice, "holds")
    assert hold["hold_id"] in run(alice.brokerage, "balances", alice.account)
    assert hold["hold_id"] in run(alice.brokerage, "holds")
    then = ledger(alice, "balances", alice.account, "--at", str(before["as_of_position"]))
    assert (then["settled"], then["held"]) == ("100000.00", "0.00")
    now = datetime.now(UTC).isoformat()
    assert ledger(alice, "balances", alice.account, "--at", now)["held"] == "1000.00"


@whole
def test_entries_are_found_by_order_execution_transaction_and_trace(alice: Customer) -> None:
    placed = alice.place(BUY, "AAPL", 10)
    alice.until_filled(placed)
    until(lambda: not alice.balances().held, "nothing is held")
    by_order = ledger(alice, "entries", "--order", placed.order_id)
    assert {row["kind"] for row in by_order} == {"hold", "trade", "release"}
    assert ledger(alice, "entries", "--trace", placed.trace_id) == by_order
    trade = next(row for row in by_order if row["kind"] == "trade")
    same = [row for row in by_order if row["transaction_id"] == trade["transaction_id"]]
    assert ledger(alice, "entries", "--transaction", trade["transaction_id"]) == same
    by_execution = ledger(alice, "entries", "--execution", trade["execution_id"])
    assert [row for row in by_execution if row["kind"] == "trade"] == same
    mine = ledger(alice, "entries", alice.account, "--order", placed.order_id)
    assert mine == [row for row in by_order if row["account_id"] == alice.account]
    assert trade["transaction_id"] in run(alice.brokerage, "entries", alice.account)


@whole
def test_entries_of_nobody_are_not_asked_for(brokerage: Brokerage) -> None:
    with pytest.raises(Failure, match="Name an account, or --order"):
        run(brokerage, "entries")


@whole
@pytest.mark.parametrize("basis", ["recorded", "effective"])
def test_a_statement_goes_from_its_opening_to_its_closing_balances(alice: Customer, basis: str) -> None:
    today = new_york(time.time_ns()).date().isoformat()
    alice.until_filled(alice.place(BUY, "AAPL", 10))
    until(lambda: not alice.balances().held, "nothing is held")
    days = ("--from", today, "--to", "2035-12-31", "--basis", basis)
    found = ledger(alice, "statement", alice.account, *days)
    sums: Counter[str] = Counter()
    for row in found["entries"]:
        sums[row["path"]] += to_units(row["amount"])
    moved = {path: units for path, units in sums.items() if units}
    assert moved == {path: to_units(text) for path, text in found["closing"].items() if to_units(text)}
    assert found["closing"]["position/available/AAPL"] == "10"
    assert not any(to_units(text) for text in found["opening"].values())
    assert "position/available/AAPL" in run(alice.brokerage, "statement", alice.account, *days)


@whole
def test_a_journal_moves_between_accounts_of_the_house_and_is_reversed_once(alice: Customer) -> None:
    posted = ledger(alice, "journal", "--leg", "bank=-100.00", "--leg", "equity=100.00", "--memo", "capital")
    assert set(posted["balances"]) == {"bank", "equity"}
    rows = ledger(alice, "entries", "--transaction", posted["transaction_id"])
    assert {(row["path"], row["amount"]) for row in rows} == {("bank", "-100.00"), ("equity", "100.00")}
    undone = ledger(alice, "reverse", posted["transaction_id"], "--memo", "not ours")
    assert (undone["reverses"], undone["balances"]) == (posted["transaction_id"], None)
    assert refused(alice, "reverse", posted["transaction_id"]) == "ALREADY_REVERSED"
    assert refused(alice, "reverse", undone["transaction_id"]) == "REVERSES_REVERSAL"
    assert refused(alice, "journal", "--leg", "bank=-100.00", "--leg", "equity=99.00") == "UNBALANCED"


@whole
def test_the_reversal_of_a_deposit_says_what_is_left(alice: Customer) -> None:
    deposited = ledger(alice, "deposit", alice.account, "5")["transaction_id"]
    shown = run(alice.brokerage, "reverse", deposited)
    assert shown.endswith(f" reverses {deposited}, withdrawable 100,000.00\n")


@whole
def test_what_is_due_is_settled_and_the_future_is_refused(alice: Customer) -> None:
    ledger(alice, "settle")
    assert ledger(alice, "settle") == {"settled": [], "transactions": 0}
    assert "nothing is left to settle" in run(alice.brokerage, "settle")
    assert refused(alice, "settle", "2035-12-28") == "DATE_IN_FUTURE"


@whole
def test_reconciliation_finds_nothing_wrong(alice: Customer) -> None:
    alice.until_filled(alice.place())
    until(lambda: alice.shares() == 1, "the share is posted")
    assert ledger(alice, "reconcile")["mismatches"] == []
    assert run(alice.brokerage, "reconcile").endswith("mismatches: none\n")


def test_a_trade_booked_by_hand_stands_beside_the_executions(alice: Customer) -> None:
    """The audit that follows tells them apart."""
    operator = Client(alice.brokerage.settings, "operator:test", ["operate"])
    request = pb.TradeRequest(
        account_id=alice.account, side=BUY, symbol="IBM", quantity=3, price=200 * DOLLAR, idempotency_key="by hand"
    )
    booked = operator.call(operator.ledger.Trade, request)
    assert (booked.position.available, alice.shares("IBM")) == (3, 3)
