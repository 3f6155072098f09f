"""The ledger's RPCs: decode, call, encode."""

import hashlib
import time
from collections.abc import AsyncIterator
from typing import Any

from google.protobuf.message import Message

from ledger import commands, encode
from ledger.accounts import Account
from ledger.commands import Request
from ledger.config import Config
from ledger.reads import Reads
from ledger.reasons import Reason, refuse
from ledger.writer import Item
from openbell.ledger.v1 import ledger_pb2 as pb
from openbell.ledger.v1 import ledger_pb2_grpc
from runtime import auth, telemetry
from runtime.batch import Batcher
from runtime.serve import Context

SERVICE = "/openbell.ledger.v1.LedgerService/"
SCOPES = {
    f"{SERVICE}OpenAccount": "operate",
    f"{SERVICE}GetAccount": "read",
    f"{SERVICE}Deposit": "operate",
    f"{SERVICE}Withdraw": "operate",
    f"{SERVICE}Hold": "hold",
    f"{SERVICE}AdjustHold": "hold",
    f"{SERVICE}Release": "hold",
    f"{SERVICE}GetHold": "hold",
    f"{SERVICE}ListHolds": "hold",
    f"{SERVICE}GetBalances": "read",
    f"{SERVICE}GetPositions": "read",
    f"{SERVICE}ListEntries": "read",
    f"{SERVICE}Subscribe": "log",
}


class LedgerService(ledger_pb2_grpc.LedgerServiceServicer):
    def __init__(self, writer: Batcher[Item, bytes], reads: Reads, config: Config) -> None:
        self._writer, self._reads, self._config = writer, reads, config

    async def OpenAccount(self, request: pb.OpenAccountRequest, context: Context) -> pb.OpenAccountResponse:
        command = commands.OpenAccount(request.customer_id)
        return pb.OpenAccountResponse.FromString(await self._do(request, request.customer_id, command, context))

    async def Deposit(self, request: pb.DepositRequest, context: Context) -> pb.DepositResponse:
        command = commands.Deposit(request.account_id, request.amount)
        return pb.DepositResponse.FromString(await self._do(request, request.account_id, command, context))

    async def Withdraw(self, request: pb.WithdrawRequest, context: Context) -> pb.WithdrawResponse:
        command = commands.Withdraw(request.account_id, request.amount)
        return pb.WithdrawResponse.FromString(await self._do(request, request.account_id, command, context))

    async def Hold(self, request: pb.HoldRequest, context: Context) -> pb.HoldResponse:
        command = commands.PlaceHold(request.account_id, request.order_id, request.asset, request.amount)
        return pb.HoldResponse.FromString(await self._do(request, request.account_id, command, context))

    async def AdjustHold(self, request: pb.AdjustHoldRequest, context: Context) -> pb.AdjustHoldResponse:
        command = commands.AdjustHold(request.hold_id, request.amount)
        return pb.AdjustHoldResponse.FromString(await self._do(request, request.hold_id, command, context))

    async def Release(self, request: pb.ReleaseRequest, context: Context) -> pb.ReleaseResponse:
        command = commands.ReleaseHold(request.hold_id)
        return pb.ReleaseResponse.FromString(await self._do(request, request.hold_id, command, context))

    async def _do(self, request: Any, scope: str, command: commands.Command, context: Context) -> bytes:
        if not request.idempotency_key:
            raise refuse(Reason.MISSING_KEY, "idempotency_key is missing")
        trace = telemetry.current.get()
        return await self._writer.submit(
            Request(
                f"{type(command).__name__} {scope}",
                request.idempotency_key,
                _hash(request),
                command,
                trace.trace_id,
                time.time_ns(),
            )
        )

    async def GetAccount(self, request: pb.GetAccountRequest, context: Context) -> pb.GetAccountResponse:
        account, _ = await self._mine(request.account_id)
        return pb.GetAccountResponse(account=encode.account(account))

    async def GetBalances(self, request: pb.GetBalancesRequest, context: Context) -> pb.GetBalancesResponse:
        account, position = await self._mine(request.account_id)
        return pb.GetBalancesResponse(balances=encode.balances(account, position))

    async def GetPositions(self, request: pb.GetPositionsRequest, context: Context) -> pb.GetPositionsResponse:
        account, position = await self._mine(request.account_id)
        return pb.GetPositionsResponse(positions=encode.positions(account), as_of_position=position)

    async def GetHold(self, request: pb.GetHoldRequest, context: Context) -> pb.GetHoldResponse:
        hold, trace_id = await self._reads.hold(request.account_id, request.idempotency_key)
        return pb.GetHoldResponse(hold=encode.hold(hold), trace_id=trace_id.hex())

    async def ListHolds(self, request: pb.ListHoldsRequest, context: Context) -> pb.ListHoldsResponse:
        holds, token = await self._reads.holds(request.created_before_ns, request.page_size, request.page_token)
        return pb.ListHoldsResponse(holds=[encode.hold(hold) for hold in holds], next_page_token=token)

    async def ListEntries(self, request: pb.ListEntriesRequest, context: Context) -> pb.ListEntriesResponse:
        await self._mine(request.account_id)
        rows, token = await self._reads.entries(
            request.account_id, request.order_id, request.page_size, request.page_token
        )
        return pb.ListEntriesResponse(entries=[encode.entry(row) for row in rows], next_page_token=token)

    async def Subscribe(self, request: pb.SubscribeRequest, context: Context) -> AsyncIterator[pb.SubscribeResponse]:
        if request.partition != self._config.partition:
            raise refuse(Reason.UNKNOWN_PARTITION, f"this ledger writes partition {self._config.partition}")
        async for rows in self._reads.tail(request.after):
            yield pb.SubscribeResponse(transactions=[encode.transaction(row, legs) for row, legs in rows])

    async def _mine(self, account_id: str) -> tuple[Account, int]:
        account, position = await self._reads.account(account_id)
        if not auth.current.get().may_use(account.customer_id):
            raise refuse(Reason.ACCOUNT_NOT_YOURS, f"{account_id} is not yours", account_id=account_id)
        return account, position


def _hash(request: Message) -> bytes:
    """Over the request's own canonical bytes: the same content gives the same hash."""
    return hashlib.sha256(type(request).__name__.encode() + request.SerializeToString(deterministic=True)).digest()
