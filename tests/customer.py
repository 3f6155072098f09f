"""A customer's application: places orders, asks again by key when the outcome is unknown, keeps every answer."""

import itertools
import json
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from openbell.fix.v1 import fix_pb2
from openbell.ledger.v1 import ledger_pb2
from openbell.oms.v1 import oms_pb2
from ops import audit, order
from ops.client import Client
from runtime.errors import Refusal
from tests.brokerage import Brokerage, until

DOLLAR = 10_000
UNKNOWN = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}
BUY, SELL = fix_pb2.SIDE_BUY, fix_pb2.SIDE_SELL
FILLED = fix_pb2.ORD_STATUS_FILLED
_names = itertools.count(1)


def patiently(ask: Callable[[], Any], seconds: float = 60) -> Any:
    """The answer, asked for again by the same key while the outcome is unknown."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except Refusal as refusal:
            if refusal.status not in UNKNOWN or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


class Customer:
    """Somebody with an account and cash in it."""

    def __init__(self, brokerage: Brokerage, dollars: int = 100_000) -> None:
        self.brokerage = brokerage
        self.customer_id = f"cus_{next(_names)}_{secrets.token_hex(3)}"
        self.acknowledged = brokerage.directory / f"acknowledged-{self.customer_id}.jsonl"
        self.client = Client(brokerage.settings, f"customer:{self.customer_id}", ["trade", "read"])
        self._operator = Client(brokerage.settings, "operator:test", ["operate", "read"])
        opening = ledger_pb2.OpenAccountRequest(customer_id=self.customer_id, idempotency_key="open")
        ledger = self._operator.ledger
        self.account = patiently(lambda: self._operator.call(ledger.OpenAccount, opening)).account.account_id
        deposit = ledger_pb2.DepositRequest(
            account_id=self.account, amount=dollars * DOLLAR, idempotency_key="first deposit"
        )
        answer = patiently(lambda: self._operator.call(ledger.Deposit, deposit))
        self._keep({"transaction_id": answer.transaction_id})

    def place(
        self,
        side: fix_pb2.Side.ValueType = BUY,
        symbol: str = "AAPL",
        quantity: int = 1,
        limit: int | None = None,
        key: str | None = None,
    ) -> oms_pb2.Order:
        """The accepted order; kept as acknowledged."""
        key = key or secrets.token_hex(8)
        placed: oms_pb2.Order = patiently(
            lambda: order.place(self.client, self.account, side, symbol, quantity, limit, key)
        )
        self._keep(order.as_row(placed))
        return placed

    def place_many(self, count: int) -> list[oms_pb2.Order]:
        """That many market orders for one share each, from several threads at once."""
        with ThreadPoolExecutor(5) as threads:
            return list(threads.map(lambda _: self.place(), range(count)))

    def get(self, order_id: str) -> oms_pb2.Order:
        request = oms_pb2.GetOrderRequest(order_id=order_id)
        found: oms_pb2.Order = patiently(lambda: self.client.call(self.client.oms.GetOrder, request)).order
        return found

    def until_filled(self, *orders: oms_pb2.Order, seconds: float = 40) -> None:
        for placed in orders:
            until(lambda: self.get(placed.order_id).status == FILLED, f"{placed.order_id} is filled", seconds)  # noqa: B023

    def shares(self, symbol: str = "AAPL") -> int:
        request = ledger_pb2.GetPositionsRequest(account_id=self.account)
        rows = patiently(lambda: self.client.call(self.client.ledger.GetPositions, request)).positions
        return sum(row.available + row.held for row in rows if row.symbol == symbol)

    def balances(self) -> ledger_pb2.Balances:
        request = ledger_pb2.GetBalancesRequest(account_id=self.account)
        found: ledger_pb2.Balances = patiently(
            lambda: self.client.call(self.client.ledger.GetBalances, request)
        ).balances
        return found

    def audit(self) -> None:
        """The whole audit, and that nothing acknowledged to this customer is lost."""
        self.brokerage.audit(audit.read_acknowledged(self.acknowledged))

    def _keep(self, answer: dict[str, Any]) -> None:
        with Path(self.acknowledged).open("a") as file:
            file.write(json.dumps(answer) + "\n")
