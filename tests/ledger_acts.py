"""What a drawn history asks of the ledger. An act is a few numbers, the same whatever the state, so that a history that
fails can be shortened; which account, hold or amount it means is decided in its turn, by the model as it stands then.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

from hypothesis import strategies as st

from ledger import decode, on_execution
from ledger.book import Request
from ledger.on_execution import Execution
from ledger.planner import Facts, Item, SettleCash, SettleDates
from openbell.ems.v1 import ems_pb2
from openbell.fix.v1 import fix_pb2
from openbell.ledger.v1 import ledger_pb2 as pb
from runtime import ids
from runtime.errors import Refusal
from tests.ledger_books import CASH, SETTLED, UNSETTLED, Deal, Hold
from tests.ledger_model import Model, Refused, Row, Told, Unreferenced

T = TypeVar("T")
TRACE = b"t" * 16
VENUES = (1, 2)  # partitions of the execution log
SYMBOLS = ("AAPL", "MSFT")
NOBODY, NOTHING = "acc_nobody", 999_999  # an account and a position that are none
BAD_AMOUNTS = (0, -5, 10**15 + 1, 2**63 - 1)
PRICES = (1, 7, 30, 97)
ACCOUNTS_MAX = 3
LATEST = 4  # holds, orders, trades and requests among which an act chooses
KINDS = {
    "fill": ems_pb2.EXECUTION_KIND_FILL,
    "bust": ems_pb2.EXECUTION_KIND_BUST,
    "correct": ems_pb2.EXECUTION_KIND_CORRECT,
    "end": ems_pb2.EXECUTION_KIND_CANCELED,
}
HOLDS = Counter(hold=5, hold_shares=3, adjust=4, capture=3, release=2, withdraw=2, trade=2, again=1)
COMMANDS = HOLDS + Counter(deposit=3, withdraw=1, trade=2, journal=3, reverse=3, again=2, other=2, open=1)
FACTS = Counter(fill=6, bust=2, correct=2, end=3, deposit=2)
SETTLEMENTS = Counter(settle_dates=1, settle_cash=2)
SIZES = Counter(some=4, all=3, one=2, over=1, bad=1)
OF_HOLDS = ("adjust", "capture", "release")


class Act(NamedTuple):
    what: str
    size: str
    who: int
    pick: int
    other: int


SMALL = st.integers(0, 7)


def acts(what: Counter[str]) -> st.SearchStrategy[list[Act]]:
    """By weights."""
    kinds, sizes = st.sampled_from(sorted(what.elements())), st.sampled_from(list(SIZES.elements()))
    return st.lists(st.builds(Act, kinds, sizes, SMALL, SMALL, SMALL), min_size=1, max_size=8)


class Settled(NamedTuple):
    """The answer to a settlement: dates, and how many transactions."""

    dates: tuple[str, ...] = ()
    transactions: int = 0


class Asked(NamedTuple):
    """An item, and what must come of it: an answer, nothing (facts), or an exception."""

    item: Item
    expected: Told | Settled | type[Exception] | None


class Command(NamedTuple):
    message: Any
    where: str  # account, hold, transaction or customer: where its key is unique
    act: Callable[[], Told]


class Order(NamedTuple):
    order: str
    account: str
    buys: bool
    symbol: str

    @property
    def asset(self) -> str:
        return CASH if self.buys else self.symbol


@dataclass
class Actor:
    """Turns acts into what is sent, and has the model do them at once."""

    model: Model
    orders: list[Order] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)  # so far
    hold_keys: dict[str, tuple[str, str]] = field(default_factory=dict)  # order -> account, key of its hold
    cursors: dict[int, int] = field(default_factory=lambda: dict.fromkeys(VENUES, 0))
    last_facts: Facts | None = None
    _exec_ids: Counter[tuple[int, str]] = field(default_factory=Counter)  # by venue and order: two venues may agree
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _log_before: int = 0  # transactions before the step: what comes later cannot be named yet

    def step(self, acts: list[Act]) -> list[Asked]:
        """In the order of `acts`, in which the ledger is to apply them."""
        self._log_before = len(self.model.log)
        asked: list[Asked] = []
        for act in acts:
            what = act.what if self.model.holds or act.what not in OF_HOLDS else "hold"
            made: Asked = getattr(self, f"_{what}")(act)
            if act.other % 2 and asked and (joined := _joined(asked[-1], made)):
                asked[-1] = joined
            else:
                asked.append(made)
        return asked

    def unknown_to_the_model(self) -> Request:
        """A deposit that nobody must do."""
        message = pb.DepositRequest(account_id=self.model.accounts[0], amount=1)
        message.idempotency_key = self._new("key")
        return decode.request(message, TRACE, 1)

    # --- whom and what an act means

    def _new(self, what: str) -> str:
        return f"{what}_{next(self._numbers)}"

    def _account(self, act: Act) -> str:
        return self.model.accounts[act.who % len(self.model.accounts)]

    def _amount(self, act: Act, most: int) -> int:
        sizes = {"one": 1, "some": max(most // 2, 1), "all": most, "over": most + 1}
        return sizes.get(act.size, BAD_AMOUNTS[act.pick % len(BAD_AMOUNTS)])

    def _a_hold(self, act: Act) -> Hold:
        """One of the latest that are open; now and then a released one, or none."""
        if act.size == "bad" and act.other < 2:
            return Hold(NOTHING, self._account(act), "", CASH, [("", 10)])
        holds = list(self.model.holds.values())
        return _latest([hold for hold in holds if act.other != 7 and not hold.released] or holds, act)

    def _an_order(self, act: Act) -> Order:
        """One of the latest that have a hold, if only a released one; or a new one, which has none."""
        if act.other % 4 != 3 and (found := [order for order in self.orders if order.order in self.model.holds]):
            return _latest(found, act)
        order = Order(self._new("ord"), self._account(act), act.pick % 2 == 0, SYMBOLS[act.who % 2])
        self.orders.append(order)
        return order

    def _quantity(self, act: Act, order: Order) -> tuple[int, int]:
        """(shares, price): of what its hold or else half the account affords, a part, all, or more."""
        hold, price = self.model.holds.get(order.order), PRICES[act.other % len(PRICES)]
        there = (hold and hold.remaining) or self.model.available(order.account, order.asset) // 2
        most = there // price if order.buys else there
        sizes = {"one": 1, "some": max(most // 2, 1), "all": max(most, 1)}
        return sizes.get(act.size, most + 1 + act.pick), price

    def _settles(self, act: Act) -> str:
        """A settle date as it is asked for: mostly none."""
        days = {5: self.model.today - timedelta(1), 6: self.model.today + timedelta(act.pick)}
        return days[act.other].isoformat() if act.other in days else ""

    # --- commands

    def _ask(self, message: Any, where: str, act: Callable[[], Told]) -> Asked:
        message.idempotency_key = self._new("key")
        return self.send(Command(message, where, act))

    def send(self, command: Command) -> Asked:
        self.commands.append(command)
        message, where, act = command
        scope, content = f"{type(message).__name__} {where}", message.SerializeToString(deterministic=True)
        return Asked(decode.request(message, TRACE, 1), self.model.once(scope, message.idempotency_key, content, act))

    def _again(self, act: Act) -> Asked:
        """Word for word one of the last commands, perhaps one of this very step."""
        return self.send(_latest(self.commands, act))

    def _other(self, act: Act) -> Asked:
        """Other content under a key that is used."""
        found = [each for each in self.commands if hasattr(each.message, "amount") and each.where != NOBODY]
        before = _latest(found, act)
        message = type(before.message)()
        message.CopyFrom(before.message)
        message.amount = before.message.amount % 10**15 + 1
        return self.send(before._replace(message=message, act=_never))

    def _open(self, act: Act) -> Asked:
        if len(self.model.accounts) == ACCOUNTS_MAX:
            return self._deposit(act)
        customer = f"cus_{act.who}"
        return self._ask(pb.OpenAccountRequest(customer_id=customer), customer, Told)

    def _deposit(self, act: Act) -> Asked:
        account = NOBODY if act.size == "bad" and act.other == 0 else self._account(act)
        message = pb.DepositRequest(account_id=account, amount=self._amount(act, 3000))
        return self._ask(message, account, lambda: self.model.deposit(account, message.amount))

    def _withdraw(self, act: Act) -> Asked:
        """Of what is settled, or is unsettled too, or held too."""
        account = self._account(act)
        unsettled = sum(self.model.paths(account, UNSETTLED).values())
        parts = [self.model.of(account, SETTLED), unsettled, self.model.of(account, "cash/held")]
        message = pb.WithdrawRequest(account_id=account, amount=self._amount(act, sum(parts[: 1 + act.other % 3])))
        return self._ask(message, account, lambda: self.model.withdraw(account, message.amount))

    def _hold(self, act: Act) -> Asked:
        if act.other != 7 or not self.orders:  # or else one that may have a hold already
            symbol = SYMBOLS[act.pick % len(SYMBOLS)]
            self.orders.append(Order(self._new("ord"), self._account(act), act.what != "hold_shares", symbol))
        order = self.orders[-1]
        name, account, asset = order.order, order.account, order.asset
        amount = self._amount(act, self.model.available(account, asset))
        message = pb.HoldRequest(account_id=account, order_id=name, asset=asset, amount=amount)
        known = name in self.model.holds
        asked = self._ask(message, account, lambda: self.model.hold(account, name, asset, amount))
        if not known and name in self.model.holds:
            self.hold_keys[name] = account, message.idempotency_key
        return asked

    _hold_shares = _hold

    def _adjust(self, act: Act) -> Asked:
        """Up to what it holds, or to what the account has besides."""
        hold = self._a_hold(act)
        most = hold.remaining + (self.model.available(hold.account, hold.asset) if act.other % 2 else 0)
        message = pb.AdjustHoldRequest(hold_id=ids.hold_id(0, hold.position), amount=self._amount(act, most))
        return self._ask(message, message.hold_id, lambda: self.model.adjust(hold.position, message.amount))

    def _capture(self, act: Act) -> Asked:
        hold, settles = self._a_hold(act), self._settles(act)
        message = pb.CaptureRequest(hold_id=ids.hold_id(0, hold.position), amount=self._amount(act, hold.remaining))
        message.settle_date = settles
        return self._ask(message, message.hold_id, lambda: self.model.capture(hold.position, message.amount, settles))

    def _release(self, act: Act) -> Asked:
        hold = self._a_hold(act)
        message = pb.ReleaseRequest(hold_id=ids.hold_id(0, hold.position))
        return self._ask(message, message.hold_id, lambda: self.model.release(hold.position))

    def _trade(self, act: Act) -> Asked:
        """Mostly for an order's own account and side."""
        order, settles = self._an_order(act), self._settles(act)
        account = self._account(act) if act.other >= 6 else order.account
        buys = order.buys != (act.other == 4)
        day = self.model.today + timedelta(int(act.pick == 7) - act.pick % 3)
        deal = Deal(account, order.order, buys, order.symbol, *self._quantity(act, order), day)
        message = pb.TradeRequest(account_id=account, order_id=deal.order, side=_side(buys), symbol=deal.symbol)
        message.quantity, message.price = deal.quantity, deal.price
        message.trade_date, message.settle_date = day.isoformat(), settles
        return self._ask(message, account, lambda: self.model.trade(deal, settles))

    def _journal(self, act: Act) -> Asked:
        legs = self._legs(act)
        message = pb.JournalRequest(legs=[pb.JournalLeg(path=path, asset=asset, amount=n) for path, asset, n in legs])
        return self._ask(message, "house", lambda: self.model.journal(legs))

    def _legs(self, act: Act) -> list[tuple[str, str, int]]:
        """Half of them break a rule."""
        amount = self._amount(act, 500)
        clearing = f"clearing/{self.model.today + timedelta(act.other - 3)}"
        return [
            [("bank", CASH, -amount), ("equity", CASH, amount)],
            [("bank", CASH, -amount), ("fees", CASH, amount - 1), ("equity", CASH, 1)],
            [("equity", CASH, -amount), (clearing, CASH, amount)],
            [("street/AAPL", "AAPL", amount), ("street/MSFT", "MSFT", -amount)],
            [("bank", CASH, amount), ("bank", CASH, -amount)],
            [("bank", CASH, amount), ("street/AAPL", CASH, -amount)],
            [("bank", CASH, amount), (SETTLED, CASH, -amount)],
            [("bank", CASH, amount)],
        ][act.pick]

    def _reverse(self, act: Act) -> Asked:
        """Mostly one of a kind that can be reversed; at times a reversal, or anything."""
        kinds = ("REVERSAL",) if act.size in ("one", "over") else ("DEPOSIT", "WITHDRAWAL", "JOURNAL")
        positions = range(1, self._log_before + 1)
        found = [place for place in positions if act.size == "bad" or self.model.log[place - 1].kind in kinds]
        position = _latest([NOTHING, *found], act)
        message = pb.ReverseRequest(transaction_id=ids.transaction_id(0, position))
        return self._ask(message, message.transaction_id, lambda: self.model.reverse(position))

    # --- facts

    def _tell(self, row: Row) -> Asked:
        position = self.cursors[row.venue] + 1
        row = row._replace(execution=ids.execution_id(row.venue, position))
        item = Facts(row.venue, position - 1, [_execution(row, position)])
        try:
            self.model.apply(row)
        except Unreferenced:
            return Asked(item, on_execution.Unreferenced)
        except Refused:
            return Asked(item, Refusal)
        self.cursors[row.venue], self.last_facts = position, item
        return Asked(item, None)

    def _row(self, kind: str, act: Act, order: Order, quantity: int, price: int, venue: int = 0) -> Row:
        """At a venue, on a trade date up to three days ago."""
        day, venue = self.model.today - timedelta(act.pick % 4), venue or VENUES[act.who // 4]
        deal = Deal(order.account, order.order, order.buys, order.symbol, quantity, price, day)
        self._exec_ids[venue, order.order] += 1
        return Row(kind, deal, venue, f"E{self._exec_ids[venue, order.order]}")

    def _cum(self, order: Order, act: Act) -> int:
        """CumQty(14) of the order's last report; one in two counts shares that are not in yet."""
        told = self.model.holds[order.order].shares if order.order in self.model.holds else 0
        return told + (3 if act.other % 2 == 0 else 0)

    def _fill(self, act: Act) -> Asked:
        order = self._an_order(act)
        if act.size == "bad":
            order = order._replace(account=NOBODY)
        quantity, price = self._quantity(act, order)
        row = self._row("fill", act, order, quantity, price)
        return self._tell(row._replace(cum=quantity + self._cum(order, act), terminal=act.other >= 5))

    def _end(self, act: Act) -> Asked:
        order = self._an_order(act)
        return self._tell(self._row("end", act, order, 0, 0)._replace(cum=self._cum(order, act), terminal=True))

    def _bust(self, act: Act) -> Asked:
        """Of one of the latest trades, or of none; perhaps one that is undone already."""
        if not self.model.traded:
            return self._fill(act)
        (_, venue, exec_id), traded = _latest(list(self.model.traded.items()), act)
        was = traded.deal
        quantity = max(was.quantity + act.other % 3 - 1, 1)
        order = Order(was.order, was.account, was.buys, was.symbol)
        row = self._row(act.what, act, order, quantity, PRICES[act.other % len(PRICES)], venue)
        return self._tell(row._replace(ref="E0" if act.size == "bad" and act.other % 2 else exec_id))

    _correct = _bust

    # --- settlement

    def _settle_dates(self, act: Act) -> Asked:
        through = self.model.today - timedelta(act.pick % 3)
        before = len(self.model.log)
        dates = self.model.settle_dates(through.isoformat())
        return Asked(SettleDates(through, TRACE, 1), Settled(dates, len(self.model.log) - before))

    def _settle_cash(self, act: Act) -> Asked:
        """Some of what is due; at times also what is not."""
        rows = self.model.due()[: 1 + act.pick]
        if act.other % 2:
            account = self._account(act)
            rows += [(account, path) for path in self.model.paths(account, UNSETTLED) if (account, path) not in rows]
        return Asked(SettleCash(rows, TRACE, 1), Settled((), self.model.settle_cash(rows)))


def _latest(found: Sequence[T], act: Act) -> T:
    return found[-1 - act.pick % min(len(found), LATEST)]


def _never() -> Told:
    raise AssertionError("the key is used: nothing may be done")


def _joined(before: Asked, made: Asked) -> Asked | None:
    """Rows that come in one message."""
    first, second = before.item, made.item
    if not isinstance(first, Facts) or not isinstance(second, Facts) or first.partition != second.partition:
        return None
    if before.expected is not None or made.expected is not None:
        return None
    return Asked(Facts(first.partition, first.before, [*first.executions, *second.executions]), None)


def _side(buys: bool) -> fix_pb2.Side.ValueType:
    return fix_pb2.SIDE_BUY if buys else fix_pb2.SIDE_SELL


def _execution(row: Row, position: int) -> Execution:
    """As the EMS sends it."""
    deal = row.deal
    sent = ems_pb2.Execution(
        position=position,
        execution_id=row.execution,
        kind=KINDS[row.kind],
        trade_date=deal.day.isoformat(),
        exec_id=row.exec_id,
        exec_ref_id=row.ref,
        order_id=deal.order,
        account_id=deal.account,
        symbol=deal.symbol,
        side=_side(deal.buys),
        last_shares=deal.quantity,
        last_price=deal.price,
        cum_quantity=row.cum,
        ord_status=fix_pb2.ORD_STATUS_FILLED if row.terminal else fix_pb2.ORD_STATUS_PARTIALLY_FILLED,
        trace_id=TRACE.hex(),
    )
    return on_execution.decode(sent, 1)
