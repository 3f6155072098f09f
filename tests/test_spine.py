"""One order, bought and sold, through every real part; and what is refused on the way."""

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from openbell.fix.v1 import fix_pb2
from openbell.ledger.v1 import ledger_pb2
from openbell.oms.v1 import oms_pb2 as pb
from ops import order
from ops.client import Client
from runtime import auth
from runtime.errors import Refusal, from_rpc
from tests.brokerage import Brokerage, until
from tests.customer import BUY, DOLLAR, FILLED, SELL, Customer

pytestmark = pytest.mark.brokerage


@pytest.fixture
def alice(brokerage: Brokerage) -> Customer:
    return Customer(brokerage)


def test_a_share_bought_and_sold_ends_as_balanced_entries(alice: Customer) -> None:
    bought = alice.place(BUY, "AAPL", 10)
    alice.until_filled(bought)
    until(lambda: alice.shares() == 10, "the ledger has the shares")
    sold = alice.place(SELL, "AAPL", 10)
    alice.until_filled(sold)
    until(lambda: alice.shares() == 0, "the ledger has given the shares")
    paid, got = alice.get(bought.order_id).filled_value, alice.get(sold.order_id).filled_value
    balances = until(lambda: not alice.balances().held and alice.balances(), "nothing is held")
    assert balances.settled == 100_000 * DOLLAR - paid
    assert [part.amount for part in balances.unsettled] == [got]
    alice.audit()


def test_a_limit_order_is_filled_at_the_resting_price(alice: Customer) -> None:
    placed = alice.place(BUY, "GOOGL", 2, limit=2_900 * DOLLAR)
    alice.until_filled(placed)
    assert alice.get(placed.order_id).filled_value == 2 * 28_000_100


def test_an_order_beyond_one_price_level_is_filled_in_parts(alice: Customer) -> None:
    placed = alice.place(BUY, "AAPL", 600, limit=151 * DOLLAR)
    more = Customer(alice.brokerage, dollars=1_000_000).place(BUY, "AAPL", 1_500, limit=151 * DOLLAR)
    alice.until_filled(placed)
    executions = until(lambda: _fills(alice.brokerage, more.order_id), "the order is filled in parts")
    assert sum(shares for shares, _ in executions) == 1_500
    assert len({price for _, price in executions}) > 1


def _fills(brokerage: Brokerage, order_id: str) -> list[tuple[int, str]]:
    spans = brokerage.cli("trace", order_id)["entries"]
    shares = [row for row in spans if row["path"].startswith("position/available") and row["kind"] == "trade"]
    cash = [row for row in spans if row["path"].startswith("clearing/") and row["kind"] == "trade"]
    prices = [str(float(row["amount"]) / int(part["amount"])) for row, part in zip(cash, shares, strict=True)]
    fills = [(int(row["amount"]), price) for row, price in zip(shares, prices, strict=True)]
    return fills if sum(quantity for quantity, _ in fills) == 1_500 else []


def test_a_limit_order_away_from_the_market_rests_and_holds_its_cash(alice: Customer) -> None:
    placed = alice.place(BUY, "AAPL", 10, limit=100 * DOLLAR)
    until(lambda: alice.get(placed.order_id).status == fix_pb2.ORD_STATUS_NEW, "the venue has confirmed it")
    assert alice.balances().held == 1_000 * DOLLAR


def test_the_same_key_gives_the_first_answer_again(alice: Customer) -> None:
    first = alice.place(key="the key")
    alice.until_filled(first)
    again = alice.place(key="the key")
    assert (again.order_id, again.status) == (first.order_id, FILLED)
    listed = alice.client.call(alice.client.oms.ListOrders, pb.ListOrdersRequest(account_id=alice.account))
    assert [row.order_id for row in listed.orders] == [first.order_id]


def test_the_same_key_from_many_threads_at_once_makes_one_order(alice: Customer) -> None:
    with ThreadPoolExecutor(8) as threads:
        orders = list(threads.map(lambda _: alice.place(key="at once"), range(16)))
    assert len({placed.order_id for placed in orders}) == 1
    alice.until_filled(orders[0])
    until(lambda: alice.shares() == 1, "one share was bought")


def test_orders_are_listed_newest_first_in_stable_pages(alice: Customer) -> None:
    placed = [alice.place().order_id for _ in range(5)]
    request, found = pb.ListOrdersRequest(account_id=alice.account, page_size=2), []
    while True:
        page = alice.client.call(alice.client.oms.ListOrders, request)
        found += [row.order_id for row in page.orders]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert found == placed[::-1]


# --- the trace


EDGES = {
    ("accept", None),
    ("hold", "accept"),
    ("route", "accept"),
    ("fix out", "route"),
    ("match", "fix out"),
    ("fix in", "fix out"),
    ("post", "fix in"),
    ("release", "fix in"),
}


def test_the_spans_of_an_order_have_the_edges_of_its_life(alice: Customer) -> None:
    placed = alice.place(BUY, "AAPL", 10)
    alice.until_filled(placed)
    trace = until(lambda: _whole(alice.brokerage.cli("trace", placed.order_id)), "all spans are there")
    names = {span["span_id"]: span["name"] for span in trace["spans"]}
    assert {(span["name"], names.get(span["parent_span_id"])) for span in trace["spans"]} == EDGES
    assert trace["trace_id"] == placed.trace_id
    assert all(span["start_ns"] <= span["end_ns"] for span in trace["spans"])


def _whole(trace: dict[str, Any]) -> dict[str, Any] | None:
    return trace if {span["name"] for span in trace["spans"]} == {name for name, _ in EDGES} else None


def test_an_order_continues_the_trace_of_its_client(alice: Customer) -> None:
    trace_id, parent = "ab" * 16, "cd" * 8
    request = pb.PlaceOrderRequest(
        account_id=alice.account,
        client_order_id="traced",
        symbol="AAPL",
        side=BUY,
        ord_type=fix_pb2.ORD_TYPE_MARKET,
        quantity=1,
    )
    answer = alice.client.call(alice.client.oms.PlaceOrder, request, traceparent=f"00-{trace_id}-{parent}-01")
    assert answer.order.trace_id == trace_id
    spans = alice.brokerage.cli("trace", answer.order.order_id)["spans"]
    assert next(span for span in spans if span["name"] == "accept")["parent_span_id"] == parent


def test_the_ledger_transactions_of_an_order_name_its_trace(alice: Customer) -> None:
    placed = alice.place()
    alice.until_filled(placed)
    reader = Client(alice.brokerage.settings, "service:test", ["log"])
    stream = reader.ledger.Subscribe(ledger_pb2.SubscribeRequest(), metadata=reader._metadata, timeout=30)
    kinds: set[int] = set()
    for response in stream:
        ours = [row for row in response.transactions if row.order_id == placed.order_id]
        assert all(row.trace_id == placed.trace_id and len(row.span_id) == 16 for row in ours)
        kinds |= {row.kind for row in ours}
        if {ledger_pb2.TRANSACTION_KIND_HOLD, ledger_pb2.TRANSACTION_KIND_TRADE} <= kinds:
            break
    stream.cancel()


def test_the_spans_are_exported_as_otlp(alice: Customer) -> None:
    placed = alice.place()
    alice.until_filled(placed)
    file = alice.brokerage.data / "trace" / "spans.jsonl"
    wanted = {name for name, _ in EDGES}
    until(lambda: _exported(file.read_text(), placed.trace_id) == wanted, "all spans are in the file")


def _exported(text: str, trace_id: str) -> set[str]:
    spans = [
        span
        for line in text.splitlines()
        for resource in json.loads(line)["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]
    return {span["name"] for span in spans if span["traceId"] == trace_id}


def test_the_demo_prints_orders_with_their_executions_and_transactions(brokerage: Brokerage) -> None:
    shown = brokerage.cli("demo")
    assert shown["zero_sum"] is True
    assert [row["status"] for row in shown["orders"]] == ["FILLED", "FILLED"]
    for row in shown["orders"]:
        assert [each["kind"] for each in row["executions"]][:2] == ["NEW", "FILL"]
        assert {"hold", "trade"} <= {each["kind"] for each in row["ledger_transactions"]}
        assert len(row["trace_id"]) == 32


# --- bad input: each a clear status with its reason, nothing stored but the refusal

REFUSED: dict[str, tuple[dict[str, Any], grpc.StatusCode, str]] = {
    "unknown symbol": ({"symbol": "NOPE"}, grpc.StatusCode.NOT_FOUND, "UNKNOWN_SYMBOL"),
    "no symbol": ({"symbol": ""}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_SYMBOL"),
    "endless symbol": ({"symbol": "A" * 200}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_SYMBOL"),
    "NUL": ({"symbol": "AA\0PL"}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_TEXT"),
    "endless account": ({"account_id": "a" * 100_000}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_TEXT"),
    "lower case": ({"symbol": "aapl"}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_SYMBOL"),
    "zero quantity": ({"quantity": 0}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_QUANTITY"),
    "negative quantity": ({"quantity": -5}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_QUANTITY"),
    "endless quantity": ({"quantity": 2**63 - 1}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_QUANTITY"),
    "no side": ({"side": 0}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_SIDE"),
    "no type": ({"ord_type": 0}, grpc.StatusCode.INVALID_ARGUMENT, "UNSUPPORTED_ORDER_TYPE"),
    "unknown type": ({"ord_type": 77}, grpc.StatusCode.INVALID_ARGUMENT, "UNSUPPORTED_ORDER_TYPE"),
    "unknown time in force": ({"time_in_force": 6}, grpc.StatusCode.INVALID_ARGUMENT, "UNSUPPORTED_TIME_IN_FORCE"),
    "price off the tick": ({"limit_price": 1_500_050}, grpc.StatusCode.INVALID_ARGUMENT, "PRICE_OFF_TICK"),
    "limit without price": ({"limit_price": 0}, grpc.StatusCode.INVALID_ARGUMENT, "MISSING_PRICE"),
    "negative price": ({"limit_price": -100}, grpc.StatusCode.INVALID_ARGUMENT, "MISSING_PRICE"),
    "market with price": ({"ord_type": 1}, grpc.StatusCode.INVALID_ARGUMENT, "PRICE_ON_MARKET_ORDER"),
    "too large": (
        {"quantity": 10**9, "limit_price": 10**8},
        grpc.StatusCode.INVALID_ARGUMENT,
        "ORDER_TOO_LARGE",
    ),
    "no funds": ({"quantity": 100_000}, grpc.StatusCode.FAILED_PRECONDITION, "INSUFFICIENT_FUNDS"),
    "no shares": ({"side": 2}, grpc.StatusCode.FAILED_PRECONDITION, "INSUFFICIENT_SHARES"),
    "unknown account": ({"account_id": "acc_nobody"}, grpc.StatusCode.NOT_FOUND, "UNKNOWN_ACCOUNT"),
    "no account": ({"account_id": ""}, grpc.StatusCode.NOT_FOUND, "UNKNOWN_ACCOUNT"),
    "missing key": ({"client_order_id": ""}, grpc.StatusCode.INVALID_ARGUMENT, "MISSING_KEY"),
    "endless key": ({"client_order_id": "k" * 65}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_KEY"),
}


def ask(customer: Customer, **other: Any) -> pb.PlaceOrderRequest:
    values = {
        "account_id": customer.account,
        "client_order_id": f"key {time.time_ns()}",
        "symbol": "AAPL",
        "side": BUY,
        "ord_type": 2,
        "quantity": 1,
        "limit_price": 150 * DOLLAR,
    }
    return pb.PlaceOrderRequest(**(values | other))


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused_with_its_reason(alice: Customer, name: str) -> None:
    change, status, reason = REFUSED[name]
    request = ask(alice, **change)
    before = alice.balances()
    for _ in range(2):  # the refusal is the answer to its key for good
        with pytest.raises(Refusal) as refusal:
            alice.client.call(alice.client.oms.PlaceOrder, request)
        assert (refusal.value.status, refusal.value.reason) == (status, reason)
    listed = alice.client.call(alice.client.oms.ListOrders, pb.ListOrdersRequest(account_id=alice.account))
    assert not listed.orders
    assert alice.balances().settled == before.settled


def test_the_same_key_with_other_content_is_refused(alice: Customer) -> None:
    alice.client.call(alice.client.oms.PlaceOrder, ask(alice, client_order_id="k"))
    with pytest.raises(Refusal) as refusal:
        alice.client.call(alice.client.oms.PlaceOrder, ask(alice, client_order_id="k", quantity=2))
    assert (refusal.value.status, refusal.value.reason) == (grpc.StatusCode.ALREADY_EXISTS, "KEY_REUSED")


def test_a_refused_key_stays_refused_when_the_reason_is_gone(alice: Customer) -> None:
    request = ask(alice, quantity=1000)
    for _ in range(2):
        with pytest.raises(Refusal, match="available"):
            alice.client.call(alice.client.oms.PlaceOrder, request)
        operator = Client(alice.brokerage.settings, "operator:test", ["operate"])
        deposit = ledger_pb2.DepositRequest(account_id=alice.account, amount=10**10, idempotency_key="more")
        operator.call(operator.ledger.Deposit, deposit)


def test_anothers_account_and_orders_cannot_be_used(alice: Customer) -> None:
    mallory = Customer(alice.brokerage)
    placed = alice.place()
    calls: list[tuple[Any, Any, str]] = [
        (mallory.client.oms.PlaceOrder, ask(alice), "ACCOUNT_NOT_YOURS"),
        (mallory.client.oms.ListOrders, pb.ListOrdersRequest(account_id=alice.account), "ACCOUNT_NOT_YOURS"),
        (mallory.client.oms.GetOrder, pb.GetOrderRequest(order_id=placed.order_id), "UNKNOWN_ORDER"),
        (
            mallory.client.ledger.GetBalances,
            ledger_pb2.GetBalancesRequest(account_id=alice.account),
            "ACCOUNT_NOT_YOURS",
        ),
        (
            mallory.client.ledger.ListEntries,
            ledger_pb2.ListEntriesRequest(account_id=alice.account),
            "ACCOUNT_NOT_YOURS",
        ),
    ]
    for method, request, reason in calls:
        with pytest.raises(Refusal) as refusal:
            mallory.client.call(method, request)
        assert refusal.value.reason == reason


def test_methods_are_denied_without_their_scope(alice: Customer) -> None:
    deposit = ledger_pb2.DepositRequest(account_id=alice.account, amount=DOLLAR, idempotency_key="mine")
    with pytest.raises(Refusal) as refusal:
        alice.client.call(alice.client.ledger.Deposit, deposit)
    assert (refusal.value.status, refusal.value.reason) == (grpc.StatusCode.PERMISSION_DENIED, "MISSING_SCOPE")


def tokens(brokerage: Brokerage) -> dict[str, tuple[str, str]]:
    private, _ = auth.new_keys()
    own = brokerage.settings.secret("token_private.pem")
    return {
        "none": ("", "MISSING_TOKEN"),
        "no bearer": ("Basic abc", "MISSING_TOKEN"),
        "garbage": ("Bearer abc", "INVALID_TOKEN"),
        "signed by somebody": (f"Bearer {auth.mint(private, 'customer:x', ['trade'], 60)}", "INVALID_TOKEN"),
        "expired": (f"Bearer {auth.mint(own, 'customer:x', ['trade'], -60)}", "EXPIRED_TOKEN"),
        "alg none": ("Bearer eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiJjdXN0b21lcjp4In0.", "INVALID_TOKEN"),
    }


@pytest.mark.parametrize("name", ["none", "no bearer", "garbage", "signed by somebody", "expired", "alg none"])
def test_without_a_valid_token_nothing_is_answered(alice: Customer, name: str) -> None:
    header, reason = tokens(alice.brokerage)[name]
    metadata = (("authorization", header),) if header else ()
    with pytest.raises(grpc.RpcError) as error:
        alice.client.oms.PlaceOrder(ask(alice), metadata=metadata, timeout=5)
    refusal = from_rpc(error.value)
    assert (refusal.status, refusal.reason) == (grpc.StatusCode.UNAUTHENTICATED, reason)


def test_a_deadline_already_past_does_nothing(alice: Customer) -> None:
    request = ask(alice, client_order_id="too late")
    with pytest.raises(grpc.RpcError) as error:
        alice.client.oms.PlaceOrder(request, metadata=alice.client._metadata, timeout=0)
    assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    listed = alice.client.call(alice.client.oms.ListOrders, pb.ListOrdersRequest(account_id=alice.account))
    assert not listed.orders


def test_anybody_may_check_health_once_and_nobody_may_watch_it_without_a_token(brokerage: Brokerage) -> None:
    health = health_pb2_grpc.HealthStub(grpc.insecure_channel(brokerage.settings.address("oms")))
    assert health.Check(health_pb2.HealthCheckRequest(), timeout=5).status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as error:
        list(health.Watch(health_pb2.HealthCheckRequest(), timeout=5))
    assert error.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_the_first_answer_is_given_again_while_nothing_can_be_priced(alice: Customer) -> None:
    placed = alice.place(key="priced")
    brokerage, pid = alice.brokerage, alice.brokerage.pid("marketdata")
    os.kill(pid, signal.SIGSTOP)
    try:
        until(lambda: _is_unpriced(alice), "the price is stale")
        again = order.place(alice.client, alice.account, BUY, "AAPL", 1, key="priced")
        with pytest.raises(Refusal) as refusal:
            order.place(alice.client, alice.account, BUY, "AAPL", 2, key="priced")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert again.order_id == placed.order_id
    assert refusal.value.reason == "KEY_REUSED"
    brokerage.until_up()
    alice.until_filled(alice.place())


def _is_unpriced(customer: Customer) -> bool:
    try:
        customer.client.call(customer.client.oms.PlaceOrder, ask(customer, ord_type=1, limit_price=0))
    except Refusal as refusal:
        return refusal.reason == "REFERENCE_PRICE_MISSING"
    return False


def test_a_message_too_large_is_refused(alice: Customer) -> None:
    with pytest.raises(Refusal) as refusal:
        alice.client.call(alice.client.oms.PlaceOrder, ask(alice, symbol="A" * 5_000_000))
    assert refusal.value.status == grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("token", ["x", "W10=", "WzEsMl0=", "eyJhIjoxfQ=="])
def test_a_forged_page_token_is_refused(alice: Customer, token: str) -> None:
    with pytest.raises(Refusal) as refusal:
        request = pb.ListOrdersRequest(account_id=alice.account, page_token=token)
        alice.client.call(alice.client.oms.ListOrders, request)
    assert refusal.value.reason == "INVALID_PAGE_TOKEN"


def test_what_is_not_built_says_so(alice: Customer) -> None:
    oms = alice.client.oms
    calls: list[tuple[Any, Any]] = [
        (oms.CancelOrder, pb.CancelOrderRequest(order_id="ord_x")),
        (oms.ReplaceOrder, pb.ReplaceOrderRequest(order_id="ord_x")),
    ]
    for method, request in calls:
        with pytest.raises(Refusal) as refusal:
            alice.client.call(method, request)
        assert refusal.value.status == grpc.StatusCode.UNIMPLEMENTED


def test_the_command_line_refuses_in_one_line(brokerage: Brokerage) -> None:
    done = brokerage.run("order", "buy", "NOPE", "1")
    assert (done.returncode, done.stderr) == (1, "openbell: 'NOPE' is not listed\n")


def test_the_audit_finds_an_acknowledged_order_that_is_not_there(alice: Customer) -> None:
    row = order.as_row(alice.place()) | {"order_id": "ord_000000000000000000"}
    alice._keep(row)
    done = alice.brokerage.run("audit", "--json", "--acknowledged", str(alice.acknowledged), "--settle-seconds", "1")
    assert done.returncode == 1
    assert [each["invariant"] for each in json.loads(done.stdout)["violations"]] == ["I9"]
