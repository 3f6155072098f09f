"""What operators book by hand, pure: trades that came another way, journals of the house, reversals."""

from collections.abc import Sequence
from datetime import date

from ledger import accounts, trades
from ledger.accounts import Account, Hold, House, Kind, Leg, Posting
from ledger.book import (
    Book,
    BookTrade,
    Decision,
    Original,
    PostJournal,
    Request,
    ReversePosted,
    check_symbol,
    day,
    position,
    posting_of,
    settle_date,
)
from ledger.reasons import Reason, refuse
from ledger.trades import Trade
from runtime import calendar
from runtime.fees import fee
from runtime.units import CASH, is_symbol

LEGS_MAX = 100
REVERSIBLE = frozenset({Kind.DEPOSIT, Kind.WITHDRAWAL, Kind.JOURNAL})


def trade(book: Book, request: Request, today: date, _: int) -> Decision:
    command: BookTrade = request.command  # type: ignore[assignment]
    account = book.account(command.account_id)
    made, on = _trade_of(command, today, book.house)
    held = book.holds.get(command.order_id)
    if held is not None and held.account_id != account.account_id:
        raise refuse(Reason.ORDER_NOT_YOURS, f"{command.order_id} is another account's order")
    asset, amount = (CASH, made.value) if made.buys else (made.symbol, made.quantity)
    if held is not None and held.asset != asset:
        raise refuse(Reason.INVALID_SIDE, f"the order's hold is of {held.asset}, the trade takes {asset}")
    charged = fee(book.house.fees, made.buys, made.quantity, command.price)
    _check_affords(account, held, asset, amount + (charged if made.buys else 0))
    if not made.buys:  # what is left of the proceeds pays the fee, then other cash; no command may lead to debt
        left = max(made.value + account.amount(accounts.owed_path(CASH)), 0)
        _check_affords(account, None, CASH, charged - left)
    accounts.check_owes_nothing(account, asset)  # what is owed of the other asset, this trade pays
    legs, hold = trades.post(account, held, made, book.house)
    order_id = command.order_id or None
    posting = posting_of(request, Kind.TRADE, account, legs, on, order_id, hold)
    return Decision(account, posting, _fees(book, posting, hold, made, charged))


def _fees(book: Book, posting: Posting, hold: Hold | None, trade: Trade, charged: int) -> tuple[Posting, ...]:
    """What the schedule takes for a trade that is not posted yet: from what the trade leaves."""
    if not charged:
        return ()
    account = book.accounts[posting.account_id]
    after = _afterwards(account, posting.legs)
    legs, hold = trades.charge(after, hold, charged, book.house)
    own = [leg._replace(account=account) if leg.account is after else leg for leg in legs]
    return (posting._replace(kind=Kind.FEE, legs=own, hold=hold or posting.hold),)


def _afterwards(account: Account, legs: Sequence[Leg]) -> Account:
    """The account as the legs leave it."""
    balances = {path: accounts.Balance(balance.amount) for path, balance in account.balances.items()}
    for leg in legs:
        if leg.account is account:
            balances.setdefault(leg.path, accounts.Balance()).amount += leg.amount
    return Account(account.account_id, account.customer_id, account.opened_at_ns, balances)


def _trade_of(command: BookTrade, today: date, house: House) -> tuple[Trade, date]:
    """(trade, trade date)."""
    if command.buys is None:
        raise refuse(Reason.INVALID_SIDE, "side must be BUY or SELL")
    check_symbol(command.symbol)
    accounts.check_amount(command.symbol, command.quantity)
    accounts.check_amount(CASH, command.price)
    accounts.check_amount(CASH, command.quantity * command.price)
    traded = day(command.trade_date, "trade_date") if command.trade_date else today
    if traded > today:
        raise refuse(Reason.DATE_IN_FUTURE, f"the trade date {traded} has not come", trade_date=str(traded))
    settles = settle_date(command.settle_date, traded, today, house)
    return Trade(command.buys, command.symbol, command.quantity, command.quantity * command.price, settles), traded


def _check_affords(account: Account, held: Hold | None, asset: str, amount: int) -> None:
    by_hold = held.remaining if held is not None else 0
    _, missing = accounts.draw(account, accounts.available_paths(account, asset), max(amount - by_hold, 0))
    if missing:
        raise accounts.insufficient(asset, amount - missing, amount)


def journal(book: Book, request: Request, today: date, _: int) -> Decision:
    command: PostJournal = request.command  # type: ignore[assignment]
    if not 2 <= len(command.legs) <= LEGS_MAX:
        raise refuse(Reason.INVALID_LEGS, f"a journal has 2 to {LEGS_MAX} legs, not {len(command.legs)}")
    house = book.house.account
    legs = [_house_leg(book.house, path, asset, amount) for path, asset, amount in command.legs]
    effective = day(command.effective_date, "effective_date") if command.effective_date else today
    if effective > today:
        raise refuse(Reason.DATE_IN_FUTURE, f"the effective date {effective} has not come")
    posting = posting_of(request, Kind.JOURNAL, house, accounts.journal(legs), effective)
    return Decision(house, posting._replace(memo=command.memo or None))


def _house_leg(house: House, path: str, asset: str, amount: int) -> Leg:
    """INVALID_PATH for a path the house does not have, INVALID_ASSET for one that the path does not take."""
    name, _, detail = path.partition("/")
    if name == "street" and is_symbol(detail):
        takes = detail
    elif name == "clearing" and detail:
        takes = CASH
        settles = day(detail, "path")
        if detail <= house.settled_through:
            raise refuse(Reason.SETTLE_DATE_PAST, f"{path} has settled", path=path)
        if not calendar.is_settlement_day(settles):
            raise refuse(Reason.NOT_A_SETTLEMENT_DAY, f"nothing settles on {detail}", path=path)
    elif path in ("bank", "fees", "equity"):
        takes = CASH
    else:
        raise refuse(
            Reason.INVALID_PATH, f"{path!r}: the house has bank, fees, equity, clearing/DATE, street/SYMBOL", path=path
        )
    if asset != takes:
        raise refuse(Reason.INVALID_ASSET, f"{path} takes {takes}, not {asset!r}", asset=asset, path=path)
    return Leg(house.account, path, asset, amount)


def reverse(book: Book, request: Request, today: date, _: int) -> Decision:
    command: ReversePosted = request.command  # type: ignore[assignment]
    original = book.originals.get(position(book.partition, "txn", command.transaction_id))
    _check_reversible(original, command.transaction_id, book.house)
    assert original is not None
    legs = [Leg(book.accounts[of], path, asset, amount) for of, path, asset, amount in original.legs]
    customer = next((leg.account for leg in legs if leg.account is not book.house.account), None)
    account = customer or book.house.account
    posting = posting_of(request, Kind.REVERSAL, account, accounts.reversal(customer, legs, book.house), today)
    return Decision(account, posting._replace(reverses=original.position, memo=command.memo or None))


def _check_reversible(original: Original | None, transaction_id: str, house: House) -> None:
    named = {"transaction_id": transaction_id}
    if original is None:
        raise refuse(Reason.UNKNOWN_TRANSACTION, f"there is no transaction {transaction_id}", **named)
    if original.is_reversal:
        raise refuse(Reason.REVERSES_REVERSAL, "it is a reversal itself: post it anew instead", **named)
    if original.reversed:
        raise refuse(Reason.ALREADY_REVERSED, f"{transaction_id} is reversed already", **named)
    if original.kind not in REVERSIBLE:
        raise refuse(
            Reason.NOT_REVERSIBLE, f"a {original.kind.name.lower()} is not reversed by command; see LEDGER.md", **named
        )
    for _, path, _, _ in original.legs:
        if path.startswith("clearing/") and path.partition("/")[2] <= house.settled_through:
            raise refuse(Reason.NOT_REVERSIBLE, f"{path} has settled: post a journal instead", **named)
