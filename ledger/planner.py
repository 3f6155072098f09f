"""What a batch comes to: its items decided one after the other against balances in memory. Nothing is stored here."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from ledger import accounts, commands, encode, on_execution, rows
from ledger.accounts import Account, Balance, Hold, House, Kind, Posting, house_id
from ledger.book import (
    OF_ACCOUNTS,
    OF_HOLDS,
    Book,
    BookTrade,
    OpenAccount,
    PlaceHold,
    Request,
    ReversePosted,
    position,
)
from ledger.config import Config
from ledger.on_execution import Execution
from ledger.reasons import Reason, refuse
from ledger.rows import Batch
from openbell.ledger.v1 import ledger_pb2 as pb
from runtime import calendar, db, executions, ids
from runtime.errors import Refusal
from runtime.fees import FeeSchedule

SQL = db.Queries(Path(__file__).parent / "sql" / "queries.sql")
RECONCILED = "reconciled"  # source of the cursors up to which the execution log has been compared
CACHED_MAX = 100_000  # accounts, and holds


class Facts(NamedTuple):
    """Rows of one partition of the execution log, after the cursor `before`."""

    partition: int
    before: int
    executions: Sequence[Execution]


class SettleDates(NamedTuple):
    """Every date up to `through` is settled from now on: clearing goes to the bank."""

    through: date
    trace_id: bytes
    requested_at_ns: int


class SettleCash(NamedTuple):
    """Unsettled cash of settled dates becomes settled: [(account, path)]."""

    rows: Sequence[tuple[str, str]]
    trace_id: bytes
    requested_at_ns: int


class Reconciled(NamedTuple):
    """What a comparison found, and how far it came: [(partition of the execution log, before, after)]."""

    executions: int
    mismatches: str  # JSON
    cursors: Sequence[tuple[int, int, int]]


Item = Request | Facts | SettleDates | SettleCash | Reconciled
Known = dict[tuple[int, str], tuple[bytes, bytes]]  # scope and key -> request hash, answer


@dataclass(slots=True)
class Needs:
    """What a batch's items name."""

    accounts: set[str]
    orders: set[str]
    holds: set[int]
    originals: set[int]
    corrected: set[str]


class Plan(NamedTuple):
    """What is to be stored, and what is answered once it is."""

    number: int  # of the plan, from 1
    batch: Batch
    answers: Sequence[bytes | Exception]
    known: Known  # of this batch alone


class Planner:
    """Plans batches in order. Several may be planned before the first is committed: each sees what those before it do.

    What comes from the database is only what no plan under way touches: accounts and holds stay in memory until the
    last plan that touched them is committed, and so do keys. Reversals look at stored transactions: see `looks_back`.
    """

    def __init__(self, config: Config, fees: FeeSchedule) -> None:
        self._config, self._fees = config, fees
        self.forget()

    def forget(self) -> None:
        """Before `start`, which reads anew what is true."""
        house = Account(house_id(self._config.partition), "", 0)
        kept = House(house, "", self._config.settlement_cycle_days, self._fees)
        self._book = Book(self._config.partition, kept)
        self._under_way: dict[int, Known] = {}  # by number of the plan
        self._touched: dict[str, int] = {}  # order -> the last plan that touched its hold
        self._number = self._committed = self._now_ns = 0

    @property
    def is_full(self) -> bool:
        return max(len(self._book.accounts), len(self._book.holds)) > CACHED_MAX

    async def start(self, connection: db.Connection, log_position: int, now_ns: int) -> None:
        """`log_position`, `now_ns`: of the last that is committed."""
        settled = await connection.fetchval(SQL.settled_through, self._config.partition)
        self._book.position, self._now_ns = log_position, now_ns
        self._book.house.settled_through = settled.isoformat() if settled else ""
        self._book.accounts[self._book.house.account.account_id] = self._book.house.account
        await self._load_balances(connection, [self._book.house.account.account_id])

    async def plan(self, connection: db.Connection, items: Sequence[Item], now_ns: int) -> Plan:
        self._tidy()
        self._number += 1
        needs = self._needs(items)
        await self._load(connection, needs)
        known = await self._answers(connection, items)
        self._now_ns = max(now_ns, self._now_ns)  # the log's time never goes back
        batch = Batch(self._now_ns, calendar.new_york(self._now_ns).date())
        before = known.copy()
        answers = [self._decide(item, batch, known) for item in items]
        self._book.traded.clear()
        self._book.originals.clear()
        own = {place: answer for place, answer in known.items() if place not in before}
        self._under_way[self._number] = own
        held = {self._book.order_of[place] for place in needs.holds if place in self._book.order_of}
        self._touched |= dict.fromkeys(needs.orders | held, self._number)
        return Plan(self._number, batch, answers, own)

    def committed(self, plan: Plan) -> None:
        self._committed = plan.number
        del self._under_way[plan.number]

    def _tidy(self) -> None:
        """Released holds whose last plan is committed: no later batch needs them in memory."""
        for order, number in list(self._touched.items()):
            if number <= self._committed:
                del self._touched[order]
                if (hold := self._book.holds.get(order)) is not None and hold.released:
                    self._book.drop(hold)

    # --- what the batch needs

    def _needs(self, items: Sequence[Item]) -> Needs:
        needs = Needs(set(), set(), set(), set(), set())
        for item in items:
            if type(item) is Request:
                self._command_needs(item.command, needs)
            elif type(item) is Facts:
                for execution in item.executions:
                    needs.accounts.add(execution.account_id)
                    needs.orders.add(execution.order_id)
                    if execution.reverses is not None:
                        needs.corrected.add(execution.order_id)
            elif type(item) is SettleCash:
                needs.accounts.update(account_id for account_id, _ in item.rows)
        return needs

    def _command_needs(self, command: Any, needs: Needs) -> None:
        kind = type(command)
        if kind in OF_HOLDS:
            needs.holds.add(position(self._config.partition, "hld", command.hold_id))
        elif kind in OF_ACCOUNTS:
            needs.accounts.add(command.account_id)
        elif kind is ReversePosted:
            needs.originals.add(position(self._config.partition, "txn", command.transaction_id))
        if kind is PlaceHold or (kind is BookTrade and command.order_id):
            needs.orders.add(command.order_id)

    async def _load(self, connection: db.Connection, needs: Needs) -> None:
        book, partition = self._book, self._config.partition
        found: list[db.Row] = []
        if orders := needs.orders - book.holds.keys():
            found += await connection.fetch(SQL.holds_by_order, list(orders))
        if places := needs.holds - book.order_of.keys():
            found += await connection.fetch(SQL.holds_by_position, partition, list(places))
        for row in found:
            book.keep(rows.read_hold(row))
        if needs.originals:
            legs = await connection.fetch(SQL.originals, partition, list(needs.originals))
            book.originals = rows.read_originals(legs)
            needs.accounts |= {row["account_id"] for row in legs}
        if needs.corrected:
            traded = await connection.fetch(SQL.trades_of_orders, partition, list(needs.corrected))
            book.traded = on_execution.read_traded(traded)
            for order in needs.corrected:
                book.traded.setdefault(order, {})
        held = {book.holds[book.order_of[place]].account_id for place in needs.holds if place in book.order_of}
        held |= {book.holds[order].account_id for order in needs.orders if order in book.holds}
        await self._load_accounts(connection, (needs.accounts | held) - book.accounts.keys())

    async def _load_accounts(self, connection: db.Connection, missing: set[str]) -> None:
        if not missing:
            return
        for row in await connection.fetch(SQL.accounts, list(missing)):
            self._book.accounts[row["account_id"]] = Account(*row)
        await self._load_balances(connection, [each for each in missing if each in self._book.accounts])

    async def _load_balances(self, connection: db.Connection, account_ids: list[str]) -> None:
        settled = self._book.house.settled_through
        day = date.fromisoformat(settled) if settled else None
        for row in await connection.fetch(SQL.balances, account_ids, day):
            balance = Balance(row["balance"], row["version"], row["balance_id"])
            self._book.accounts[row["account_id"]].balances[row["path"]] = balance

    async def _answers(self, connection: db.Connection, items: Sequence[Item]) -> Known:
        """What is stored under the requests' keys."""
        requests = [item for item in items if type(item) is Request]
        if not requests:
            return {}
        under_way = list(self._under_way.values())  # before the query: what it misses is among them
        scopes, keys = [request.scope for request in requests], [request.key for request in requests]
        stored = await connection.fetch(SQL.answers, scopes, keys)
        known = {(row["scope"], row["key"]): (row["request_hash"], row["answer"]) for row in stored}
        for keys_of_plan in under_way:
            known |= keys_of_plan
        return known

    # --- decisions

    def _decide(self, item: Item, batch: Batch, known: Known) -> bytes | Exception:
        if type(item) is Request:
            return self._answer(item, batch, known)
        if type(item) is Facts:
            self._post_facts(item, batch)
        elif type(item) is SettleDates:
            return self._settle_dates(item, batch)
        elif type(item) is SettleCash:
            return self._settle_cash(item, batch)
        elif type(item) is Reconciled:
            batch.reconciliations.append((item.executions, item.mismatches))
            batch.cursors += [(RECONCILED, *moved) for moved in item.cursors]
        return b""

    def _answer(self, request: Request, batch: Batch, known: Known) -> bytes:
        place = (request.scope, request.key)
        if (earlier := known.get(place)) is not None:
            request_hash, answer = earlier
            if request_hash == request.request_hash:
                return answer + encode.names(answer, request.command, self._book)
            return encode.refused(
                refuse(Reason.KEY_REUSED, f"the key {request.key} was used for another request", key=request.key)
            )
        try:
            answer = self._do(request, batch)
        except Refusal as refusal:
            answer = encode.refused(refusal)
            if refusal.reason == Reason.UNKNOWN_ACCOUNT:
                return answer  # it may be opened yet; and nobody may fill the store with what names nothing
        known[place] = (request.request_hash, answer)
        batch.commands.append((request.scope, request.key, request.request_hash, answer))
        return answer + encode.names(answer, request.command, self._book)

    def _do(self, request: Request, batch: Batch) -> bytes:
        decision = commands.decide(self._book, request, batch.today, batch.now_ns)
        if type(request.command) is OpenAccount:
            batch.opened.append(decision.account)
            self._book.accounts[decision.account.account_id] = decision.account
        hold, transaction_id = None, ""
        if decision.posting is not None:
            hold, transaction_id = self._post(decision.posting, batch)
        for posting in decision.more:
            hold, _ = self._post(posting, batch)
        if decision.posting is not None and (reversed_ := decision.posting.reverses) is not None:
            self._book.originals[reversed_] = self._book.originals[reversed_]._replace(reversed=True)
        return encode.answer(request.command, decision, hold, transaction_id, self._book.position)

    def _post_facts(self, facts: Facts, batch: Batch) -> None:
        for execution in facts.executions:
            for posting in on_execution.postings(self._book, execution, batch.today):
                self._post(posting, batch)
        after = facts.before + len(facts.executions)
        batch.cursors.append((executions.SOURCE, facts.partition, facts.before, after))

    def _settle_dates(self, item: SettleDates, batch: Batch) -> bytes:
        house, through = self._book.house, item.through.isoformat()
        answer = pb.SettleResponse()
        if through > house.settled_through:
            due = [path for path in house.account.paths("clearing/") if path[-10:] <= through]
            house.settled_through, batch.settled_through = through, item.through
            for path in due:
                self._post(_settlement(house.account, accounts.settle_clearing(house, path), path, item), batch)
                answer.settled.append(path[-10:])
            answer.transactions = len(due)
        return answer.SerializeToString()

    def _settle_cash(self, item: SettleCash, batch: Batch) -> bytes:
        answer = pb.SettleResponse()
        for account_id, path in item.rows:
            account = self._book.accounts[account_id]
            if account.amount(path) and path[-10:] <= self._book.house.settled_through:
                self._post(_settlement(account, accounts.settle_cash(account, path), path, item), batch)
                answer.transactions += 1
        return answer.SerializeToString()

    def _post(self, posting: Posting, batch: Batch) -> tuple[Hold | None, str]:
        """Applies it to the book and adds its rows. Returns the hold with its place, and the transaction's id."""
        book, hold = self._book, posting.hold
        if not posting.legs:  # nothing was left to move: the hold alone changes
            self._keep(hold, batch)
            return hold, ""
        book.position += 1
        if hold is not None and posting.kind == Kind.HOLD:
            hold = hold._replace(position=book.position)
            posting = posting._replace(hold=hold)
        self._keep(hold, batch)
        batch.post(book.position, posting)
        return hold, ids.transaction_id(book.partition, book.position)

    def _keep(self, hold: Hold | None, batch: Batch) -> None:
        if hold is not None:
            self._book.keep(hold)
            batch.holds[hold.order_id] = hold


def _settlement(account: Account, legs: Sequence[Any], path: str, item: SettleDates | SettleCash) -> Posting:
    """Effective on the date that settles, whenever it is recorded."""
    settles = date.fromisoformat(path[-10:])
    return Posting(Kind.SETTLEMENT, account.account_id, legs, settles, item.trace_id, item.requested_at_ns)


def looks_back(items: Sequence[Item]) -> bool:
    """Whether an item looks at stored transactions: then those before it must be committed first."""
    return any(
        type(item.command) is ReversePosted
        if type(item) is Request
        else type(item) is Facts and any(execution.reverses is not None for execution in item.executions)
        for item in items
    )
