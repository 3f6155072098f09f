"""The OMS's RPCs: decode, call, encode."""

import hashlib
from collections.abc import AsyncIterator

from oms import encode
from oms.accounts import Accounts
from oms.config import Config
from oms.orders import Ask, TimeInForce, check_names
from oms.place_order import PlaceOrder
from oms.reads import Reads
from oms.reasons import Reason, refuse
from openbell.oms.v1 import oms_pb2 as pb
from openbell.oms.v1 import oms_pb2_grpc
from runtime import auth, telemetry
from runtime.serve import Context

SERVICE = "/openbell.oms.v1.OmsService/"
SCOPES = {
    f"{SERVICE}PlaceOrder": "trade",
    f"{SERVICE}CancelOrder": "trade",
    f"{SERVICE}ReplaceOrder": "trade",
    f"{SERVICE}GetOrder": "read",
    f"{SERVICE}ListOrders": "read",
    f"{SERVICE}Subscribe": "log",
}


class OmsService(oms_pb2_grpc.OmsServiceServicer):
    def __init__(self, place: PlaceOrder, accounts: Accounts, reads: Reads, config: Config) -> None:
        self._place, self._accounts, self._reads, self._config = place, accounts, reads, config

    async def PlaceOrder(self, request: pb.PlaceOrderRequest, context: Context) -> pb.PlaceOrderResponse:
        ask = Ask(
            request.account_id,
            request.client_order_id,
            request.symbol,
            request.side,
            request.ord_type,
            request.quantity,
            request.limit_price,
            request.time_in_force or TimeInForce.DAY,
        )
        check_names(ask)
        customer_id = await self._accounts.check(ask.account_id, auth.current.get(), context.time_remaining())
        request_hash = hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
        order = await self._place(ask, customer_id, request_hash, telemetry.current.get(), context.time_remaining())
        return pb.PlaceOrderResponse(order=encode.order(order))

    async def CancelOrder(self, request: pb.CancelOrderRequest, context: Context) -> pb.CancelOrderResponse:
        raise refuse(Reason.NOT_BUILT, "cancels are not built yet")

    async def ReplaceOrder(self, request: pb.ReplaceOrderRequest, context: Context) -> pb.ReplaceOrderResponse:
        raise refuse(Reason.NOT_BUILT, "replaces are not built yet")

    async def GetOrder(self, request: pb.GetOrderRequest, context: Context) -> pb.GetOrderResponse:
        return pb.GetOrderResponse(order=encode.order(await self._reads.order(request.order_id, auth.current.get())))

    async def ListOrders(self, request: pb.ListOrdersRequest, context: Context) -> pb.ListOrdersResponse:
        await self._accounts.check(request.account_id, auth.current.get(), context.time_remaining())
        orders, following = await self._reads.orders(request.account_id, request.page_size, request.page_token)
        return pb.ListOrdersResponse(orders=[encode.order(order) for order in orders], next_page_token=following)

    async def Subscribe(self, request: pb.SubscribeRequest, context: Context) -> AsyncIterator[pb.SubscribeResponse]:
        if request.partition != self._config.partition:
            raise refuse(Reason.UNKNOWN_PARTITION, f"this OMS writes partition {self._config.partition}")
        async for rows in self._reads.tail(request.after):
            yield pb.SubscribeResponse(events=[encode.event(row) for row in rows])
