"""`openbell ledger`: accounts, balances and entries."""

import secrets
from typing import Annotated, Any

import typer
from rich.table import Table

from openbell.ledger.v1 import ledger_pb2 as pb
from ops.client import operator
from ops.failure import Failure
from ops.options import DEFAULT_DATA, Data, Json, print_json
from ops.show import console, table
from runtime.units import CASH, to_decimal, to_dollars, to_units

app = typer.Typer(help="Accounts, balances and entries.", no_args_is_help=True, rich_markup_mode=None)

Account = Annotated[str, typer.Argument(help="acc_...")]
Key = Annotated[str | None, typer.Option("--key", help="idempotency_key; a new one without it.")]
Order = Annotated[str, typer.Option("--order", help="Only the entries of this order.")]


@app.command("open")
def open_account(customer: str, key: Key = None, data: Data = DEFAULT_DATA, as_json: Json = False) -> None:
    """Open an account for a customer."""
    client = operator(data)
    request = pb.OpenAccountRequest(customer_id=customer, idempotency_key=key or secrets.token_hex(8))
    account = client.call(client.ledger.OpenAccount, request).account
    if as_json:
        print_json({"account_id": account.account_id, "customer_id": account.customer_id})
    else:
        typer.echo(account.account_id)


@app.command(context_settings={"ignore_unknown_options": True})
def deposit(account: Account, dollars: str, key: Key = None, data: Data = DEFAULT_DATA, as_json: Json = False) -> None:
    """Put cash into an account."""
    client = operator(data)
    try:
        amount = to_units(dollars)
    except ValueError as problem:
        raise Failure(str(problem)) from None
    request = pb.DepositRequest(account_id=account, amount=amount, idempotency_key=key or secrets.token_hex(8))
    response = client.call(client.ledger.Deposit, request)
    if as_json:
        print_json({"transaction_id": response.transaction_id, "account_id": account, "amount": to_decimal(amount)})
    else:
        typer.echo(f"{response.transaction_id}: withdrawable {to_dollars(response.balances.withdrawable)}")


@app.command()
def balances(account: Account, data: Data = DEFAULT_DATA, as_json: Json = False) -> None:
    """Show cash and positions."""
    client = operator(data)
    cash = client.call(client.ledger.GetBalances, pb.GetBalancesRequest(account_id=account)).balances
    positions = client.call(client.ledger.GetPositions, pb.GetPositionsRequest(account_id=account)).positions
    if as_json:
        print_json(balances_row(cash, positions))
    else:
        console().print(balances_table(cash, positions))


@app.command()
def entries(account: Account, order: Order = "", data: Data = DEFAULT_DATA, as_json: Json = False) -> None:
    """Show the entries of an account, oldest first."""
    client = operator(data)
    request = pb.ListEntriesRequest(account_id=account, order_id=order, page_size=500)
    found: list[pb.Entry] = []
    while True:
        page = client.call(client.ledger.ListEntries, request)
        found += page.entries
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    if as_json:
        print_json([entry_row(entry) for entry in found])
    else:
        console().print(entries_table(found) if found else "no entries")


def amount(asset: str, units: int) -> str:
    return to_dollars(units) if asset == CASH else str(units)


def kind_name(kind: int) -> str:
    return pb.TransactionKind.Name(pb.TransactionKind.ValueType(kind)).removeprefix("TRANSACTION_KIND_").lower()


def balances_row(cash: pb.Balances, positions: list[pb.Position]) -> dict[str, Any]:
    return {
        "account_id": cash.account_id,
        "settled": to_decimal(cash.settled),
        "unsettled": {part.settle_date: to_decimal(part.amount) for part in cash.unsettled},
        "held": to_decimal(cash.held),
        "owed": to_decimal(cash.owed),
        "buying_power": to_decimal(cash.buying_power),
        "withdrawable": to_decimal(cash.withdrawable),
        "positions": {row.symbol: {"available": row.available, "held": row.held} for row in positions},
        "as_of_position": cash.as_of_position,
    }


def balances_table(cash: pb.Balances, positions: list[pb.Position]) -> Table:
    rows = table("balance", "amount", right=("amount",))
    rows.add_row("settled cash, withdrawable", to_dollars(cash.settled))
    for part in cash.unsettled:
        rows.add_row(f"unsettled cash until {part.settle_date}", to_dollars(part.amount))
    rows.add_row("buying power", to_dollars(cash.buying_power))
    rows.add_row("held for orders", to_dollars(cash.held))
    if cash.owed:
        rows.add_row("owed", to_dollars(cash.owed))
    for row in positions:
        rows.add_row(f"{row.symbol}, available / held", f"{row.available} / {row.held}")
    return rows


def entry_row(entry: pb.Entry) -> dict[str, Any]:
    show = to_decimal if entry.asset == CASH else str
    return {
        "transaction_id": entry.transaction_id,
        "kind": kind_name(entry.kind),
        "account_id": entry.account_id,
        "path": entry.path,
        "asset": entry.asset,
        "amount": show(entry.amount),
        "balance": show(entry.balance),
        "effective_date": entry.effective_date,
        "order_id": entry.order_id,
        "execution_id": entry.execution_id,
    }


def entries_table(found: list[pb.Entry]) -> Table:
    rows = table("transaction", "kind", "path", "debit", "credit", "balance", right=("debit", "credit", "balance"))
    for entry in found:
        debit = amount(entry.asset, -entry.amount) if entry.amount < 0 else ""
        credit = amount(entry.asset, entry.amount) if entry.amount > 0 else ""
        balance = amount(entry.asset, entry.balance)
        rows.add_row(entry.transaction_id, kind_name(entry.kind), entry.path, debit, credit, balance)
    return rows
