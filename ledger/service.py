"""The ledger's RPCs: decode, call, encode."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc

from ledger import decode, decode_queries, encode
from ledger.accounts import Account, house_id
from ledger.book import Request
from ledger.config import Config
from ledger.planner import Item
from ledger.reads import NOW, Reads
from ledger.reasons import Reason, refuse
from ledger.reconcile import Reconciler
from ledger.settle import Settler
from openbell.ledger.v1 import ledger_pb2 as pb
from openbell.ledger.v1 import ledger_pb2_grpc
from runtime import auth, telemetry
from runtime.batch import Batcher, Window
from runtime.errors import Refusal
from runtime.serve import Context, Scopes, as_refusal, check_message

SERVICE = "/openbell.ledger.v1.LedgerService/"
POSTS = ("operate", "hold")  # one of them; each command in a batch needs its own
SCOPES: Scopes = {
    f"{SERVICE}OpenAccount": "operate",
    f"{SERVICE}GetAccount": "read",
    f"{SERVICE}Deposit": "operate",
    f"{SERVICE}Withdraw": "operate",
    f"{SERVICE}Hold": "hold",
    f"{SERVICE}AdjustHold": "hold",
    f"{SERVICE}Capture": "hold",
    f"{SERVICE}Release": "hold",
    f"{SERVICE}Trade": "operate",
    f"{SERVICE}Journal": "operate",
    f"{SERVICE}Reverse": "operate",
    f"{SERVICE}SubmitBatch": POSTS,
    f"{SERVICE}SubmitStream": POSTS,
    f"{SERVICE}Settle": "operate",
    f"{SERVICE}Reconcile": "operate",
    f"{SERVICE}GetHold": "hold",
    f"{SERVICE}ListHolds": "hold",
    f"{SERVICE}GetBalances": "read",
    f"{SERVICE}GetPositions": "read",
    f"{SERVICE}ListEntries": "read",
    f"{SERVICE}GetStatement": "read",
    f"{SERVICE}Subscribe": "log",
}
COMMANDS_MAX = 1_000  # in a batch
STREAM_WINDOW = 2_000  # commands of a stream that may be under way: one stream must not fill the queue
Decoded = Sequence[Request | bytes]  # a command, or the answer of one that cannot be decoded
Asked = tuple[Decoded, asyncio.Future[Sequence[bytes | Exception]]]
CODES = {status.value[0]: status for status in grpc.StatusCode}


class LedgerService(ledger_pb2_grpc.LedgerServiceServicer):
    def __init__(
        self, writer: Batcher[Item, bytes], reads: Reads, settler: Settler, reconciler: Reconciler, config: Config
    ) -> None:
        self._writer, self._reads, self._config = writer, reads, config
        self._settler, self._reconciler = settler, reconciler

    # --- commands

    async def OpenAccount(self, request: pb.OpenAccountRequest, context: Context) -> pb.OpenAccountResponse:
        return (await self._do(request)).open_account

    async def Deposit(self, request: pb.DepositRequest, context: Context) -> pb.DepositResponse:
        return (await self._do(request)).deposit

    async def Withdraw(self, request: pb.WithdrawRequest, context: Context) -> pb.WithdrawResponse:
        return (await self._do(request)).withdraw

    async def Hold(self, request: pb.HoldRequest, context: Context) -> pb.HoldResponse:
        return (await self._do(request)).hold

    async def AdjustHold(self, request: pb.AdjustHoldRequest, context: Context) -> pb.AdjustHoldResponse:
        return (await self._do(request)).adjust_hold

    async def Capture(self, request: pb.CaptureRequest, context: Context) -> pb.CaptureResponse:
        return (await self._do(request)).capture

    async def Release(self, request: pb.ReleaseRequest, context: Context) -> pb.ReleaseResponse:
        return (await self._do(request)).release

    async def Trade(self, request: pb.TradeRequest, context: Context) -> pb.TradeResponse:
        return (await self._do(request)).trade

    async def Journal(self, request: pb.JournalRequest, context: Context) -> pb.JournalResponse:
        return (await self._do(request)).journal

    async def Reverse(self, request: pb.ReverseRequest, context: Context) -> pb.ReverseResponse:
        return (await self._do(request)).reverse

    async def _do(self, request: Any) -> pb.Answer:
        decoded = decode.request(request, telemetry.current.get().trace_id, time.time_ns())
        answer = pb.Answer.FromString(await self._writer.submit(decoded))
        if answer.HasField("refused"):
            raise _refusal(answer.refused)
        return answer

    async def SubmitBatch(self, request: pb.SubmitBatchRequest, context: Context) -> pb.SubmitBatchResponse:
        decoded = _decode_all(request.commands)
        requests = [each for each in decoded if isinstance(each, Request)]
        answers = await self._writer.submit_all(requests) if requests else ()
        return pb.SubmitBatchResponse.FromString(_told(decoded, answers))

    async def SubmitStream(
        self, requests: AsyncIterator[pb.SubmitStreamRequest], context: Context
    ) -> AsyncIterator[pb.SubmitStreamResponse]:
        """Reads ahead, so that what is asked queues for one commit; answers in the order of the requests."""
        asked: asyncio.Queue[Asked | None] = asyncio.Queue()
        window = Window(STREAM_WINDOW)
        reader = asyncio.create_task(self._read(requests, asked, window))
        try:
            while (waiting := await asked.get()) is not None:
                decoded, answers = waiting
                yield pb.SubmitStreamResponse.FromString(_told(decoded, await answers))
                window.leave(len(decoded))
            await reader
        finally:
            reader.cancel()

    async def _read(
        self, requests: AsyncIterator[pb.SubmitStreamRequest], asked: asyncio.Queue[Asked | None], window: Window
    ) -> None:
        try:
            async for request in requests:
                check_message(request)
                decoded = _decode_all(request.commands)
                await window.enter(len(decoded))
                answers = await self._writer.queue_all([each for each in decoded if isinstance(each, Request)])
                await asked.put((decoded, answers))
        finally:
            await asked.put(None)

    # --- what the ledger also does by itself

    async def Settle(self, request: pb.SettleRequest, context: Context) -> pb.SettleResponse:
        return await self._settler.settle(decode.past_date(request.settle_date))

    async def Reconcile(self, request: pb.ReconcileRequest, context: Context) -> pb.ReconcileResponse:
        return await self._reconciler.run()

    # --- queries

    async def GetAccount(self, request: pb.GetAccountRequest, context: Context) -> pb.GetAccountResponse:
        account = await self._reads.owner(request.account_id)
        _check_use(account)
        return pb.GetAccountResponse(account=encode.account(account))

    async def GetBalances(self, request: pb.GetBalancesRequest, context: Context) -> pb.GetBalancesResponse:
        moment = decode_queries.moment(request, time.time_ns())
        if moment == NOW:
            account, position, holds = await self._reads.standing(request.account_id)
        else:
            (account, position), holds = await self._reads.account(request.account_id, moment), []
        _check_use(account)
        return pb.GetBalancesResponse(
            balances=encode.balances(account, position),
            positions=encode.positions(account),
            holds=[encode.hold(hold) for hold in holds],
        )

    async def GetPositions(self, request: pb.GetPositionsRequest, context: Context) -> pb.GetPositionsResponse:
        moment = decode_queries.moment(request, time.time_ns())
        account, position = await self._reads.account(request.account_id, moment)
        _check_use(account)
        return pb.GetPositionsResponse(positions=encode.positions(account), as_of_position=position)

    async def ListEntries(self, request: pb.ListEntriesRequest, context: Context) -> pb.ListEntriesResponse:
        asked = decode_queries.filters(request, self._config.partition)
        if asked.account_id:
            await self._check_history(asked.account_id)
        elif not _is_staff():
            raise refuse(Reason.MISSING_FILTER, "account_id is missing: name an account of yours")
        rows, token = await self._reads.entries(asked, request.page_size, request.page_token)
        return pb.ListEntriesResponse(entries=[encode.entry(row) for row in rows], next_page_token=token)

    async def GetStatement(self, request: pb.GetStatementRequest, context: Context) -> pb.GetStatementResponse:
        period = decode_queries.period(request)
        await self._check_history(period.account_id)
        found = await self._reads.statement(period, request.page_size, request.page_token)
        return encode.statement(found.lines, found.entries, found.next_page_token, found.as_of_position)

    async def _check_history(self, account_id: str) -> None:
        """The house has entries too, which are the broker's affair. Refusal UNKNOWN_ACCOUNT, ACCOUNT_NOT_YOURS."""
        if not (_is_staff() and account_id == house_id(self._config.partition)):
            _check_use(await self._reads.owner(account_id))

    async def GetHold(self, request: pb.GetHoldRequest, context: Context) -> pb.GetHoldResponse:
        hold, trace_id = await self._reads.hold(request.account_id, request.idempotency_key)
        return pb.GetHoldResponse(hold=encode.hold(hold), trace_id=trace_id.hex())

    async def ListHolds(self, request: pb.ListHoldsRequest, context: Context) -> pb.ListHoldsResponse:
        holds, token = await self._reads.holds(request.created_before_ns, request.page_size, request.page_token)
        return pb.ListHoldsResponse(holds=[encode.hold(hold) for hold in holds], next_page_token=token)

    async def Subscribe(self, request: pb.SubscribeRequest, context: Context) -> AsyncIterator[pb.SubscribeResponse]:
        if request.partition != self._config.partition:
            raise refuse(Reason.UNKNOWN_PARTITION, f"this ledger writes partition {self._config.partition}")
        async for rows in self._reads.tail(request.after):
            yield pb.SubscribeResponse(transactions=[encode.transaction(row, legs) for row, legs in rows])


def _is_staff() -> bool:
    """Services and operators may name any account, and none."""
    return auth.current.get().subject.partition(":")[0] in ("service", "operator")


def _check_use(account: Account) -> None:
    if not auth.current.get().may_use(account.customer_id):
        account_id = account.account_id
        raise refuse(Reason.ACCOUNT_NOT_YOURS, f"{account_id} is not yours", account_id=account_id)


def _decode_all(asked: Sequence[pb.Command]) -> Decoded:
    """Refusal EMPTY_BATCH, BATCH_TOO_LARGE for all of them."""
    if not asked:
        raise refuse(Reason.EMPTY_BATCH, "there is no command in the batch")
    if len(asked) > COMMANDS_MAX:
        raise refuse(Reason.BATCH_TOO_LARGE, f"{len(asked)} commands; a batch takes {COMMANDS_MAX}")
    caller, trace_id, now_ns = auth.current.get(), telemetry.current.get().trace_id, time.time_ns()
    return [_decoded(command, caller, trace_id, now_ns) for command in asked]


def _told(decoded: Decoded, answers: Sequence[bytes | Exception]) -> bytes:
    """The answers in the order of the commands, as a batch's response holds them."""
    done = iter(answers)
    told = [next(done) if isinstance(each, Request) else each for each in decoded]
    return encode.answers([each if isinstance(each, bytes) else _failed(each) for each in told])


def _decoded(command: pb.Command, caller: auth.Caller, trace_id: bytes, now_ns: int) -> Request | bytes:
    """What the writer is to do, or the answer already: one that is refused refuses alone."""
    try:
        return decode.command(command, caller, trace_id, now_ns)
    except Refusal as refusal:
        return encode.refused(refusal)


def _failed(problem: Exception) -> bytes:
    """One command's failure in a batch, told as its own call would."""
    return encode.refused(as_refusal("SubmitBatch", problem))


def _refusal(refused: pb.Refused) -> Refusal:
    return Refusal(refused.reason, CODES[refused.code], refused.message, **dict(refused.metadata))
