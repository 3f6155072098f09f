"""`openbell order buy | sell | show`, `openbell orders`: as the demo customer, or as --customer."""

import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from openbell.fix.v1 import fix_pb2
from openbell.ledger.v1 import ledger_pb2
from openbell.oms.v1 import oms_pb2 as pb
from ops.client import DEMO_CUSTOMER, Client, customer, operator
from ops.failure import Failure
from ops.options import DEFAULT_DATA, Data, Json, print_json
from ops.show import console, table
from runtime.units import to_decimal, to_dollars, to_units

OPEN = {fix_pb2.ORD_STATUS_PENDING_NEW, fix_pb2.ORD_STATUS_NEW, fix_pb2.ORD_STATUS_PARTIALLY_FILLED}
DONE_SECONDS = 5.0
POLL_SECONDS = 0.02
RESTS_SECONDS = 0.5  # confirmed and not filled for so long: it rests

app = typer.Typer(help="Place and show orders.", no_args_is_help=True, rich_markup_mode=None)

Symbol = Annotated[str, typer.Argument(help="AAPL, ...")]
Quantity = Annotated[int, typer.Argument(help="Whole shares.")]
Limit = Annotated[str | None, typer.Option("--limit", help="Limit price, as 150.25; a market order without it.")]
Account = Annotated[str | None, typer.Option("--account", help="acc_...; without it the demo customer's.")]
Last = Annotated[int, typer.Option("--last", min=1, help="How many, the newest.")]
Customer = Annotated[str, typer.Option("--customer", help="Whose order it is.")]
Key = Annotated[str | None, typer.Option("--key", help="client_order_id; a new one without it.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Print the first answer; do not wait for executions.")]


def _placing(side: fix_pb2.Side.ValueType) -> Callable[..., None]:
    def command(
        symbol: Symbol,
        quantity: Quantity,
        limit: Limit = None,
        account: Account = None,
        customer_id: Customer = DEMO_CUSTOMER,
        key: Key = None,
        no_wait: NoWait = False,
        data: Data = DEFAULT_DATA,
        as_json: Json = False,
    ) -> None:
        client = customer(data, customer_id)
        found = account or demo_account(data, customer_id)
        order = place(client, found, side, symbol, quantity, price(limit), key)
        _print(order if no_wait else until_done(client, order), as_json)

    return command


NEGATIVE = {"ignore_unknown_options": True}  # -5 is a quantity that is refused, not an option

app.command("buy", help="Buy shares.", context_settings=NEGATIVE)(_placing(fix_pb2.SIDE_BUY))
app.command("sell", help="Sell shares.", context_settings=NEGATIVE)(_placing(fix_pb2.SIDE_SELL))


@app.command()
def show(order_id: str, data: Data = DEFAULT_DATA, as_json: Json = False) -> None:
    """Show one order."""
    client = operator(data)
    _print(client.call(client.oms.GetOrder, pb.GetOrderRequest(order_id=order_id)).order, as_json)


def orders(account: Account = None, last: Last = 100, data: Data = DEFAULT_DATA, as_json: Json = False) -> None:
    """List an account's orders, newest first."""
    client = operator(data)
    request = pb.ListOrdersRequest(account_id=account or demo_account(data), page_size=500)
    found: list[pb.Order] = []
    while len(found) < last and (request.page_token or not found):
        page = client.call(client.oms.ListOrders, request)
        found += page.orders
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    if as_json:
        print_json([as_row(order) for order in found[:last]])
        return
    console().print(orders_table(found[:last]))
    if len(found) > last or request.page_token:
        typer.echo(f"These are the newest {last}; more with --last.")


def price(limit: str | None) -> int | None:
    if limit is None:
        return None
    try:
        return to_units(limit)
    except ValueError as problem:
        raise Failure(f"--limit: {problem}") from None


def demo_account(data: Path, customer_id: str = DEMO_CUSTOMER) -> str:
    """The demo customer's account, opened at the first call. Failure for other customers: theirs must be named."""
    if customer_id != DEMO_CUSTOMER:
        raise Failure(f"name {customer_id}'s account with --account")
    client = operator(data)
    request = ledger_pb2.OpenAccountRequest(customer_id=customer_id, idempotency_key="first account")
    return str(client.call(client.ledger.OpenAccount, request).account.account_id)


def place(
    client: Client,
    account: str,
    side: fix_pb2.Side.ValueType,
    symbol: str,
    quantity: int,
    limit: int | None = None,
    key: str | None = None,
) -> pb.Order:
    """A market order if `limit` is None."""
    if not -(2**63) <= quantity < 2**63:
        raise Failure(f"{quantity} shares are more than anybody has")
    request = pb.PlaceOrderRequest(
        account_id=account,
        client_order_id=key or secrets.token_hex(8),
        symbol=symbol,
        side=side,
        ord_type=fix_pb2.ORD_TYPE_MARKET if limit is None else fix_pb2.ORD_TYPE_LIMIT,
        quantity=quantity,
        limit_price=limit or 0,
    )
    placed: pb.Order = client.call(client.oms.PlaceOrder, request).order
    return placed


def until_done(client: Client, order: pb.Order, seconds: float = DONE_SECONDS) -> pb.Order:
    """The order once it is done or rests at the venue, or as it stands after `seconds`."""
    deadline = time.monotonic() + seconds
    while order.status in OPEN and time.monotonic() < deadline:
        if order.status != fix_pb2.ORD_STATUS_PENDING_NEW:
            deadline = min(deadline, time.monotonic() + RESTS_SECONDS)
        time.sleep(POLL_SECONDS)
        order = client.call(client.oms.GetOrder, pb.GetOrderRequest(order_id=order.order_id)).order
    return order


def status_name(order: pb.Order) -> str:
    return fix_pb2.OrdStatus.Name(order.status).removeprefix("ORD_STATUS_")


def side_name(order: pb.Order) -> str:
    return fix_pb2.Side.Name(order.side).removeprefix("SIDE_")


def as_row(order: pb.Order) -> dict[str, Any]:
    filled = order.cum_quantity
    average = to_decimal((order.filled_value + filled // 2) // filled) if filled else None
    return {
        "order_id": order.order_id,
        "account_id": order.account_id,
        "client_order_id": order.client_order_id,
        "symbol": order.symbol,
        "side": side_name(order),
        "type": fix_pb2.OrdType.Name(order.ord_type).removeprefix("ORD_TYPE_"),
        "quantity": order.quantity,
        "limit": to_decimal(order.limit_price) if order.limit_price else None,
        "status": status_name(order),
        "reason": order.reason,
        "filled": filled,
        "average_price": average,
        "trace_id": order.trace_id,
    }


def orders_table(found: list[pb.Order]) -> Table:
    numbers = ("quantity", "limit", "filled", "value")
    rows = table("order", "side", "quantity", "symbol", "limit", "status", "filled", "value", "reason", right=numbers)
    for order in found:
        rows.add_row(
            order.order_id,
            side_name(order).lower(),
            str(order.quantity),
            order.symbol,
            to_dollars(order.limit_price) if order.limit_price else "market",
            status_name(order),
            str(order.cum_quantity),
            to_dollars(order.filled_value),
            order.reason,
        )
    return rows


def _print(order: pb.Order, as_json: bool) -> None:
    if as_json:
        print_json(as_row(order))
    else:
        console().print(orders_table([order]))
