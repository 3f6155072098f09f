"""Kill -9 any one process, or any process at a named point: the orders under way end, each executed once."""

from collections.abc import Callable, Iterator
from threading import Thread

import pytest

from openbell.fix.v1 import fix_pb2
from openbell.ledger.v1 import ledger_pb2
from ops.client import Client
from runtime import crash
from runtime.units import CASH
from tests.brokerage import Brokerage, until
from tests.customer import DOLLAR, Customer

pytestmark = pytest.mark.brokerage

PROCESSES = ["postgres", "venue", "engine", "ems", "ledger", "oms", "marketdata", "tracer"]


@pytest.fixture(scope="module")
def sturdy() -> Iterator[Brokerage]:
    """One that is killed again and again; OPENBELL_CRASH=@FILE lets a test arm one point after another."""
    made = Brokerage(crashes=True)
    yield made
    made.remove()


def place_in_background(customer: Customer, count: int) -> Thread:
    thread = Thread(target=customer.place_many, args=(count,))
    thread.start()
    return thread


def finish(customer: Customer, placing: Thread, count: int) -> None:
    """All orders answered, filled, posted; nothing lost, doubled or stuck."""
    placing.join(90)
    assert not placing.is_alive()
    until(lambda: customer.shares() == count, f"{count} shares are in the ledger, not {customer.shares()}", 60)
    until(lambda: not customer.balances().held, "no hold is left behind")
    customer.audit()


@pytest.mark.parametrize("name", PROCESSES)
def test_orders_under_way_end_when_a_process_is_killed(sturdy: Brokerage, name: str) -> None:
    customer = Customer(sturdy)
    others = {other: sturdy.pid(other) for other in PROCESSES if other != name}
    placing = place_in_background(customer, 60)
    until(lambda: customer.shares() > 3, "orders flow")
    old_pid = sturdy.kill(name)
    sturdy.until_restarted(name, old_pid)
    finish(customer, placing, 60)
    assert {other: sturdy.pid(other) for other in others} == others  # they waited; none of them died of it


@pytest.mark.parametrize("point", sorted(crash.POINTS))
def test_orders_under_way_end_when_a_process_dies_at_a_point(sturdy: Brokerage, point: str) -> None:
    customer = Customer(sturdy)
    armed = sturdy.crash_file
    armed.write_text(point)
    placing = place_in_background(customer, 20)
    until(lambda: not armed.exists(), f"a process reaches {point}")
    finish(customer, placing, 20)
    sturdy.until_up()


def test_a_crash_point_named_by_the_environment_fires_once(new_brokerage: Callable[..., Brokerage]) -> None:
    brokerage = new_brokerage(OPENBELL_CRASH="oms.order_committed")
    customer = Customer(brokerage)
    customer.until_filled(*customer.place_many(3))
    assert (brokerage.data / "crashed-oms.order_committed").exists()


def test_a_hold_whose_order_never_came_is_released(new_brokerage: Callable[..., Brokerage]) -> None:
    brokerage = new_brokerage("[oms]\norphan_hold_seconds = 1.0\nsweep_seconds = 0.3\n")
    customer = Customer(brokerage)
    oms = Client(brokerage.settings, "service:oms", ["hold"])
    hold = ledger_pb2.HoldRequest(
        account_id=customer.account, order_id="ord_x", asset=CASH, amount=10_000, idempotency_key="lost/0"
    )
    oms.call(oms.ledger.Hold, hold)
    resting = customer.place(limit=100 * DOLLAR)
    until(lambda: customer.balances().held == 100 * DOLLAR, "the lost hold is released, the order's is not")
    again = customer.place(key="lost")  # whoever asks again by that key gets an order of its own
    customer.until_filled(again)
    assert customer.get(resting.order_id).status == fix_pb2.ORD_STATUS_NEW
