"""Holds at the ledger: one for each order, found again when an earlier attempt's outcome is unknown."""

from dataclasses import dataclass

import grpc

from oms.reasons import Reason, refuse
from openbell.ledger.v1 import ledger_pb2 as pb
from openbell.ledger.v1 import ledger_pb2_grpc
from runtime import connect
from runtime.errors import Refusal, from_rpc

KEYED = [f"openbell.ledger.v1.LedgerService/{method}" for method in ("Hold", "AdjustHold", "Release")]
ATTEMPTS_MAX = 20
PASSING = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,
}
REFUSALS = {Reason.INSUFFICIENT_FUNDS, Reason.INSUFFICIENT_SHARES, Reason.ACCOUNT_OWES, Reason.UNKNOWN_ACCOUNT}


@dataclass(frozen=True, slots=True)
class Held:
    hold_id: str
    order_id: str
    asset: str
    amount: int


class Holds:
    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self._stub = ledger_pb2_grpc.LedgerServiceStub(channel)
        self._token = token

    async def place(
        self, account_id: str, key: str, order_id: str, asset: str, amount: int, traceparent: str, seconds: float
    ) -> Held:
        """A hold made under `key`. Refusal KEY_REUSED if an earlier attempt used the key with other content."""
        request = pb.HoldRequest(
            account_id=account_id, idempotency_key=key, order_id=order_id, asset=asset, amount=amount
        )
        metadata = connect.metadata(self._token, traceparent)
        try:
            response = await self._stub.Hold(request, metadata=metadata, timeout=seconds, wait_for_ready=True)
        except grpc.aio.AioRpcError as error:
            raise _told(from_rpc(error)) from None
        return _held(response.hold)

    async def find(self, account_id: str, key: str, seconds: float) -> tuple[Held, bytes] | None:
        """The open hold made under `key`, and its trace id; None if that attempt was refused, or its hold released."""
        request = pb.GetHoldRequest(account_id=account_id, idempotency_key=key)
        try:
            response = await self._stub.GetHold(request, metadata=connect.metadata(self._token), timeout=seconds)
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                return None
            raise _told(from_rpc(error)) from None
        if response.hold.state != pb.HOLD_STATE_OPEN:
            return None
        return _held(response.hold), bytes.fromhex(response.trace_id)

    async def open_before(self, before_ns: int, seconds: float) -> list[Held]:
        """Every open hold made before that time."""
        found: list[Held] = []
        request = pb.ListHoldsRequest(created_before_ns=before_ns, page_size=500)
        while True:
            page = await self._stub.ListHolds(request, metadata=connect.metadata(self._token), timeout=seconds)
            found += [_held(hold) for hold in page.holds]
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    async def release(self, hold_id: str, seconds: float) -> None:
        request = pb.ReleaseRequest(hold_id=hold_id, idempotency_key="order never came")
        await self._stub.Release(request, metadata=connect.metadata(self._token), timeout=seconds)


def _held(hold: pb.HoldRecord) -> Held:
    return Held(hold.hold_id, hold.order_id, hold.asset, hold.remaining)


def _told(refusal: Refusal) -> Refusal:
    if refusal.reason == Reason.KEY_REUSED:
        return refusal
    if refusal.reason in REFUSALS:
        return refuse(Reason(refusal.reason), refusal.message, **refusal.metadata)
    if refusal.status in PASSING:
        return refuse(
            Reason.LEDGER_UNAVAILABLE, f"the ledger does not answer ({refusal.reason}); try again in a moment"
        )
    return refuse(Reason.LEDGER_REFUSED, f"the ledger refuses: {refusal.message}", ledger_reason=refusal.reason)
