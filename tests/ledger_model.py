"""What the ledger must do, written a second time from its rules: small, slow, in memory. It imports nothing of it."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import date
from typing import NamedTuple

from tests.ledger_books import (
    CASH,
    HOUSE,
    SETTLED,
    UNSETTLED,
    Books,
    Deal,
    Fees,
    Hold,
    Legs,
    Lots,
    asset_of,
    held,
    later,
    legs_of,
    owed,
    settles_on,
)

AMOUNT_MOST = 10**15


class Refused(Exception):
    """The reason is its text."""


class Unreferenced(Exception):
    """A bust or correction of what was never traded: the log must stop."""


class Told(NamedTuple):
    """An answer: why it is refused, or what there is afterwards."""

    refused: str = ""
    position: int = 0  # of the transaction; 0 if nothing moved
    at: int = 0  # position of the log at which the balances stand
    account: str = ""
    cash: tuple[tuple[str, int], ...] = ()  # by path, zeros left out
    hold: tuple[str, int, int, bool] = ("", 0, 0, False)  # order, position, remaining, released
    shares: tuple[str, int, int, int] = ("", 0, 0, 0)  # symbol, available, held, owed
    house: tuple[tuple[str, int], ...] = ()  # a journal's paths and their balances


class Row(NamedTuple):
    """One row of the execution log. `kind`: fill, bust, correct, end."""

    kind: str
    deal: Deal
    venue: int  # partition of the execution log
    exec_id: str  # ExecID(17)
    ref: str = ""  # ExecRefID(19)
    cum: int = 0
    terminal: bool = False
    execution: str = ""


@dataclass
class Traded:
    deal: Deal
    settles: str
    position: int
    fee: int = 0
    fee_position: int = 0
    undone: bool = False
    replaced_by: str | None = None  # ExecID(17) of its correction


def check(holds: bool, reason: str) -> None:
    if not holds:
        raise Refused(reason)


def check_amount(amount: int) -> None:
    check(0 < amount <= AMOUNT_MOST, "INVALID_AMOUNT")


class Model(Books):
    """One partition of the ledger. A command that raises Refused has changed nothing."""

    def __init__(self, today: date, cycle: int, fees: Fees) -> None:
        super().__init__(today)
        self.cycle, self.fees = cycle, fees
        self.traded: dict[tuple[str, int, str], Traded] = {}  # by order, venue and ExecID(17)
        self._answers: dict[tuple[str, str], tuple[bytes, Told]] = {}

    def once(self, scope: str, key: str, content: bytes, act: Callable[[], Told]) -> Told:
        """`act`, unless the key was used: then its first answer, or a refusal if the content is another."""
        if (known := self._answers.get((scope, key))) is not None:
            return known[1] if known[0] == content else Told("KEY_REUSED")
        try:
            told = act()
        except Refused as refused:
            told = Told(str(refused))
        if told.refused != "UNKNOWN_ACCOUNT":  # it may be opened yet
            self._answers[scope, key] = content, told
        return told

    def hold_at(self, position: int) -> Hold:
        found = next((hold for hold in self.holds.values() if hold.position == position), None)
        if found is None:
            raise Refused("UNKNOWN_HOLD")
        return found

    def _told(self, account: str, position: int, symbol: str = "") -> Told:
        told = Told("", position, len(self.log), account, tuple(self.paths(account, "cash/").items()))
        if not symbol:
            return told
        free, kept, short = (self.of(account, f"position/{state}/{symbol}") for state in ("available", "held", "owed"))
        return told._replace(shares=(symbol, free, kept, short))

    def _told_hold(self, hold: Hold, position: int) -> Told:
        told = self._told(hold.account, position, "" if hold.asset == CASH else hold.asset)
        return told._replace(hold=(hold.order, hold.position, hold.remaining, hold.released))

    # --- commands

    def _check_account(self, account: str) -> None:
        check(account in self.accounts, "UNKNOWN_ACCOUNT")

    def deposit(self, account: str, amount: int) -> Told:
        self._check_account(account)
        check_amount(amount)
        legs = legs_of((HOUSE, "bank", -amount))
        self.get(legs, account, CASH, [(SETTLED, amount)])
        return self._told(account, self.post("DEPOSIT", account, legs, self.today))

    def withdraw(self, account: str, amount: int) -> Told:
        self._check_account(account)
        check_amount(amount)
        check(not self.owes(account), "ACCOUNT_OWES")
        if amount > self.of(account, SETTLED):
            there = self.available(account, CASH)
            check(amount > there, "FUNDS_UNSETTLED")
            check(amount > there + self.of(account, "cash/held"), "FUNDS_HELD")
            raise Refused("INSUFFICIENT_FUNDS")
        legs = legs_of((HOUSE, "bank", amount), (account, SETTLED, -amount))
        return self._told(account, self.post("WITHDRAWAL", account, legs, self.today))

    def _set_aside(self, account: str, asset: str, amount: int) -> tuple[Legs, Lots]:
        check_amount(amount)
        check(not self.owes(account), "ACCOUNT_OWES")
        lots, missing = self.draw(account, self.sources(account, asset), amount)
        check(not missing, "INSUFFICIENT_FUNDS" if asset == CASH else "INSUFFICIENT_SHARES")
        return legs_of((account, held(asset), amount), *((account, path, -part) for path, part in lots)), lots

    def hold(self, account: str, order: str, asset: str, amount: int) -> Told:
        self._check_account(account)
        check(order not in self.holds, "ORDER_HAS_HOLD")
        legs, lots = self._set_aside(account, asset, amount)
        position = self.post("HOLD", account, legs, self.today, order)
        made = self.holds[order] = Hold(position, account, order, asset, lots)
        return self._told_hold(made, position)

    def adjust(self, position: int, amount: int) -> Told:
        hold = self.hold_at(position)
        check_amount(amount)
        check(not hold.released, "HOLD_RELEASED")
        legs = legs_of()
        if amount > hold.remaining:
            legs, lots = self._set_aside(hold.account, hold.asset, amount - hold.remaining)
            hold.lots += lots
        else:
            self.lower(legs, hold, hold.remaining - amount)
        return self._told_hold(hold, self.post("ADJUST", hold.account, legs, self.today, hold.order))

    def capture(self, position: int, amount: int, settles: str) -> Told:
        hold = self.hold_at(position)
        settles = self._settle_date(settles, self.today)
        check_amount(amount)
        check(not hold.released, "HOLD_RELEASED")
        check(amount <= hold.remaining, "CAPTURE_BEYOND_HOLD")
        hold.pay(amount)
        if hold.asset != CASH:
            hold.shares += amount
        to = f"clearing/{settles}" if hold.asset == CASH else f"street/{hold.asset}"
        legs = legs_of((hold.account, held(hold.asset), -amount), (HOUSE, to, amount))
        return self._told_hold(hold, self.post("CAPTURE", hold.account, legs, self.today, hold.order))

    def release(self, position: int) -> Told:
        hold = self.hold_at(position)
        check(not hold.released, "HOLD_RELEASED")
        return self._told_hold(hold, self._release(hold))

    def _release(self, hold: Hold, execution: str = "") -> int:
        legs = legs_of()
        self.lower(legs, hold, hold.remaining)
        hold.released = True
        return self.post("RELEASE", hold.account, legs, self.today, hold.order, execution)

    def clearing_date(self, traded: date) -> str:
        """By the cycle; what is told after that date has settled, with the next that has not."""
        usual = later(traded, self.cycle).isoformat()
        if usual > self.settled_through:
            return usual
        return later(date.fromisoformat(self.settled_through), 1).isoformat()

    def _settle_date(self, given: str, traded: date) -> str:
        if not given:
            return self.clearing_date(traded)
        check(given >= self.today.isoformat() and given > self.settled_through, "SETTLE_DATE_PAST")
        check(settles_on(date.fromisoformat(given)), "NOT_A_SETTLEMENT_DAY")
        return given

    def trade(self, deal: Deal, settles: str) -> Told:
        """Like a fill, but only if the account can afford it and owes nothing of what it pays with."""
        self._check_account(deal.account)
        for amount in (deal.quantity, deal.price, deal.quantity * deal.price):
            check_amount(amount)
        check(deal.day <= self.today, "DATE_IN_FUTURE")
        settles = self._settle_date(settles, deal.day)
        hold = self.holds.get(deal.order)
        check(hold is None or hold.account == deal.account, "ORDER_NOT_YOURS")
        check(hold is None or hold.asset == (CASH if deal.buys else deal.symbol), "INVALID_SIDE")
        self._check_affords(deal, hold.remaining if hold else 0)
        check(self.of(deal.account, owed(CASH if deal.buys else deal.symbol)) == 0, "ACCOUNT_OWES")
        return self._told(deal.account, self._trade(deal, settles, "").position, deal.symbol)

    def _check_affords(self, deal: Deal, by_hold: int) -> None:
        """The fee of a sale is paid from its proceeds, and from other cash."""
        value, fee, cash = deal.quantity * deal.price, self.fees.of(deal), self.available(deal.account, CASH)
        if deal.buys:
            check(value + fee <= by_hold + cash, "INSUFFICIENT_FUNDS")
        else:
            check(deal.quantity <= by_hold + self.available(deal.account, deal.symbol), "INSUFFICIENT_SHARES")
            left = max(value + self.of(deal.account, owed(CASH)), 0)
            check(fee <= left + cash, "INSUFFICIENT_FUNDS")

    def journal(self, legs: list[tuple[str, str, int]]) -> Told:
        """Legs of path, asset, amount."""
        check(len(legs) >= 2, "INVALID_LEGS")
        for path, asset, _ in legs:
            name, _, rest = path.partition("/")
            check(path in ("bank", "fees", "equity") or (name in ("clearing", "street") and rest != ""), "INVALID_PATH")
            if name == "clearing":
                check(rest > self.settled_through, "SETTLE_DATE_PAST")
                check(settles_on(date.fromisoformat(rest)), "NOT_A_SETTLEMENT_DAY")
            check(asset == asset_of(path), "INVALID_ASSET")
        sums: defaultdict[str, int] = defaultdict(int)
        for _, asset, amount in legs:
            check_amount(abs(amount))
            sums[asset] += amount
        check(len({path for path, _, _ in legs}) == len(legs), "INVALID_LEGS")
        check(not any(sums.values()), "UNBALANCED")
        moved = legs_of(*((HOUSE, path, amount) for path, _, amount in legs))
        position = self.post("JOURNAL", HOUSE, moved, self.today)
        return Told(position=position, house=tuple((path, self.of(HOUSE, path)) for path, _, _ in legs))

    def reverse(self, position: int) -> Told:
        """The opposite of a deposit, withdrawal or journal."""
        check(0 < position <= len(self.log), "UNKNOWN_TRANSACTION")
        original = self.log[position - 1]
        check(not original.reverses, "REVERSES_REVERSAL")
        check(all(posted.reverses != position for posted in self.log), "ALREADY_REVERSED")
        check(original.kind in ("DEPOSIT", "WITHDRAWAL", "JOURNAL"), "NOT_REVERSIBLE")
        dates = [path[-10:] for _, path, _ in original.legs if path.startswith("clearing/")]
        check(all(day > self.settled_through for day in dates), "NOT_REVERSIBLE")
        account = original.account
        legs = legs_of(*((HOUSE, path, -amount) for owner, path, amount in original.legs if owner == HOUSE))
        amount = -sum(amount for owner, _, amount in original.legs if owner != HOUSE)
        if amount < 0:
            check(self.of(account, SETTLED) >= -amount, "INSUFFICIENT_FUNDS")
            legs[account, SETTLED] = amount
        else:
            self.get(legs, account, CASH, [(SETTLED, amount)])
        made = self.post("REVERSAL", account, legs, self.today, reverses=position)
        return Told(position=made) if account == HOUSE else self._told(account, made)

    # --- facts

    def apply(self, row: Row) -> None:
        """One row of the execution log. Refused for an account that is none, Unreferenced: then nothing is changed."""
        if row.kind in ("bust", "correct"):
            self._undo(row, self._named(row))
        elif row.kind == "fill":
            self._check_account(row.deal.account)
            self._fill(row, self.clearing_date(row.deal.day))
        hold = self.holds.get(row.deal.order)
        if hold is not None and row.terminal:
            hold.expected = max(row.cum, hold.expected or 0)
        if hold is not None and not hold.released and hold.expected is not None and hold.shares >= hold.expected:
            self._release(hold, row.execution)

    def _named(self, row: Row) -> Traded:
        """What the row undoes: what was traded as ExecRefID(19), or what that was corrected to."""
        found, ref = None, row.ref
        while found is None or found.replaced_by is not None:
            found = self.traded.get((row.deal.order, row.venue, ref))
            if found is None:
                raise Unreferenced
            ref = found.replaced_by or ref
        return found

    def _fill(self, row: Row, settles: str) -> None:
        self.traded[row.deal.order, row.venue, row.exec_id] = self._trade(row.deal, settles, row.execution)

    def _trade(self, deal: Deal, settles: str, execution: str) -> Traded:
        """A trade, and its fee."""
        account, hold, value = deal.account, self.holds.get(deal.order), deal.quantity * deal.price
        legs = self._against_house(deal, settles, 1)
        if deal.buys:
            self.pay(legs, account, hold, CASH, value)
            self.get(legs, account, deal.symbol, [(f"position/available/{deal.symbol}", deal.quantity)])
        else:
            self.pay(legs, account, hold, deal.symbol, deal.quantity)
            self.get(legs, account, CASH, [(UNSETTLED + settles, value)])
        if hold is not None:
            hold.shares += deal.quantity
        made = Traded(deal, settles, self.post("TRADE", account, legs, deal.day, deal.order, execution))
        if fee := self.fees.of(deal):
            legs = legs_of((HOUSE, "fees", fee))
            self.pay(legs, account, hold if deal.buys else None, CASH, fee)
            position = self.post("FEE", account, legs, deal.day, deal.order, execution)
            made = replace(made, fee=fee, fee_position=position)
        return made

    def _against_house(self, deal: Deal, settles: str, sign: int) -> Legs:
        sign = sign if deal.buys else -sign
        cash, shares = sign * deal.quantity * deal.price, -sign * deal.quantity
        return legs_of((HOUSE, f"clearing/{settles}", cash), (HOUSE, f"street/{deal.symbol}", shares))

    def _undo(self, row: Row, traded: Traded) -> None:
        """A bust, or a correction; by a new clearing date once the old one has settled."""
        if traded.undone:
            return
        traded.undone = True
        hold, settles = self.holds.get(row.deal.order), traded.settles
        if settles <= self.settled_through:
            settles = self.clearing_date(max(row.deal.day, date.fromisoformat(self.settled_through)))
        self._reverse_trade(row, traded, hold, settles)
        if traded.fee:
            self._refund(row, traded, hold)
        if row.kind == "correct":
            traded.replaced_by = row.exec_id
            self._fill(row, settles)
            if hold is not None:  # counted once, but for what it adds
                hold.shares -= min(row.deal.quantity, traded.deal.quantity)

    def _reverse_trade(self, row: Row, traded: Traded, hold: Hold | None, settles: str) -> None:
        was, account = traded.deal, traded.deal.account
        legs = self._against_house(was, settles, -1)
        proceeds = self.home(UNSETTLED + traded.settles)
        if was.buys:
            self.take(legs, account, was.symbol, was.quantity, self.sources(account, was.symbol))
            self.give_back(legs, account, hold, CASH, was.quantity * was.price, proceeds)
        else:
            others = [path for path in self.sources(account, CASH) if path != proceeds]
            self.take(legs, account, CASH, was.quantity * was.price, [proceeds, *others])
            self.give_back(legs, account, hold, was.symbol, was.quantity, f"position/available/{was.symbol}")
        kind = "CORRECTION" if row.kind == "correct" else "BUST"
        self.post(kind, account, legs, row.deal.day, was.order, row.execution, traded.position)

    def _refund(self, row: Row, traded: Traded, hold: Hold | None) -> None:
        account, cash_hold = traded.deal.account, hold if traded.deal.buys else None
        legs = legs_of((HOUSE, "fees", -traded.fee))
        self.give_back(legs, account, cash_hold, CASH, traded.fee, UNSETTLED + traded.settles)
        self.post("REVERSAL", account, legs, row.deal.day, traded.deal.order, row.execution, traded.fee_position)

    # --- settlement

    def settle_dates(self, through: str) -> tuple[str, ...]:
        """Clearing of every date up to `through` goes to the bank. The dates that had any."""
        if through <= self.settled_through:
            return ()
        self.settled_through = through
        paths = [path for path in self.paths(HOUSE, "clearing/") if path[-10:] <= through]
        for path in paths:
            amount = self.of(HOUSE, path)
            legs = legs_of((HOUSE, path, -amount), (HOUSE, "bank", amount))
            self.post("SETTLEMENT", HOUSE, legs, date.fromisoformat(path[-10:]))
        return tuple(path[-10:] for path in paths)

    def settle_cash(self, rows: Iterable[tuple[str, str]]) -> int:
        """Accounts and paths. How many had something to settle."""
        before = len(self.log)
        for account, path in rows:
            if (amount := self.of(account, path)) and self.home(path) != path:
                legs = legs_of((account, path, -amount))
                self.get(legs, account, CASH, [(SETTLED, amount)])
                self.post("SETTLEMENT", account, legs, date.fromisoformat(path[-10:]))
        return len(self.log) - before
