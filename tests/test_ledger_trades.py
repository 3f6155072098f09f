"""Busts, corrections and fees: what a venue takes back, in every order in which it may come."""

import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import accounts, on_execution
from ledger.accounts import Account, House, Kind
from ledger.book import Book, BookTrade, Deposit, PlaceHold, ReleaseHold, Withdraw
from ledger.config import Config
from ledger.on_execution import Execution, Unreferenced
from ledger.planner import Facts, SettleCash, SettleDates
from ledger.reads import Reads
from ledger.reasons import Reason
from ledger.rows import Batch
from ledger.writer import Writer
from openbell.ems.v1 import ems_pb2
from openbell.fix.v1 import fix_pb2
from runtime import db, log
from runtime.fees import FeeSchedule, fee
from runtime.units import CASH
from tests import test_ledger as common
from tests.cluster import Cluster, Database
from tests.test_ledger import DOLLAR, SEAL, SETTLES, TRADED, Ledger, end, fill, refused

ledger = common.ledger  # the fixture
NEXT = "2026-11-24"  # the settlement day after SETTLES
FEES = FeeSchedule(per_share=100, buy_per_million=0, sell_per_million=278_000)

UNSOUND = {
    "I3: a transaction does not sum to zero": """
        SELECT position, asset FROM entries JOIN balances USING (balance_id) GROUP BY 1, 2 HAVING sum(amount) <> 0""",
    "I3: a balance is not the sum of its entries": """
        SELECT path, b.balance FROM balances b LEFT JOIN entries e USING (balance_id)
        GROUP BY b.balance_id HAVING b.balance <> coalesce(sum(e.amount), 0) OR b.version <> count(e.amount)""",
    "I4: a customer below zero": """
        SELECT path, e.balance FROM entries e JOIN balances USING (balance_id)
        WHERE e.balance < 0 AND account_id NOT LIKE 'house/%' AND path NOT LIKE '%/owed%'""",
    "I11: held is not what open holds hold": """
        SELECT account_id, asset, sum(amount) FROM (
            SELECT account_id, asset, balance AS amount FROM balances WHERE path ~ '/held'
            UNION ALL SELECT account_id, asset, -(SELECT sum(each) FROM unnest(draw_amounts) AS each) FROM holds
        ) both_sides GROUP BY 1, 2 HAVING sum(amount) <> 0""",
    "the street is not minus the customers' positions": """
        SELECT asset, sum(balance) FROM balances WHERE path ~ '^(street|position)/'
        GROUP BY 1 HAVING sum(balance) <> 0""",
    "an account owes what it has": """
        SELECT account_id, asset FROM balances WHERE path !~ '/held' AND account_id NOT LIKE 'house/%'
        GROUP BY 1, 2 HAVING min(balance) < 0 AND max(balance) > 0""",
}


async def assert_sound(pool: db.Pool) -> None:
    for what, query in UNSOUND.items():
        assert await pool.fetch(query) == [], what


@pytest.fixture
async def database(cluster: Cluster) -> Database:
    """A fresh one for the ledger alone."""
    return await cluster.database(["ledger"])


@pytest.fixture
async def desk(ledger: Ledger) -> AsyncIterator[Ledger]:
    """Alice with 1,000 dollars; sound when the test is over."""
    yield ledger
    await assert_sound(ledger.pool)


@pytest.fixture
async def charged(desk: Ledger) -> Ledger:
    """With fees of a cent a share, and 27.80 dollars a million of what is sold."""
    desk.writer = Writer(desk.pool, Config(), log.Bell(), SEAL, FEES)
    return desk


def buy(
    desk: Ledger, exec_id: str, quantity: int, dollars: int, *, last: bool = False, order: str = "ord_1"
) -> Execution:
    return fill(order, desk.alice, quantity, dollars, last=last)._replace(exec_id=exec_id)


def sell(desk: Ledger, exec_id: str, quantity: int, dollars: int, *, last: bool = False) -> Execution:
    return fill("ord_2", desk.alice, quantity, dollars, buys=False, last=last)._replace(exec_id=exec_id)


def bust(of: Execution, exec_id: str, ref: str = "") -> Execution:
    """A bust tells little: what it undoes, the reference tells."""
    return of._replace(
        fills=False,
        terminal=False,
        quantity=0,
        price=0,
        exec_id=exec_id,
        exec_ref_id=ref or of.exec_id,
        reverses=Kind.BUST,
    )


def correct(of: Execution, exec_id: str, quantity: int, dollars: int, ref: str = "") -> Execution:
    undone = bust(of, exec_id, ref)
    return undone._replace(reverses=Kind.CORRECTION, quantity=quantity, price=dollars * DOLLAR)


async def settle(desk: Ledger, through: str) -> None:
    """As Settler does it, in one go."""
    answers = await desk.writer.commit([SettleDates(date.fromisoformat(through), b"t" * 16, 1)])
    query = "SELECT account_id, path FROM balances WHERE path LIKE 'cash/unsettled/%' AND right(path, 10) <= $1"
    rows = [tuple(row) for row in await desk.pool.fetch(query, through)]
    answers = [*answers, *await desk.writer.commit([SettleCash(rows, b"t" * 16, 1)])]
    assert all(isinstance(answer, bytes) for answer in answers)


async def clearing(desk: Ledger) -> dict[str, int]:
    """The house's open clearing in dollars, by date."""
    rows = await desk.pool.fetch("SELECT path, balance FROM balances WHERE path LIKE 'clearing/%' AND balance <> 0")
    return {row["path"][-10:]: row["balance"] // DOLLAR for row in rows}


async def is_open(desk: Ledger, order_id: str = "ord_1") -> bool:
    return not await desk.pool.fetchval("SELECT released FROM holds WHERE order_id = $1", order_id)


async def bought(desk: Ledger, quantity: int = 10, dollars: int = 50) -> Execution:
    """Of a finished order."""
    made = buy(desk, "E1", quantity, dollars, last=True)
    await desk.hold("ord_1", quantity * dollars * DOLLAR)
    await desk.execute(made)
    return made


# --- buys


async def test_a_busted_buy_gives_the_cash_back_to_where_its_hold_had_it_from(desk: Ledger) -> None:
    made = await bought(desk)
    await desk.execute(bust(made, "E2"))
    assert (await desk.cash(), await desk.shares()) == ({"cash/settled": 1000}, {})
    assert await clearing(desk) == {}


async def test_a_bust_of_a_live_order_refills_its_hold_and_it_may_fill_again(desk: Ledger) -> None:
    await desk.hold("ord_1", 500 * DOLLAR)
    made = buy(desk, "E1", 4, 50)
    await desk.execute(made)
    await desk.execute(bust(made, "E2"))
    assert await desk.cash() == {"cash/held": 500, "cash/settled": 500}
    await desk.execute(buy(desk, "E3", 10, 50, last=True))
    assert (await desk.cash(), await desk.shares()) == ({"cash/settled": 500}, {"position/available/AAPL": 10})


async def test_a_bust_in_the_batch_of_its_fill_undoes_it(desk: Ledger) -> None:
    await desk.hold("ord_1", 500 * DOLLAR)
    made = buy(desk, "E1", 4, 50)
    await desk.execute(made, bust(made, "E2"), end("ord_1", desk.alice, 0))
    assert (await desk.cash(), await desk.shares()) == ({"cash/settled": 1000}, {})


async def test_shares_sold_meanwhile_are_owed_when_their_buy_is_busted(desk: Ledger) -> None:
    made = await bought(desk)
    await desk.hold("ord_2", 10, "AAPL")
    await desk.execute(sell(desk, "E2", 10, 60, last=True))
    await desk.execute(bust(made, "E3"))
    assert await desk.shares() == {"position/owed/AAPL": -10}
    assert await desk.cash() == {"cash/settled": 1000, f"cash/unsettled/{SETTLES}": 600}
    await refused(desk, PlaceHold(desk.alice, "ord_3", CASH, DOLLAR), Reason.ACCOUNT_OWES)
    await refused(desk, Withdraw(desk.alice, DOLLAR), Reason.ACCOUNT_OWES)


async def test_shares_held_for_a_sale_are_not_taken_by_a_bust(desk: Ledger) -> None:
    made = await bought(desk)
    await desk.hold("ord_2", 10, "AAPL")
    await desk.execute(bust(made, "E2"))
    assert await desk.shares() == {"position/held/AAPL": 10, "position/owed/AAPL": -10}
    await desk.execute(end("ord_2", desk.alice, 0))
    assert await desk.shares() == {}


async def test_a_bust_of_a_buy_pays_what_is_owed_first(desk: Ledger) -> None:
    made = await bought(desk)
    await desk.execute(buy(desk, "E2", 14, 50, order="ord_late"))
    assert await desk.cash() == {"cash/owed": -200}
    await desk.execute(bust(made, "E3"))
    assert await desk.cash() == {"cash/settled": 300}


async def test_a_buy_that_drew_unsettled_cash_gives_it_back_unsettled_or_settled_by_then(desk: Ledger) -> None:
    await desk.execute(sell(desk, "E1", 10, 50, last=True), buy(desk, "E2", 10, 10, order="ord_back"))
    assert await desk.cash() == {"cash/settled": 1000, f"cash/unsettled/{SETTLES}": 400}
    await desk.hold("ord_1", 600 * DOLLAR)
    made = buy(desk, "E3", 12, 50, last=True)
    await desk.execute(made)
    assert await desk.cash() == {"cash/settled": 800}
    await desk.execute(bust(made, "E4"))
    assert await desk.cash() == {"cash/settled": 1000, f"cash/unsettled/{SETTLES}": 400}
    await desk.execute(made._replace(exec_id="E5"))
    await settle(desk, SETTLES)
    await desk.execute(bust(made, "E6", "E5"))
    assert await desk.cash() == {"cash/settled": 1400}


# --- sells


async def sold(desk: Ledger, *, last: bool = True) -> Execution:
    """Ten shares bought for 500 dollars, sold for 600."""
    await bought(desk)
    await desk.hold("ord_2", 10, "AAPL")
    made = sell(desk, "E2", 10, 60, last=last)
    await desk.execute(made)
    return made


async def test_a_busted_sale_takes_its_proceeds_and_gives_the_shares_back(desk: Ledger) -> None:
    made = await sold(desk)
    await desk.execute(bust(made, "E3"))
    assert (await desk.cash(), await desk.shares()) == ({"cash/settled": 500}, {"position/available/AAPL": 10})


async def test_a_busted_sale_of_a_live_order_holds_the_shares_again(desk: Ledger) -> None:
    made = await sold(desk, last=False)
    await desk.execute(bust(made, "E3"))
    assert await desk.shares() == {"position/held/AAPL": 10}
    await desk.execute(end("ord_2", desk.alice, 0))
    assert await desk.shares() == {"position/available/AAPL": 10}


async def test_proceeds_already_spent_are_owed(desk: Ledger) -> None:
    made = await sold(desk)
    await desk.hold("ord_3", 1100 * DOLLAR)
    await desk.execute(buy(desk, "E3", 22, 50, order="ord_3", last=True))
    await desk.execute(bust(made, "E4"))
    assert await desk.cash() == {"cash/owed": -600}
    await refused(desk, PlaceHold(desk.alice, "ord_4", CASH, DOLLAR), Reason.ACCOUNT_OWES)
    await refused(desk, PlaceHold(desk.alice, "ord_4", "AAPL", 1), Reason.ACCOUNT_OWES)
    await desk.do(Deposit(desk.alice, 600 * DOLLAR))
    await desk.hold("ord_4", 1, "AAPL")


async def test_proceeds_held_for_another_order_stay_held_and_are_owed(desk: Ledger) -> None:
    made = await sold(desk)
    hold = await desk.hold("ord_3", 1100 * DOLLAR)
    await desk.execute(bust(made, "E3"))
    assert await desk.cash() == {"cash/held": 1100, "cash/owed": -600}
    await desk.do(ReleaseHold(hold.hold_id))
    assert await totals(desk) == (500 * DOLLAR, 10)


async def test_a_bust_after_settlement_takes_settled_cash_and_a_new_clearing_date(desk: Ledger) -> None:
    made = await sold(desk)
    await settle(desk, SETTLES)
    assert (await desk.cash(), await clearing(desk)) == ({"cash/settled": 1100}, {})
    await desk.execute(bust(made, "E3"))
    assert (await desk.cash(), await clearing(desk)) == ({"cash/settled": 500}, {NEXT: 600})


async def test_proceeds_withdrawn_after_settlement_are_owed_when_the_sale_is_busted(desk: Ledger) -> None:
    made = await sold(desk)
    await settle(desk, SETTLES)
    await desk.do(Withdraw(desk.alice, 1000 * DOLLAR))
    await desk.execute(bust(made, "E3"))
    assert await desk.cash() == {"cash/owed": -500}


async def test_a_buy_busted_after_settlement_gives_settled_cash_back(desk: Ledger) -> None:
    made = await bought(desk)
    await settle(desk, SETTLES)
    await desk.execute(bust(made, "E2"))
    assert (await desk.cash(), await clearing(desk)) == ({"cash/settled": 1000}, {NEXT: -500})


# --- references


async def test_a_second_bust_does_nothing(desk: Ledger) -> None:
    made = await bought(desk)
    await desk.execute(bust(made, "E2"), bust(made, "E3"))
    await desk.execute(bust(made, "E4"))
    assert (await desk.cash(), await desk.shares()) == ({"cash/settled": 1000}, {})


@pytest.mark.parametrize("ref", ["E1", "E2"])
async def test_a_corrected_trade_is_busted_by_either_of_its_ids(desk: Ledger, ref: str) -> None:
    made = await bought(desk)
    await desk.execute(correct(made, "E2", 10, 60))
    assert await desk.cash() == {"cash/settled": 400}
    await desk.execute(bust(made, "E3", ref), bust(made, "E4", "E1"), bust(made, "E5", "E2"))
    assert await totals(desk) == (1000 * DOLLAR, 0)


@pytest.mark.parametrize("ref", ["E1", "E2"])
async def test_a_trade_is_corrected_twice(desk: Ledger, ref: str) -> None:
    made = await bought(desk)
    await desk.execute(correct(made, "E2", 10, 60))
    await desk.execute(correct(made, "E3", 8, 70, ref))
    assert await totals(desk) == (440 * DOLLAR, 8)


@pytest.mark.parametrize("ref", ["E0", "E9", ""])
async def test_a_bust_of_what_was_never_posted_stops_the_log(desk: Ledger, ref: str) -> None:
    made = await bought(desk)
    before = await desk.pool.fetchval("SELECT count(*) FROM transactions")
    unknown = bust(made, "E2")._replace(exec_ref_id=ref)
    with pytest.raises(Unreferenced):
        await desk.execute(end("ord_9", desk.alice, 0), unknown)
    assert await desk.pool.fetchval("SELECT count(*) FROM transactions") == before
    assert await desk.pool.fetchval("SELECT position FROM cursors WHERE source = 'ems'") == 1


async def test_an_unknown_reference_stops_its_own_log_only(desk: Ledger) -> None:
    made = await bought(desk)
    facts = Facts(2, 0, [bust(made, "E2", "E9")._replace(position=1, execution_id="exe_2_000000000001")])
    stopped, deposit = await desk.writer.commit([facts, desk.request(Deposit(desk.alice, DOLLAR))])
    assert isinstance(stopped, Unreferenced)
    assert common.is_done(deposit)


async def test_another_venue_may_use_the_same_exec_ids(desk: Ledger) -> None:
    made = await bought(desk)
    elsewhere = buy(desk, "E1", 2, 50)._replace(position=1, execution_id="exe_2_000000000001")
    undo = bust(elsewhere, "E2")._replace(position=2, execution_id="exe_2_000000000002")
    await desk.writer.commit([Facts(2, 0, [elsewhere])])
    await desk.writer.commit([Facts(2, 1, [undo])])
    assert await desk.shares() == {"position/available/AAPL": 10}
    await desk.execute(bust(made, "E2"))
    assert await desk.shares() == {}


async def test_a_trade_booked_by_hand_for_the_order_is_no_venues_to_bust(desk: Ledger) -> None:
    made = await bought(desk)
    await desk.do(BookTrade(desk.alice, "ord_1", True, "AAPL", 2, 50 * DOLLAR, str(TRADED), ""))
    await desk.execute(bust(made, "E2"))
    assert await desk.shares() == {"position/available/AAPL": 2}
    with pytest.raises(Unreferenced):
        await desk.execute(bust(made, "E3")._replace(exec_ref_id=""))


# --- corrections


async def test_a_correction_of_the_price_moves_the_difference(desk: Ledger) -> None:
    made = await sold(desk)
    await desk.execute(correct(made, "E3", 10, 58))
    assert (await desk.cash(), await desk.shares()) == ({"cash/settled": 500, f"cash/unsettled/{SETTLES}": 580}, {})
    assert await clearing(desk) == {SETTLES: -80}


async def test_a_correction_of_the_quantity_takes_what_the_hold_no_longer_has_from_what_is_available(
    desk: Ledger,
) -> None:
    made = await bought(desk)
    await desk.execute(correct(made, "E2", 12, 50))
    assert (await desk.cash(), await desk.shares()) == ({"cash/settled": 400}, {"position/available/AAPL": 12})


async def test_a_correction_after_settlement_settles_on_one_new_date(desk: Ledger) -> None:
    desk.writer = Writer(desk.pool, Config(settlement_cycle_days=2), log.Bell(), SEAL)
    made = await bought(desk)
    await settle(desk, NEXT)
    await desk.execute(correct(made, "E2", 10, 51))
    assert await clearing(desk) == {"2026-11-27": 10}  # two settlement days after the 24th: the 26th is Thanksgiving


async def test_a_correction_that_fills_its_order_ends_it(desk: Ledger) -> None:
    await desk.hold("ord_1", 500 * DOLLAR)
    made = buy(desk, "E1", 4, 50)
    await desk.execute(made)
    await desk.execute(correct(made, "E2", 10, 50)._replace(terminal=True, cum_quantity=10))
    assert await desk.cash() == {"cash/settled": 500}
    assert not await is_open(desk)


async def test_a_correction_lets_a_done_order_wait_for_the_fill_that_is_still_to_come(desk: Ledger) -> None:
    await desk.hold("ord_1", 1000 * DOLLAR)
    made = buy(desk, "E1", 10, 50)
    await desk.execute(made, end("ord_1", desk.alice, 15), correct(made, "E2", 8, 50))
    assert await is_open(desk)
    await desk.execute(buy(desk, "E3", 5, 50))
    assert (await desk.cash(), await is_open(desk)) == ({"cash/settled": 350}, False)


# --- ends


@pytest.mark.parametrize("cum_quantity", [0, 4])
async def test_a_hold_is_released_whether_or_not_the_venue_still_counts_a_busted_fill(
    desk: Ledger, cum_quantity: int
) -> None:
    await desk.hold("ord_1", 500 * DOLLAR)
    made = buy(desk, "E1", 4, 50)
    await desk.execute(made, bust(made, "E2"), end("ord_1", desk.alice, cum_quantity))
    assert (await desk.cash(), await is_open(desk)) == ({"cash/settled": 1000}, False)


async def test_a_done_order_waits_for_a_late_fill_although_another_was_busted(desk: Ledger) -> None:
    await desk.hold("ord_1", 500 * DOLLAR)
    made = buy(desk, "E1", 4, 50)
    await desk.execute(made, end("ord_1", desk.alice, 7), bust(made, "E2"))
    assert await desk.cash() == {"cash/held": 500, "cash/settled": 500}
    await desk.execute(buy(desk, "E3", 3, 50))
    assert (await desk.cash(), await is_open(desk)) == ({"cash/settled": 850}, False)


async def test_a_bust_of_a_filled_order_leaves_its_hold_released_and_a_new_fill_draws_on_what_is_available(
    desk: Ledger,
) -> None:
    made = await bought(desk)
    await desk.execute(bust(made, "E2"), buy(desk, "E3", 10, 50, last=True))
    assert (await desk.cash(), await is_open(desk)) == ({"cash/settled": 500}, False)


STATUSES = [
    ("FILL", "PARTIALLY_FILLED", False),
    ("FILL", "FILLED", True),
    ("FILL", "CANCELED", True),
    ("CORRECT", "FILLED", True),
    ("CORRECT", "PARTIALLY_FILLED", False),
    ("BUST", "NEW", False),
    ("BUST", "CANCELED", True),
    ("CANCELED", "CANCELED", True),
    ("NOT_SENT", "UNSPECIFIED", True),
    ("DONE_FOR_DAY", "DONE_FOR_DAY", False),
    ("STATUS", "FILLED", False),
]


@pytest.mark.parametrize(("kind", "status", "terminal"), STATUSES)
def test_what_ends_an_order(kind: str, status: str, terminal: bool) -> None:
    row = ems_pb2.Execution(
        kind=ems_pb2.ExecutionKind.Value(f"EXECUTION_KIND_{kind}"),
        ord_status=fix_pb2.OrdStatus.Value(f"ORD_STATUS_{status}"),
        trade_date="2026-11-20",
    )
    assert on_execution.decode(row, 1).terminal is terminal


# --- fees


async def fees(desk: Ledger) -> int:
    """What the house has earned, in 1/10,000 dollar."""
    return int(await desk.pool.fetchval("SELECT balance FROM balances WHERE path = 'fees'"))


async def cents(desk: Ledger) -> dict[str, int]:
    rows = await desk.pool.fetch("SELECT path, balance FROM balances WHERE path ~ '^(cash|fees)' AND balance <> 0")
    return {row["path"]: row["balance"] // 100 for row in rows}


async def test_fees_are_taken_from_the_hold_of_a_buy_and_come_back_with_a_bust(charged: Ledger) -> None:
    await charged.hold("ord_1", 501 * DOLLAR)
    made = buy(charged, "E1", 10, 50, last=True)
    await charged.execute(made)
    assert await cents(charged) == {"cash/settled": 49_990, "fees": 10}
    await charged.execute(bust(made, "E2"))
    assert await cents(charged) == {"cash/settled": 100_000}


async def test_fees_of_a_sale_come_from_its_proceeds_and_are_charged_anew_by_a_correction(charged: Ledger) -> None:
    await charged.hold("ord_1", 1000 * DOLLAR)
    await charged.execute(buy(charged, "E1", 10, 50, last=True))
    await charged.hold("ord_2", 10, "AAPL")
    made = sell(charged, "E2", 10, 60, last=True)
    await charged.execute(made)
    assert await fees(charged) == 1000 + 1000 + 167  # 600 dollars at 27.80 a million are 1.668 cents
    await charged.execute(correct(made, "E3", 5, 60))
    assert await fees(charged) == 1000 + 500 + 84
    await charged.execute(bust(made, "E4", "E2"))
    assert await fees(charged) == 1000
    assert await totals(charged) == (500 * DOLLAR - 1000, 10)


async def test_a_fee_beyond_all_cash_is_owed(charged: Ledger) -> None:
    await charged.hold("ord_1", 1000 * DOLLAR)
    made = buy(charged, "E1", 20, 50, last=True)
    await charged.execute(made)
    assert await cents(charged) == {"cash/owed": -20, "fees": 20}
    await charged.execute(bust(made, "E2"))
    assert await cents(charged) == {"cash/settled": 100_000}


async def test_what_reverses_what_is_told_by_the_rows(charged: Ledger) -> None:
    await charged.hold("ord_1", 1000 * DOLLAR)
    made = buy(charged, "E1", 10, 50)
    await charged.execute(made, correct(made, "E2", 10, 51), bust(made, "E3", "E2"))
    of_order = "WHERE order_id = 'ord_1' AND kind <> 3 ORDER BY position"
    rows = await charged.pool.fetch(f"SELECT position, kind, reverses, exec_id FROM transactions {of_order}")
    first = rows[0]["position"]
    assert [(Kind(row["kind"]), row["reverses"] and row["reverses"] - first, row["exec_id"]) for row in rows] == [
        (Kind.TRADE, None, "E1"),
        (Kind.FEE, None, "E1"),
        (Kind.CORRECTION, 0, "E2"),
        (Kind.REVERSAL, 1, "E2"),
        (Kind.TRADE, None, "E2"),
        (Kind.FEE, None, "E2"),
        (Kind.BUST, 4, "E3"),
        (Kind.REVERSAL, 5, "E3"),
    ]


# --- any order of things


@dataclass
class Venue:
    """One order at a venue that fills, busts, corrects and ends it at random, and what it says of that."""

    chance: random.Random
    order_id: str
    account_id: str
    buys: bool
    counts_busts: bool  # whether CumQty(14) still counts what was busted
    live: dict[str, tuple[int, int]] = field(default_factory=dict)  # ExecID(17) of a fill -> quantity, price as of now
    names: dict[str, list[str]] = field(default_factory=dict)  # every ExecID that it has had
    told: list[tuple[Execution, str]] = field(default_factory=list)  # with the ExecID it must come after
    cum: int = 0
    number: int = 0
    ended: bool = False

    def play(self, acts: int) -> list[Execution]:
        """The messages, in an order in which they may arrive: each after what it refers to."""
        for _ in range(acts):
            self.chance.choice([self._fill, self._fill, self._bust, self._correct, self._end])()
        self._end()
        if self.chance.random() < 0.5:
            return [row for row, _ in self.told]
        waiting, arrived, seen = list(self.told), [], {""}
        while waiting:
            row, after = self.chance.choice([each for each in waiting if each[1] in seen])
            waiting.remove((row, after))
            arrived.append(row)
            seen.add(row.exec_id)
        return arrived

    def _row(self, **values: Any) -> Execution:
        self.number += 1
        row = end(self.order_id, self.account_id, self.cum)
        return row._replace(buys=self.buys, terminal=False, exec_id=f"E{self.number}", **values)

    def _fill(self) -> None:
        if self.ended:
            return
        quantity, price = self.chance.randint(1, 5), self.chance.randint(1, 5) * DOLLAR
        self.cum += quantity
        row = self._row(fills=True, quantity=quantity, price=price)
        self.live[row.exec_id], self.names[row.exec_id] = (quantity, price), [row.exec_id]
        self.told.append((row, ""))

    def _bust(self) -> None:
        if not self.live:
            return
        name = self.chance.choice(sorted(self.live))
        quantity, _ = self.live.pop(name)
        self.cum -= 0 if self.counts_busts else quantity
        row = self._row(reverses=Kind.BUST, exec_ref_id=self.chance.choice(self.names[name]))
        self.told.append((row, self.names[name][-1]))

    def _correct(self) -> None:
        if not self.live:
            return
        name = self.chance.choice(sorted(self.live))
        quantity, price = self.chance.randint(1, 5), self.chance.randint(1, 5) * DOLLAR
        self.cum += quantity - self.live[name][0]
        self.live[name] = quantity, price
        ref = self.chance.choice(self.names[name])
        row = self._row(reverses=Kind.CORRECTION, exec_ref_id=ref, quantity=quantity, price=price)
        self.told.append((row, self.names[name][-1]))
        self.names[name].append(row.exec_id)

    def _end(self) -> None:
        if not self.ended:
            self.ended = True
            self.told.append((self._row()._replace(terminal=True, exec_id=""), ""))

    def outcome(self, fees: FeeSchedule) -> tuple[int, int]:
        """(cash, shares) that the surviving fills moved."""
        sign = 1 if self.buys else -1
        charged = sum(fee(fees, self.buys, quantity, price) for quantity, price in self.live.values())
        value = sum(quantity * price for quantity, price in self.live.values())
        return -sign * value - charged, sign * sum(quantity for quantity, _ in self.live.values())


class Memory:
    """A book in memory, posted to as the writer does it, with a customer who has 50 dollars and 12 shares."""

    def __init__(self, fees: FeeSchedule) -> None:
        self.house = House(Account("house/0", "", 0), fees=fees)
        self.account = Account("acc_1", "cus_1", 0)
        self.book = Book(0, self.house, {"house/0": self.house.account, "acc_1": self.account}, traded={"ord_1": {}})
        self.batch = Batch(1, TRADED)
        given = {"cash/settled": (CASH, 50 * DOLLAR), "position/available/AAPL": ("AAPL", 12)}
        for path, (asset, amount) in given.items():
            self.batch.step(self.account, path, asset, amount)
        self.start = self.totals()

    def totals(self) -> tuple[int, int]:
        amounts = {prefix: sum(map(self.account.amount, self.account.paths(prefix))) for prefix in ("cash", "position")}
        return amounts["cash"], amounts["position"]

    def apply(self, posting: accounts.Posting) -> None:
        sums: dict[str, int] = {}
        for leg in posting.legs:
            sums[leg.asset] = sums.get(leg.asset, 0) + leg.amount
        assert not any(sums.values())
        assert len({(leg.account, leg.path) for leg in posting.legs}) == len(posting.legs)
        if posting.hold is not None:
            self.book.keep(posting.hold)
        if posting.legs:
            self.book.position += 1
            self.batch.post(self.book.position, posting)
        for path in self.account.paths(""):
            assert self.account.amount(path) > 0 or "/owed" in path, path

    def set_aside(self, asset: str, amount: int) -> None:
        legs, draws = accounts.hold(self.account, asset, amount)
        made = accounts.Hold(0, 1, "acc_1", "ord_1", asset, draws, 1, "k")
        self.apply(accounts.Posting(Kind.HOLD, "acc_1", legs, TRADED, b"", 1, "ord_1", made))

    def settle(self, through: str) -> None:
        self.house.settled_through = through
        for path in self.house.account.paths("clearing/"):
            if path[-10:] <= through:
                self._settled(self.house.account, accounts.settle_clearing(self.house, path))
        for path in self.account.paths(accounts.UNSETTLED):
            if path[-10:] <= through:
                self._settled(self.account, accounts.settle_cash(self.account, path))

    def _settled(self, account: Account, legs: list[accounts.Leg]) -> None:
        self.apply(accounts.Posting(Kind.SETTLEMENT, account.account_id, legs, TRADED, b"", 1))

    def execute(self, executions: Sequence[Execution], days: Iterator[str], when: Callable[[], bool]) -> None:
        for position, row in enumerate(executions, 1):
            named = row._replace(position=position, execution_id=f"exe_1_{position:012d}")
            for posting in on_execution.postings(self.book, named, TRADED):
                self.apply(posting)
            if when():
                self.settle(next(days))


DAYS = ("2026-11-20", "2026-11-23", "2026-11-24", "2026-11-25", "2026-11-27", "2026-11-30", "2026-12-01", "2026-12-02")


@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    st.randoms(use_true_random=False),
    st.integers(0, 12),
    st.booleans(),
    st.booleans(),
    st.sampled_from([FeeSchedule(), FEES]),
    st.integers(1, 12),
)
def test_in_whatever_order_things_come_what_is_left_are_the_surviving_fills_and_no_hold(
    chance: random.Random, acts: int, buys: bool, counts_busts: bool, fees: FeeSchedule, held: int
) -> None:
    memory = Memory(fees)
    memory.set_aside(CASH if buys else "AAPL", held * (4 * DOLLAR if buys else 1))
    venue = Venue(chance, "ord_1", "acc_1", buys, counts_busts)
    days = iter(DAYS * 4)
    memory.execute(venue.play(acts), days, lambda: chance.random() < 0.1)
    moved = tuple(after - before for after, before in zip(memory.totals(), memory.start, strict=True))
    assert moved == venue.outcome(fees)
    assert memory.book.holds["ord_1"].released
    assert not memory.account.amount("cash/held") + memory.account.amount("position/held/AAPL")
    for asset, owed in (("cash", "cash/owed"), ("position", "position/owed/AAPL")):
        assert not memory.account.amount(owed) or memory.account.paths(asset) == [owed]


@pytest.mark.parametrize("seed", range(3))
async def test_the_database_agrees_when_many_such_orders_are_mixed_and_writers_change(desk: Ledger, seed: int) -> None:
    chance = random.Random(seed)
    desk.writer = Writer(desk.pool, Config(), log.Bell(), SEAL, FEES)
    await desk.execute(buy(desk, "E0", 30, 1, order="ord_0", last=True))
    before = await totals(desk)
    venues = [Venue(chance, f"ord_{n}", desk.alice, n % 2 == 0, n % 3 == 0) for n in range(1, 13)]
    for venue in venues:
        await desk.hold(venue.order_id, 20 * DOLLAR if venue.buys else 2, CASH if venue.buys else "AAPL")
    plays = [venue.play(chance.randint(0, 8)) for venue in venues]
    days = iter(DAYS * 4)
    while plays:
        await desk.execute(*(play.pop(0) for play in chance.sample(plays, chance.randint(1, len(plays)))))
        plays = [play for play in plays if play]
        if chance.random() < 0.2:
            await settle(desk, next(days))
        if chance.random() < 0.3:
            desk.writer = Writer(desk.pool, Config(), log.Bell(), SEAL, FEES)
    outcomes = [venue.outcome(FEES) for venue in venues]
    expected = tuple(start + sum(parts) for start, parts in zip(before, zip(*outcomes, strict=True), strict=True))
    assert await totals(desk) == expected
    assert await desk.pool.fetchval("SELECT count(*) FROM holds WHERE NOT released") == 0


async def totals(desk: Ledger) -> tuple[int, int]:
    """Alice's cash and shares, wherever they are."""
    account, _ = await Reads(desk.pool, Config(), log.Bell()).account(desk.alice)
    cash, shares = (sum(map(account.amount, account.paths(prefix))) for prefix in ("cash/", "position/"))
    return cash, shares
