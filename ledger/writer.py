"""The writer of a ledger partition: decides a batch in memory, then stores it in one transaction."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ledger import accounts, commands, encode, on_execution
from ledger.accounts import Account, Balance, Draw, Hold, Kind, Leg, Posting, house
from ledger.commands import AdjustHold, Book, Deposit, PlaceHold, ReleaseHold, Request, Withdraw
from ledger.config import Config
from ledger.on_execution import Execution
from ledger.reasons import Reason, refuse
from openbell.ledger.v1 import ledger_pb2 as pb
from runtime import calendar, crash, db, executions, ids, log, telemetry
from runtime.errors import Refusal
from runtime.writer import FencedWriter, columns

SQL = db.Queries(Path(__file__).parent / "sql" / "queries.sql")
TRANSACTIONS = "transactions"
CACHED_ACCOUNTS_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Facts:
    """Rows of one partition of the execution log, after the cursor `before`."""

    partition: int
    before: int
    executions: Sequence[Execution]


Item = Request | Facts


@dataclass(slots=True)
class Batch:
    """What one transaction will insert."""

    transactions: list[tuple[Any, ...]] = field(default_factory=list)
    entries: list[tuple[Any, ...]] = field(default_factory=list)  # balance in place of its id, until that is known
    opened: list[Account] = field(default_factory=list)
    new_balances: dict[tuple[str, str], tuple[str, Balance]] = field(default_factory=dict)
    holds: dict[str, Hold] = field(default_factory=dict)
    commands: list[tuple[Any, ...]] = field(default_factory=list)
    cursors: list[tuple[int, int, int]] = field(default_factory=list)


class Writer(FencedWriter[Item, bytes]):
    """Answers with serialised responses; with nothing to facts."""

    def __init__(self, pool: db.Pool, config: Config, bell: log.Bell) -> None:
        super().__init__(pool, TRANSACTIONS, config.partition, bell)
        self._config = config
        self._book = Book(config.partition)

    def forget(self) -> None:
        self._book = Book(self._config.partition)

    async def write(
        self, connection: db.Connection, head: log.Head, items: Sequence[Item]
    ) -> Sequence[bytes | Exception]:
        if len(self._book.accounts) > CACHED_ACCOUNTS_MAX:
            self.forget()
        await self._load(connection, items)
        known = await self._answers(connection, [item for item in items if isinstance(item, Request)])
        batch = Batch()
        answers = [self._decide(item, batch, known, head) for item in items]
        if batch.transactions or batch.commands or batch.holds or batch.cursors:
            await self._store(connection, head, batch)
        for order in self._named(items):
            if (hold := self._book.holds.get(order)) is not None and hold.released:
                self._book.drop(hold)
        return answers

    def _named(self, items: Sequence[Item]) -> set[str]:
        """Orders whose holds the batch may touch."""
        commands = [item.command for item in items if isinstance(item, Request)]
        by_hold = {command.hold_id for command in commands if isinstance(command, AdjustHold | ReleaseHold)}
        orders = {self._book.order_of[hold_id] for hold_id in by_hold if hold_id in self._book.order_of}
        orders |= {command.order_id for command in commands if isinstance(command, PlaceHold)}
        return orders | {row.order_id for item in items if isinstance(item, Facts) for row in item.executions}

    def committed(self, items: Sequence[Item]) -> None:
        if any(isinstance(item, Request) and isinstance(item.command, PlaceHold) for item in items):
            crash.point("ledger.hold_committed")
        if any(execution.fills for item in items if isinstance(item, Facts) for execution in item.executions):
            crash.point("ledger.cursor_moved")

    # --- what the batch needs

    async def _load(self, connection: db.Connection, items: Sequence[Item]) -> None:
        requests = [item.command for item in items if isinstance(item, Request)]
        executions = [execution for item in items if isinstance(item, Facts) for execution in item.executions]
        orders = {command.order_id for command in requests if isinstance(command, PlaceHold)}
        orders |= {execution.order_id for execution in executions}
        places = [_place(command.hold_id) for command in requests if isinstance(command, AdjustHold | ReleaseHold)]
        await self._load_holds(connection, orders - self._book.holds.keys(), places)
        wanted = {house(self._config.partition)}
        wanted |= {command.account_id for command in requests if isinstance(command, Deposit | Withdraw | PlaceHold)}
        wanted |= {execution.account_id for execution in executions}
        wanted |= {self._book.holds[order].account_id for order in self._named(items) if order in self._book.holds}
        await self._load_accounts(connection, sorted(wanted - self._book.accounts.keys()))

    async def _load_holds(self, connection: db.Connection, orders: set[str], places: list[tuple[int, int]]) -> None:
        rows = list(await connection.fetch(SQL.holds_by_order, list(orders))) if orders else []
        if places:
            partitions, positions = zip(*places, strict=True)
            rows += await connection.fetch(SQL.holds_by_place, list(partitions), list(positions))
        for row in rows:
            self._book.keep(read_hold(row))

    async def _load_accounts(self, connection: db.Connection, missing: list[str]) -> None:
        if not missing:
            return
        for row in await connection.fetch(SQL.accounts, missing):
            self._book.accounts[row["account_id"]] = Account(*row)
        if house(self._config.partition) in missing:
            self._book.accounts[house(self._config.partition)] = Account(house(self._config.partition), "", 0)
        for row in await connection.fetch(SQL.balances, missing):
            balance = Balance(row["balance"], row["version"], row["balance_id"])
            self._book.accounts[row["account_id"]].balances[row["path"]] = balance

    async def _answers(
        self, connection: db.Connection, requests: Sequence[Request]
    ) -> dict[tuple[str, str], tuple[bytes, bytes | Exception]]:
        """What is stored under the keys: (scope, key) -> (request hash, answer)."""
        if not requests:
            return {}
        scopes, keys = [request.scope for request in requests], [request.key for request in requests]
        rows = await connection.fetch(SQL.answers, scopes, keys)
        return {(row["scope"], row["key"]): (row["request_hash"], _stored(row)) for row in rows}

    # --- decisions

    def _decide(
        self, item: Item, batch: Batch, known: dict[tuple[str, str], tuple[bytes, bytes | Exception]], head: log.Head
    ) -> bytes | Exception:
        if isinstance(item, Facts):
            self._post_facts(item, batch, head)
            return b""
        if (item.scope, item.key) in known:
            request_hash, answer = known[item.scope, item.key]
            if request_hash == item.request_hash:
                return answer
            return refuse(Reason.KEY_REUSED, f"the key {item.key} was used for another request", key=item.key)
        answer = self._answer(item, batch, head)
        if not (isinstance(answer, Refusal) and answer.reason == Reason.UNKNOWN_ACCOUNT):
            known[item.scope, item.key] = (item.request_hash, answer)
            batch.commands.append(_command_row(item, answer))
        return answer

    def _answer(self, request: Request, batch: Batch, head: log.Head) -> bytes | Exception:
        now_ns = time.time_ns()
        try:
            decision = commands.decide(self._book, request, calendar.new_york(now_ns).date(), now_ns)
        except Refusal as refusal:
            return refusal
        if decision.opens:
            batch.opened.append(decision.account)
            self._book.accounts[decision.account.account_id] = decision.account
            return pb.OpenAccountResponse(account=encode.account(decision.account)).SerializeToString()
        hold, transaction_id = decision.hold, ""
        if decision.posting is not None:
            hold, transaction_id = self._post(decision.posting, batch, head)
        balances = encode.balances(decision.account, head.position + len(batch.transactions))
        response: bytes = _RESPONSES[type(request.command)](hold, transaction_id, balances)
        return response

    def _post_facts(self, facts: Facts, batch: Batch, head: log.Head) -> None:
        for execution in facts.executions:
            if not execution.postable:
                raise NotImplementedError(f"{execution.execution_id}: busts and corrections are not posted yet")
            if execution.fills:
                self._post(on_execution.trade(self._book, execution, self._config.settlement_cycle_days), batch, head)
            self._end(execution, batch, head)
        batch.cursors.append((facts.partition, facts.before, facts.before + len(facts.executions)))

    def _end(self, execution: Execution, batch: Batch, head: log.Head) -> None:
        hold = self._book.holds.get(execution.order_id)
        if hold is None:
            return
        if execution.terminal:
            hold = on_execution.ended(hold, execution)
            self._keep(hold, batch)
        if accounts.finished(hold):
            today = calendar.new_york(time.time_ns()).date()
            self._post(on_execution.release(self._book, hold, execution, today), batch, head)

    def _post(self, posting: Posting, batch: Batch, head: log.Head) -> tuple[Hold | None, str]:
        """Applies it to the book and adds its rows. Returns the hold with its place, and the transaction's id."""
        hold = posting.hold
        if not posting.legs:  # nothing was left to move: the hold alone changes
            self._keep(hold, batch)
            return hold, ""
        position = head.position + len(batch.transactions) + 1
        if hold is not None and posting.kind == Kind.HOLD:
            hold = replace(hold, position=position)
        self._keep(hold, batch)
        for leg_number, leg in enumerate(posting.legs, 1):
            balance = self._step(leg, batch)
            batch.entries.append((position, leg_number, balance, leg.amount, balance.amount, balance.version))
        batch.transactions.append(_transaction_row(head.partition, position, posting, hold))
        return hold, ids.transaction_id(head.partition, position)

    def _step(self, leg: Leg, batch: Batch) -> Balance:
        balances = self._book.accounts[leg.account_id].balances
        if leg.path not in balances:
            batch.new_balances[leg.account_id, leg.path] = (leg.asset, balances.setdefault(leg.path, Balance()))
        balance = balances[leg.path]
        balance.amount += leg.amount
        balance.version += 1
        return balance

    def _keep(self, hold: Hold | None, batch: Batch) -> None:
        if hold is not None:
            self._book.keep(hold)
            batch.holds[hold.order_id] = hold

    # --- one transaction

    async def _store(self, connection: db.Connection, head: log.Head, batch: Batch) -> None:
        async with connection.transaction():
            await log.advance(connection, head, len(batch.transactions))
            for partition, before, after in batch.cursors:
                await log.move_cursor(connection, executions.SOURCE, partition, before, after)
            await self._insert(connection, head, batch)
            if any(row[1] == Kind.TRADE for row in batch.transactions):
                crash.point("ledger.posting")
        head.position += len(batch.transactions)

    async def _insert(self, connection: db.Connection, head: log.Head, batch: Batch) -> None:
        if batch.opened:
            rows = [(account.account_id, account.customer_id, account.opened_at_ns) for account in batch.opened]
            await connection.execute(SQL.insert_accounts, *columns(rows))
        if batch.new_balances:
            new = [(account, path, asset) for (account, path), (asset, _) in batch.new_balances.items()]
            for row in await connection.fetch(SQL.insert_balances, *columns(new)):
                batch.new_balances[row["account_id"], row["path"]][1].balance_id = row["balance_id"]
        if batch.transactions:
            entries = [(row[0], row[1], row[2].balance_id, *row[3:]) for row in batch.entries]
            await connection.execute(SQL.insert_entries, head.partition, *columns(entries))
            await connection.execute(SQL.insert_transactions, head.partition, *columns(batch.transactions))
        if batch.holds:
            await connection.execute(SQL.save_holds, json.dumps([_hold_row(hold) for hold in batch.holds.values()]))
        if batch.commands:
            await connection.execute(SQL.insert_commands, *columns(batch.commands))


def read_hold(row: db.Row) -> Hold:
    return Hold(
        row["log_partition"],
        row["position"],
        row["account_id"],
        row["order_id"],
        row["asset"],
        tuple(Draw(path, amount) for path, amount in zip(row["draw_paths"], row["draw_amounts"], strict=True)),
        row["created_at_ns"],
        row["idempotency_key"],
        row["captured_quantity"],
        row["done_quantity"],
        row["released"],
    )


def _hold_row(hold: Hold) -> dict[str, Any]:
    return {
        "log_partition": hold.partition,
        "position": hold.position,
        "account_id": hold.account_id,
        "order_id": hold.order_id,
        "asset": hold.asset,
        "draw_paths": [taken.path for taken in hold.draws],
        "draw_amounts": [taken.amount for taken in hold.draws],
        "captured_quantity": hold.captured_quantity,
        "done_quantity": hold.done_quantity,
        "released": hold.released,
        "created_at_ns": hold.created_at_ns,
        "idempotency_key": hold.idempotency_key,
    }


def _transaction_row(partition: int, position: int, posting: Posting, hold: Hold | None) -> tuple[Any, ...]:
    return (
        position,
        posting.kind,
        len(posting.legs),
        posting.effective_date,
        posting.requested_at_ns,
        time.time_ns(),
        posting.account_id,
        posting.order_id,
        ids.hold_id(hold.partition, hold.position) if hold else None,
        posting.execution_id,
        posting.trace_id,
        telemetry.span_id("transaction", ids.transaction_id(partition, position)),
    )


def _command_row(request: Request, answer: bytes | Exception) -> tuple[Any, ...]:
    refusal = None
    if isinstance(answer, Refusal):
        refusal = json.dumps({"reason": answer.reason, "message": answer.message, "metadata": answer.metadata})
    stored = None if refusal else answer
    return request.scope, request.key, request.request_hash, stored, refusal, time.time_ns()


def _stored(row: db.Row) -> bytes | Exception:
    if row["refusal"] is None:
        return bytes(row["answer"])
    told = json.loads(row["refusal"])
    return refuse(Reason(told["reason"]), told["message"], **told["metadata"])


def _place(hold_id: str) -> tuple[int, int]:
    try:
        return ids.place(hold_id)
    except ValueError:
        return (-1, -1)  # finds nothing: UNKNOWN_HOLD


def _money(kind: type[Any]) -> Any:
    return lambda hold, transaction_id, balances: kind(
        transaction_id=transaction_id, balances=balances
    ).SerializeToString()


def _held(kind: type[Any]) -> Any:
    return lambda hold, transaction_id, balances: kind(
        hold=encode.hold(hold), transaction_id=transaction_id, balances=balances
    ).SerializeToString()


_RESPONSES: dict[type[Any], Any] = {
    Deposit: _money(pb.DepositResponse),
    Withdraw: _money(pb.WithdrawResponse),
    PlaceHold: _held(pb.HoldResponse),
    AdjustHold: _held(pb.AdjustHoldResponse),
    ReleaseHold: _held(pb.ReleaseResponse),
}
