"""`openbell demo`: a customer deposits, buys, sells; what it led to is shown from order to entries."""

import asyncio
from pathlib import Path
from typing import Any

from rich.console import Console

from openbell.fix.v1 import fix_pb2
from openbell.ledger.v1 import ledger_pb2
from openbell.oms.v1 import oms_pb2
from ops import audit, order, trace
from ops.client import Client, customer, operator
from ops.failure import Failure
from ops.ledger_show import balances_row, balances_table
from ops.options import DEFAULT_DATA, Data, Json, print_json
from ops.show import command, console
from runtime.settings import Settings, load
from runtime.units import SCALE

SYMBOL, SHARES = "AAPL", 10
DEPOSIT = 10_000 * SCALE
AUDIT_SECONDS = 10.0


def demo(data: Data = DEFAULT_DATA, as_json: Json = False) -> None:
    """Buy and sell one stock, and show what happened."""
    settings = load(data.resolve())
    out = console(quiet=as_json)
    account = order.demo_account(data)
    _deposit(data, account)
    out.print(f"Customer cus_demo, account {account}, has 10,000.00 dollars more.\n")
    client = customer(data)
    placed = [_trade(client, account, side) for side in (fix_pb2.SIDE_BUY, fix_pb2.SIDE_SELL)]
    violations = asyncio.run(audit.until_clean(settings, [], AUDIT_SECONDS))[1]
    traces = [asyncio.run(trace.read(settings, each.order_id)) for each in placed]
    for each, found in zip(placed, traces, strict=True):
        _show(settings, out, each, found)
    cash, positions = _balances(data, account)
    out.print(balances_table(cash, positions))
    if as_json:
        print_json(_as_data(account, placed, traces, violations, balances_row(cash, positions)))
    if violations:
        raise Failure(f"the audit found {len(violations)} violations; look with: {command('audit', data)}")
    out.print(_how_to_go_on(data, account, placed[0].order_id))


def _deposit(data: Path, account: str) -> None:
    client = operator(data)
    # Each run deposits anew, so that it can always buy: the key counts what was deposited before.
    entries = client.call(client.ledger.GetBalances, ledger_pb2.GetBalancesRequest(account_id=account))
    key = f"demo deposit at {entries.balances.as_of_position}"
    client.call(
        client.ledger.Deposit,
        ledger_pb2.DepositRequest(account_id=account, amount=DEPOSIT, idempotency_key=key),
    )


def _trade(client: Client, account: str, side: fix_pb2.Side.ValueType) -> oms_pb2.Order:
    """A market order, done. Failure if it does not fill."""
    done = order.until_done(client, order.place(client, account, side, SYMBOL, SHARES), seconds=20)
    if done.status != fix_pb2.ORD_STATUS_FILLED:
        raise Failure(f"{done.order_id} is {order.status_name(done)} {done.reason}; look with: openbell status")
    return done


def _balances(data: Path, account: str) -> tuple[ledger_pb2.Balances, list[ledger_pb2.Position]]:
    client = operator(data)
    cash = client.call(client.ledger.GetBalances, ledger_pb2.GetBalancesRequest(account_id=account)).balances
    held = client.call(client.ledger.GetPositions, ledger_pb2.GetPositionsRequest(account_id=account)).positions
    return cash, list(held)


def _show(settings: Settings, out: Console, placed: oms_pb2.Order, found: trace.Trace) -> None:
    out.print(order.orders_table([placed]))
    out.print("\nFIX messages")
    for time, message in trace.fix_messages(settings, placed.order_id):
        out.print(f"  {time}  {message}", soft_wrap=True)
    out.print()
    trace.show(found, out)
    out.print()


def _as_data(
    account: str,
    placed: list[oms_pb2.Order],
    traces: list[trace.Trace],
    violations: list[audit.Violation],
    balances: dict[str, Any],
) -> dict[str, Any]:
    orders = []
    for each, found in zip(placed, traces, strict=True):
        fills = [span for _, span in found.spans if span.name == "fix in"]
        executions = [
            {
                "execution_id": span.attributes["openbell.execution_id"],
                "exec_id": span.attributes["fix.exec_id"],
                "kind": span.attributes["openbell.kind"],
            }
            for span in fills
        ]
        entries = trace.as_data(found)["entries"]
        transactions: dict[str, list[dict[str, Any]]] = {}
        for entry in entries:
            transactions.setdefault(entry["transaction_id"], []).append(entry)
        listed = [
            {"transaction_id": key, "kind": legs[0]["kind"], "entries": legs} for key, legs in transactions.items()
        ]
        orders.append(order.as_row(each) | {"executions": executions, "ledger_transactions": listed})
    return {
        "account_id": account,
        "orders": orders,
        "balances": balances,
        "zero_sum": not any(violation.invariant == "I3" for violation in violations),
        "violations": len(violations),
    }


def _how_to_go_on(data: Path, account: str, order_id: str) -> str:
    further = (
        "order buy AAPL 5 --limit 150.25",
        "orders",
        f"trace {order_id}",
        f"ledger entries {account}",
        "audit",
        "status",
    )
    lines = [f"  {command(words, data)}" for words in further]
    return "\n".join(["\nThe brokerage is running. To look further:", *lines, f"To stop it: {command('down', data)}"])
