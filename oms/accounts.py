"""Whose account it is: asked of the ledger once, then remembered, for an account never changes hands."""

import grpc

from oms.reasons import Reason, refuse
from openbell.ledger.v1 import ledger_pb2, ledger_pb2_grpc
from runtime import connect
from runtime.auth import Caller
from runtime.errors import Refusal, from_rpc

REMEMBERED_MAX = 1_000_000
ANSWER_SECONDS = 5.0


class Accounts:
    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self._stub = ledger_pb2_grpc.LedgerServiceStub(channel)
        self._metadata = connect.metadata(token)
        self._customers: dict[str, str] = {}

    async def check(self, account_id: str, caller: Caller, seconds: float | None) -> str:
        """The account's customer. Refusal unless the caller may use it, or if the ledger does not answer in time."""
        customer_id = self._customers.get(account_id) or await self._ask(account_id, seconds)
        if not caller.may_use(customer_id):
            raise refuse(Reason.ACCOUNT_NOT_YOURS, f"{account_id} is not yours", account_id=account_id)
        return customer_id

    async def _ask(self, account_id: str, seconds: float | None) -> str:
        request = ledger_pb2.GetAccountRequest(account_id=account_id)
        try:
            deadline = min(seconds or ANSWER_SECONDS, ANSWER_SECONDS)
            response = await self._stub.GetAccount(request, metadata=self._metadata, timeout=deadline)
        except grpc.aio.AioRpcError as error:
            raise _told(from_rpc(error), account_id) from None
        if len(self._customers) >= REMEMBERED_MAX:
            self._customers.clear()
        self._customers[account_id] = response.account.customer_id
        return response.account.customer_id


def _told(refusal: Refusal, account_id: str) -> Refusal:
    if refusal.reason == Reason.UNKNOWN_ACCOUNT:
        return refuse(Reason.UNKNOWN_ACCOUNT, refusal.message, account_id=account_id)
    return refuse(Reason.LEDGER_UNAVAILABLE, f"the ledger does not answer ({refusal.reason}); try again in a moment")
