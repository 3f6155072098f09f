"""The customers of a benchmark: each with a deposit, and one hold that no run uses up."""

from collections.abc import Sequence

from openbell.ledger.v1 import ledger_pb2 as pb
from ops.bench.traffic import HELD, Holder
from ops.client import Client
from ops.failure import Failure
from runtime.units import CASH


def make(client: Client, count: int) -> tuple[Holder, ...]:
    """At most 1,000: they are made in three batches."""
    opened = _submit(
        client,
        [
            pb.Command(open_account=pb.OpenAccountRequest(customer_id=f"cus_{number}", idempotency_key="bench account"))
            for number in range(count)
        ],
    )
    accounts = [answer.open_account.account.account_id for answer in opened]
    _submit(
        client,
        [
            pb.Command(deposit=pb.DepositRequest(account_id=account, amount=HELD, idempotency_key="bench deposit"))
            for account in accounts
        ],
    )
    held = _submit(client, [_hold(account, f"ord_bench{number}") for number, account in enumerate(accounts)])
    records = [answer.hold.hold for answer in held]
    return tuple(Holder(record.account_id, record.order_id, record.hold_id) for record in records)


def _hold(account: str, order: str) -> pb.Command:
    request = pb.HoldRequest(account_id=account, order_id=order, asset=CASH, amount=HELD, idempotency_key="bench hold")
    return pb.Command(hold=request)


def _submit(client: Client, commands: Sequence[pb.Command]) -> list[pb.Answer]:
    answers = list(client.call(client.ledger.SubmitBatch, pb.SubmitBatchRequest(commands=commands)).answers)
    for answer in answers:
        if answer.HasField("refused"):
            raise Failure(f"the ledger refused what the benchmark needs: {answer.refused.message}")
    return answers
