"""`openbell ledger open | deposit | withdraw | journal | reverse | settle | reconcile`: what an operator does.

What has a key can be asked for again when its outcome is unknown; the commands say so, with the key.
"""

import time
from collections.abc import Callable
from datetime import date
from typing import Annotated, Any

import grpc
import typer

from openbell.ledger.v1 import ledger_pb2 as pb
from ops.client import Client, operator
from ops.failure import Failure
from ops.ledger_options import Account, Key, Memo, day, key_of, leg, to_cash
from ops.ledger_show import cash_row, legs_row, legs_table, mismatch_row, mismatches_table
from ops.options import DEFAULT_DATA, Data, Json, print_json
from ops.show import console
from runtime.calendar import new_york
from runtime.errors import Refusal
from runtime.units import to_decimal, to_dollars

UNKNOWN = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}
RUN_SECONDS = 600.0  # a day's settlement or reconciliation may be long; both may be asked for again

Dollars = Annotated[str, typer.Argument(help="As 150.25.")]
Legs = Annotated[
    list[str],
    typer.Option("--leg", help="PATH=AMOUNT: dollars, or shares of street/SYMBOL; credits positive, debits negative."),
]
Transaction = Annotated[str, typer.Argument(help="txn_...")]
UpTo = Annotated[str | None, typer.Argument(help="As 2026-11-20; without it today in New York.")]


def open_account(customer: str, key: Key = None, data: Data = DEFAULT_DATA, as_json: Json = False) -> None:
    """Open an account for a customer."""
    client = operator(data)
    request = pb.OpenAccountRequest(customer_id=customer, idempotency_key=key_of(key))
    account = ask(client, client.ledger.OpenAccount, request).account
    if as_json:
        print_json({"account_id": account.account_id, "customer_id": account.customer_id})
    else:
        typer.echo(account.account_id)


def deposit(
    account: Account, dollars: Dollars, key: Key = None, data: Data = DEFAULT_DATA, as_json: Json = False
) -> None:
    """Put cash into an account."""
    client, amount = operator(data), to_cash(dollars)
    request = pb.DepositRequest(account_id=account, amount=amount, idempotency_key=key_of(key))
    _print_moved(ask(client, client.ledger.Deposit, request), amount, as_json)


def withdraw(
    account: Account, dollars: Dollars, key: Key = None, data: Data = DEFAULT_DATA, as_json: Json = False
) -> None:
    """Pay settled cash out of an account."""
    client, amount = operator(data), to_cash(dollars)
    request = pb.WithdrawRequest(account_id=account, amount=amount, idempotency_key=key_of(key))
    _print_moved(ask(client, client.ledger.Withdraw, request), amount, as_json)


def _print_moved(response: Any, amount: int, as_json: bool) -> None:
    cash = response.balances
    if as_json:
        moved = {"transaction_id": response.transaction_id, "account_id": cash.account_id, "amount": to_decimal(amount)}
        print_json(moved | {"balances": cash_row(cash)})
    else:
        typer.echo(f"{response.transaction_id}: withdrawable {to_dollars(cash.withdrawable)}")


def journal(legs: Legs, memo: Memo = "", key: Key = None, data: Data = DEFAULT_DATA, as_json: Json = False) -> None:
    """Move cash or shares between accounts of the house: bank, fees, equity, clearing/DATE, street/SYMBOL."""
    client = operator(data)
    request = pb.JournalRequest(legs=[leg(text) for text in legs], memo=memo, idempotency_key=key_of(key))
    response = ask(client, client.ledger.Journal, request)
    if as_json:
        print_json({"transaction_id": response.transaction_id, "balances": legs_row(response.balances)})
        return
    typer.echo(response.transaction_id)
    console().print(legs_table(response.balances))


def reverse(
    transaction: Transaction, memo: Memo = "", key: Key = None, data: Data = DEFAULT_DATA, as_json: Json = False
) -> None:
    """Undo a deposit, withdrawal or journal by its opposite, once."""
    client = operator(data)
    request = pb.ReverseRequest(transaction_id=transaction, memo=memo, idempotency_key=key_of(key))
    response = ask(client, client.ledger.Reverse, request)
    cash = response.balances
    if as_json:
        done = {"transaction_id": response.transaction_id, "reverses": transaction}
        print_json(done | {"balances": cash_row(cash) if cash.account_id else None})
        return
    left = f", withdrawable {to_dollars(cash.withdrawable)}" if cash.account_id else ""
    typer.echo(f"{response.transaction_id} reverses {transaction}{left}")


def settle(up_to: UpTo = None, data: Data = DEFAULT_DATA, as_json: Json = False) -> None:
    """Settle every date up to one. The ledger does this by itself each settlement day."""
    client = operator(data)
    last = day("the date", up_to) if up_to else _today().isoformat()
    response = client.call(client.ledger.Settle, pb.SettleRequest(settle_date=last), seconds=RUN_SECONDS)
    if as_json:
        print_json({"settled": list(response.settled), "transactions": response.transactions})
    elif response.settled:
        typer.echo(f"settled {', '.join(response.settled)}; transactions posted: {response.transactions}")
    else:
        typer.echo(f"nothing is left to settle up to {last}")


def reconcile(data: Data = DEFAULT_DATA, as_json: Json = False) -> None:
    """Compare what was posted with the executions, and clearing with what has settled; exit 1 if they differ."""
    client = operator(data)
    response = client.call(client.ledger.Reconcile, pb.ReconcileRequest(), seconds=RUN_SECONDS)
    found = response.mismatches
    if as_json:
        print_json({"executions": response.executions, "mismatches": [mismatch_row(each) for each in found]})
    else:
        typer.echo(f"{response.executions} executions compared; mismatches: {len(found) or 'none'}")
        if found:
            console().print(mismatches_table(found))
    if found:
        raise typer.Exit(1)


def ask(client: Client, method: Callable[..., Any], request: Any) -> Any:
    """Failure with the key if nobody knows whether it was done: another key might do it twice."""
    try:
        return client.call(method, request)
    except Refusal as refusal:
        if refusal.status not in UNKNOWN:
            raise
        key = request.idempotency_key
        raise Failure(f"{refusal.message}: it may have been done or not; ask again with --key {key}") from None


def _today() -> date:
    """Of the exchange, not of this machine."""
    return new_york(time.time_ns()).date()
