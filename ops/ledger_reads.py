"""`openbell ledger balances | entries | holds | statement`: what is in the ledger, and what was."""

import time
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Annotated, Any

import typer

from openbell.ledger.v1 import ledger_pb2 as pb
from ops.client import Client, operator
from ops.failure import Failure
from ops.ledger_options import Account, day, past
from ops.ledger_show import (
    balances_row,
    balances_table,
    entries_table,
    entry_row,
    hold_row,
    holds_table,
    lines_row,
    lines_table,
)
from ops.options import DEFAULT_DATA, Data, Json, print_json
from ops.show import console

PAGE_ROWS = 500

At = Annotated[
    str | None,
    typer.Option("--at", help="As it was: a position of the log, a transaction, or a time as 2026-11-20T15:30:00Z."),
]
Maybe = Annotated[str, typer.Argument(help="acc_...")]
Order = Annotated[str, typer.Option("--order", help="Of this order.")]
Execution = Annotated[str, typer.Option("--execution", help="Of this execution, exe_....")]
Transaction = Annotated[str, typer.Option("--transaction", help="Of this transaction, txn_....")]
Trace = Annotated[str, typer.Option("--trace", help="Of this trace, 32 hex digits.")]
From = Annotated[str, typer.Option("--from", help="The first day, as 2026-11-20.")]
To = Annotated[str, typer.Option("--to", help="The last day.")]


class Basis(StrEnum):
    RECORDED = "recorded"
    EFFECTIVE = "effective"

    @property
    def number(self) -> pb.StatementBasis.ValueType:
        return pb.StatementBasis.Value(f"STATEMENT_BASIS_{self.name}")


Days = Annotated[Basis, typer.Option("--basis", help="What the days are: of the recording, or effective dates.")]


def balances(account: Account, at: At = None, data: Data = DEFAULT_DATA, as_json: Json = False) -> None:
    """Show cash, positions and open holds, now or as they were."""
    client = operator(data)
    position, ns = past(at) if at is not None else (0, 0)
    request = pb.GetBalancesRequest(account_id=account, as_of_position=position, as_of_ns=ns)
    found = client.call(client.ledger.GetBalances, request)
    if as_json:
        open_holds = {} if at else {"holds": [hold_row(hold) for hold in found.holds]}  # there are none of the past
        print_json(balances_row(found.balances, found.positions) | open_holds)
        return
    if at:
        typer.echo(f"As of position {found.balances.as_of_position} of the log:")
    console().print(balances_table(found.balances, found.positions))
    if found.holds:
        console().print()
        console().print(holds_table(found.holds))


def entries(
    account: Maybe = "",
    order: Order = "",
    execution: Execution = "",
    transaction: Transaction = "",
    trace: Trace = "",
    data: Data = DEFAULT_DATA,
    as_json: Json = False,
) -> None:
    """Show entries, oldest first: of an account, order, execution, transaction or trace."""
    if not (account or order or execution or transaction or trace):
        raise Failure("whose entries? Name an account, or --order, --execution, --transaction or --trace")
    client = operator(data)
    request = pb.ListEntriesRequest(
        account_id=account,
        order_id=order,
        execution_id=execution,
        transaction_id=transaction,
        trace_id=trace,
        page_size=PAGE_ROWS,
    )
    found = [entry for page in pages(client, client.ledger.ListEntries, request) for entry in page.entries]
    if as_json:
        print_json([entry_row(entry) for entry in found])
    else:
        console().print(entries_table(found) if found else "no entries")


def holds(data: Data = DEFAULT_DATA, as_json: Json = False) -> None:
    """Show the open holds of all accounts, oldest first."""
    client = operator(data)
    request = pb.ListHoldsRequest(created_before_ns=time.time_ns(), page_size=PAGE_ROWS)
    found = [hold for page in pages(client, client.ledger.ListHolds, request) for hold in page.holds]
    if as_json:
        print_json([hold_row(hold) for hold in found])
    else:
        console().print(holds_table(found) if found else "no open holds")


def statement(
    account: Account,
    from_date: From,
    to_date: To,
    basis: Days = Basis.RECORDED,
    data: Data = DEFAULT_DATA,
    as_json: Json = False,
) -> None:
    """Show an account's entries between two days, with the balances before and after."""
    first, last = day("--from", from_date), day("--to", to_date)
    client = operator(data)
    request = pb.GetStatementRequest(
        account_id=account, from_date=first, to_date=last, basis=basis.number, page_size=PAGE_ROWS
    )
    found = list(pages(client, client.ledger.GetStatement, request))
    rows = [entry for page in found for entry in page.entries]
    if as_json:
        print_json(
            {
                "account_id": account,
                "from": first,
                "to": last,
                "basis": basis.value,
                "opening": lines_row(found[0].opening),
                "closing": lines_row(found[0].closing),
                "entries": [entry_row(entry) for entry in rows],
                "as_of_position": found[0].as_of_position,
            }
        )
        return
    console().print(lines_table(found[0].opening, found[0].closing))
    console().print()
    console().print(entries_table(rows) if rows else "no entries between these days")


def pages(client: Client, method: Callable[..., Any], request: Any) -> Iterator[Any]:
    """Every page, at least one."""
    while True:
        page = client.call(method, request)
        yield page
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token
