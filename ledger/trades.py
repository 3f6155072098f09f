"""Trades, and what undoes them, pure. A venue's trade is a fact: it is never refused, what cannot be paid is owed.

A fact draws on the order's hold, then on what is available, then on `owed`.
"""

from collections.abc import Sequence
from datetime import date
from functools import lru_cache
from typing import NamedTuple

from ledger.accounts import (
    UNSETTLED,
    Account,
    Draw,
    Hold,
    House,
    Leg,
    available_paths,
    captured,
    credit,
    debit,
    draw,
    held_path,
    owed_path,
    replace_path,
    settled_path,
)
from runtime import calendar
from runtime.units import CASH


class Trade(NamedTuple):
    """What one fill moves. `value` is quantity x price."""

    buys: bool
    symbol: str
    quantity: int
    value: int
    settles: date


class Traded(NamedTuple):
    """A posted trade, as its entries tell it."""

    position: int
    trade: Trade
    fee: int = 0
    fee_position: int = 0
    undone_by: str | None = None  # ExecID(17) of the bust or correction
    corrected: bool = False  # then the corrected trade has that ExecID


def clearing_date(traded: date, house: House) -> date:
    """When a trade settles: by the cycle after its date; one that is told late, with what is next to settle."""
    return _clearing_date(traded, house.cycle_days, house.settled_through)


@lru_cache
def _clearing_date(traded: date, cycle_days: int, settled_through: str) -> date:
    settles = calendar.settle_date(traded, cycle_days)
    while settles.isoformat() <= settled_through:
        settles = calendar.settle_date(settles, 1)
    return settles


def undo_date(trade: Trade, effective: date, house: House) -> date:
    """When the reversal of a trade settles: with the trade, or once that has settled, on a new date."""
    if trade.settles.isoformat() > house.settled_through:
        return trade.settles
    return clearing_date(max(effective, date.fromisoformat(house.settled_through)), house)


def post(
    account: Account, held: Hold | None, trade: Trade, house: House, replaces: int = 0
) -> tuple[list[Leg], Hold | None]:
    """A fill: cash against shares, by clearing and the street. `replaces`: shares of the trade that it corrects."""
    asset, amount = (CASH, trade.value) if trade.buys else (trade.symbol, trade.quantity)
    paid, after = pay(account, held, asset, amount)
    if after is not None:
        told = max(trade.quantity - replaces, 0)
        after = after._replace(captured_quantity=after.captured_quantity + told)
    if trade.buys:
        got = credit(account, trade.symbol, [Draw(f"position/available/{trade.symbol}", trade.quantity)])
    else:
        got = credit(account, CASH, [Draw(f"{UNSETTLED}{trade.settles}", trade.value)])
    return [*paid, *_house(house, trade, trade.settles, 1), *got], after


def undo(
    account: Account, held: Hold | None, trade: Trade, settles: date, house: House
) -> tuple[list[Leg], Hold | None]:
    """A bust: what was paid comes back, what was got is taken back."""
    own = held if held is not None and held.asset == (CASH if trade.buys else trade.symbol) else None
    if trade.buys:
        taken = _taken(account, trade.symbol, [f"position/available/{trade.symbol}"], trade.quantity)
        got, after = _give_back(account, own, CASH, trade.value, _cash_path(trade, house), house)
    else:
        taken = _taken(account, CASH, _proceeds_paths(account, trade, house), trade.value)
        path = f"position/available/{trade.symbol}"
        got, after = _give_back(account, own, trade.symbol, trade.quantity, path, house)
    return [*taken, *_house(house, trade, settles, -1), *got], after


def charge(account: Account, held: Hold | None, amount: int, house: House) -> tuple[list[Leg], Hold | None]:
    """A fee: from a hold of cash, then like any fact."""
    legs, after = pay(account, held if held is not None and held.asset == CASH else None, CASH, amount)
    return [*legs, Leg(house.account, "fees", CASH, amount)], after


def refund(
    account: Account, held: Hold | None, trade: Trade, amount: int, house: House
) -> tuple[list[Leg], Hold | None]:
    """The fee of a trade that is undone comes back."""
    cash = held if held is not None and held.asset == CASH else None
    legs, after = _give_back(account, cash, CASH, amount, _cash_path(trade, house), house)
    return [Leg(house.account, "fees", CASH, -amount), *legs], after


def finished(held: Hold) -> bool:
    """The order is done and all it executed is captured: what is left may go back.

    A bust lowers neither number. Whether CumQty(14) still counts a busted fill depends on which came first at the
    venue, which the log need not show; but never does it count more than the fills and corrections told. So each
    hold is released in the end. Too early at worst, when an end overtook both a fill and a bust: then that fill
    draws on what is available.
    """
    return not held.released and held.done_quantity is not None and held.captured_quantity >= held.done_quantity


def pay(account: Account, held: Hold | None, asset: str, amount: int) -> tuple[list[Leg], Hold | None]:
    """What a fact takes: from the hold, from what is available, and the rest is owed."""
    by_hold = 0
    if held is not None and held.asset == asset:  # a venue may tell a side that the order does not have
        draws, by_hold = captured(held.draws, amount)
        held = held._replace(draws=draws)
        if by_hold == amount:
            return [Leg(account, held_path(asset), asset, -amount)], held
    others, missing = draw(account, available_paths(account, asset), amount - by_hold)
    parts = [Draw(held_path(asset), by_hold), *others, Draw(owed_path(asset), missing)]
    return debit(account, asset, parts), held


def _house(house: House, trade: Trade, settles: date, sign: int) -> list[Leg]:
    """The other side: clearing owes or is owed the cash, the street the shares."""
    sign = sign if trade.buys else -sign
    return [
        Leg(house.account, f"clearing/{settles}", CASH, sign * trade.value),
        Leg(house.account, f"street/{trade.symbol}", trade.symbol, -sign * trade.quantity),
    ]


def _taken(account: Account, asset: str, paths: Sequence[str], amount: int) -> list[Leg]:
    parts, missing = draw(account, paths, amount)
    return debit(account, asset, [*parts, Draw(owed_path(asset), missing)])


def _proceeds_paths(account: Account, trade: Trade, house: House) -> list[str]:
    """Where a sale's proceeds are looked for: where they went, then whatever the account has."""
    first = settled_path(f"{UNSETTLED}{trade.settles}", house)
    return [first, *(path for path in available_paths(account, CASH) if path != first)]


def _cash_path(trade: Trade, house: House) -> str:
    """Where cash that a trade paid goes back to if no hold tells."""
    return settled_path(f"{UNSETTLED}{trade.settles}", house)


def _give_back(
    account: Account, held: Hold | None, asset: str, amount: int, otherwise: str, house: House
) -> tuple[list[Leg], Hold | None]:
    """To the hold while it is open, for the order may fill again; else to where the hold had it from, last first."""
    repaid = min(amount, -account.amount(owed_path(asset)))
    legs = [Leg(account, owed_path(asset), asset, repaid)] if repaid else []
    draws, back = _untaken(held.draws if held is not None else (), amount - repaid)
    restored = sum(part.amount for part in back)
    rest = Draw(otherwise, amount - repaid - restored)
    if held is None or held.released:
        parts = [replace_path(part, settled_path(part.path, house)) for part in back]
        after = held._replace(draws=draws) if held is not None else None
    else:
        parts = [Draw(held_path(asset), restored)]
        refilled = zip(draws, reversed(back), strict=True)
        after = held._replace(
            draws=tuple(Draw(now.path, now.amount + part.amount, now.taken) for now, part in refilled)
        )
    sums: dict[str, int] = {}
    for part in (*parts, rest):
        sums[part.path] = sums.get(part.path, 0) + part.amount
    return legs + [Leg(account, path, asset, total) for path, total in sums.items() if total], after


def _untaken(draws: Sequence[Draw], amount: int) -> tuple[tuple[Draw, ...], list[Draw]]:
    """(draws afterwards, what each gave, last first): what was captured last is given back first."""
    after, back = [], []
    for part in reversed(draws):
        share = min(part.taken, amount)
        amount -= share
        after.append(Draw(part.path, part.amount, part.taken - share))
        back.append(Draw(part.path, share))
    return tuple(reversed(after)), back
