"""The command line as a client of the services."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from openbell.ledger.v1 import ledger_pb2_grpc
from openbell.marketdata.v1 import marketdata_pb2_grpc
from openbell.oms.v1 import oms_pb2_grpc
from ops import supervise
from ops.failure import Failure
from ops.show import command
from runtime import auth
from runtime.errors import from_rpc
from runtime.settings import Settings, load

CALL_SECONDS = 15.0
TOKEN_SECONDS = 3600
DEMO_CUSTOMER = "cus_demo"


class Client:
    """Calls as one subject: `customer:cus_demo`, `operator:cli`. Refusal when a call is refused."""

    def __init__(self, settings: Settings, subject: str, scopes: list[str]) -> None:
        token = auth.mint(settings.secret("token_private.pem"), subject, scopes, TOKEN_SECONDS)
        self._metadata = (("authorization", f"Bearer {token}"),)
        self.oms = oms_pb2_grpc.OmsServiceStub(grpc.insecure_channel(settings.address("oms")))
        self.ledger = ledger_pb2_grpc.LedgerServiceStub(grpc.insecure_channel(settings.address("ledger")))
        self.marketdata = marketdata_pb2_grpc.MarketDataServiceStub(
            grpc.insecure_channel(settings.address("marketdata"))
        )

    def call(self, method: Callable[..., Any], request: Any, *, seconds: float = CALL_SECONDS, **extra: str) -> Any:
        try:
            metadata = (*self._metadata, *extra.items())
            return method(request, metadata=metadata, timeout=seconds, wait_for_ready=True)
        except grpc.RpcError as error:
            raise from_rpc(error) from None


def running(data: Path) -> Settings:
    """Failure at once if the brokerage does not run: a call would wait for it."""
    settings = load(data.resolve())
    if not supervise.is_running(settings.data):
        raise Failure(f"the brokerage in {data} does not run; start it with: {command('up', data)}")
    return settings


def customer(data: Path, customer_id: str = DEMO_CUSTOMER) -> Client:
    return Client(running(data), f"customer:{customer_id}", ["trade", "read"])


def operator(data: Path) -> Client:
    return Client(running(data), "operator:cli", ["operate", "read", "trade", "hold"])
