"""What the venue answers: wire strings through a real session with a real `python -m exchange`.

Each row trades a symbol of its own ({s}) with ClOrdIDs of its own ({x}...): price 100.00, tick 0.01, and the house
shows 100 shares at 99.99 and 99.98, and at 100.01 and 100.02. `44=` in an answer means that it has no Price(44).
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.exchange_process import VenueProcess
from tests.fix_client import FixClient, RawFixClient, field, has, wait_until

HOUSE = "levels=2\nshares_per_level=100\n"

# name: (messages in, messages out)
ROWS: dict[str, tuple[list[str], list[str]]] = {
    "market order": (
        ["35=D|11={x}|1=acc|55={s}|54=1|38=50|40=1"],
        [
            "35=8|20=0|150=0|39=0|11={x}|1=acc|55={s}|54=1|38=50|40=1|44=|59=0|32=0|31=0.00|151=50|14=0|6=0.00",
            "35=8|20=0|150=2|39=2|11={x}|1=acc|55={s}|54=1|38=50|40=1|44=|59=0|32=50|31=100.01|151=0|14=50|6=100.01",
        ],
    ),
    "market order over two levels": (
        ["35=D|11={x}|55={s}|54=1|38=150|40=1"],
        ["150=0|1=", "150=1|39=1|32=100|31=100.01|151=50|14=100", "150=2|39=2|32=50|31=100.02|151=0|6=100.0133"],
    ),
    "market order larger than the book": (
        ["35=D|11={x}|55={s}|54=2|38=300|40=1"],
        ["150=0", "150=1|31=99.99", "150=1|39=1|31=99.98|151=100", "150=4|39=4|32=0|31=0.00|151=0|14=200|6=99.985"],
    ),
    "limit order that rests": (
        ["35=D|11={x}|55={s}|54=1|38=100|40=2|44=99.50|59=1", "35=H|11={x}|55={s}|54=1"],
        ["150=0|39=0|44=99.50|59=1|151=100", "17=0|20=3|150=0|39=0|11={x}|44=99.50|59=1|151=100|14=0|32=0|31=0"],
    ),
    "resting order executed at its own price": (
        [
            "35=D|11={x}a|55={s}|54=1|38=150|40=2|44=100.01",
            "35=H|11={x}a|55={s}|54=1",
            "35=D|11={x}b|55={s}|54=2|38=50|40=2|44=99.995",
            "35=D|11={x}c|55={s}|54=2|38=50|40=2|44=100.00",
            "35=H|11={x}a|55={s}|54=1",
        ],
        [
            "11={x}a|150=0",
            "11={x}a|150=1|39=1|32=100|31=100.01|151=50",
            "11={x}a|20=3|150=1|39=1|151=50|14=100|6=100.01",
            "11={x}b|150=8|103=0",
            "11={x}c|150=0|151=50",
            "11={x}c|150=2|32=50|31=100.01",
            "11={x}a|150=2|39=2|32=50|31=100.01|151=0|14=150",
            "11={x}a|20=3|39=2|151=0|14=150",
        ],
    ),
    "first come, first served at one price": (
        [
            "35=D|11={x}a|55={s}|54=1|38=10|40=2|44=100.00",
            "35=D|11={x}b|55={s}|54=1|38=10|40=2|44=100.00",
            "35=D|11={x}c|55={s}|54=2|38=15|40=2|44=100.00",
        ],
        [
            "11={x}a|150=0",
            "11={x}b|150=0",
            "11={x}c|150=0",
            "11={x}c|150=1|32=10",
            "11={x}a|150=2|32=10|31=100.00",
            "11={x}c|150=2|32=5",
            "11={x}b|150=1|32=5|151=5",
        ],
    ),
    "IOC executed in part": (
        ["35=D|11={x}|55={s}|54=1|38=150|40=2|44=100.01|59=3"],
        ["150=0|59=3", "150=1|32=100|31=100.01", "150=4|39=4|151=0|14=100|6=100.01"],
    ),
    "IOC not executed": (
        ["35=D|11={x}|55={s}|54=1|38=150|40=2|44=99|59=3"],
        ["150=0|44=99", "150=4|39=4|151=0|14=0|6=0.00"],
    ),
    "the house comes back": (
        ["35=D|11={x}a|55={s}|54=1|38=100|40=1", "35=D|11={x}b|55={s}|54=1|38=100|40=1"],
        ["11={x}a|150=0", "11={x}a|150=2|31=100.01", "11={x}b|150=0", "11={x}b|150=2|31=100.01"],
    ),
    "duplicate ClOrdID": (
        ["35=D|11={x}|55={s}|54=1|38=10|40=2|44=99", "35=D|11={x}|55={s}|54=2|38=20|40=1", "35=H|11={x}|55={s}|54=1"],
        ["150=0", "20=0|150=8|39=8|103=6|37=NONE|38=20|54=2|151=0", "20=3|39=0|38=10|54=1|151=10"],
    ),
    "possible resend of a known order": (
        ["35=D|11={x}|55={s}|54=1|38=10|40=1", "35=D|97=Y|11={x}|55={s}|54=1|38=10|40=1"],
        ["150=0", "20=0|150=2|39=2", "17=0|20=3|150=2|39=2|14=10|151=0"],
    ),
    "possible resend of an unknown order": (
        ["35=D|97=Y|11={x}|55={s}|54=1|38=10|40=1"],
        ["20=0|150=0", "20=0|150=2"],
    ),
    "status of an unknown order": (
        ["35=H|11={x}|1=acc|55={s}|54=1"],
        ["17=0|20=3|150=8|39=8|103=5|37=NONE|11={x}|1=acc|55={s}|54=1|151=0|14=0"],
    ),
    "status of a rejected order": (
        ["35=D|11={x}|55={s}|54=1|38=0|40=1", "35=H|11={x}|55={s}|54=1"],
        ["20=0|150=8|103=0", "20=3|150=8|39=8|103=0|151=0|14=0"],
    ),
    "a message that the venue does not speak": (
        ["35=F|41={x}|11={x}b|55={s}|54=1"],
        ["35=j|372=F|380=3"],
    ),
    "text that is not ASCII": (["35=D|11={x}|1=é|55={s}|54=1|38=10|40=1"], ["35=j|372=D|380=0"]),
}

# name: (fields in place of a good order's, OrdRejReason, part of the text)
REJECTS: dict[str, tuple[str, int, str]] = {
    "unknown symbol": ("55=NONE|54=1|38=10|40=1", 1, "Symbol(55)"),
    "sell short": ("55={s}|54=5|38=10|40=1", 0, "Side(54)"),
    "stop order": ("55={s}|54=1|38=10|40=3|99=100", 0, "OrdType(40)"),
    "fill or kill": ("55={s}|54=1|38=10|40=1|59=4", 0, "TimeInForce(59)"),
    "quantity zero": ("55={s}|54=1|38=0|40=1", 0, "OrderQty(38)"),
    "quantity negative": ("55={s}|54=1|38=-10|40=1", 0, "OrderQty(38)"),
    "quantity fractional": ("55={s}|54=1|38=1.5|40=1", 0, "OrderQty(38)"),
    "quantity missing": ("55={s}|54=1|40=1", 0, "OrderQty(38)"),
    "quantity huge": ("55={s}|54=1|38=4294967296|40=1", 3, "OrderQty(38)"),
    "quantity beyond any integer": ("55={s}|54=1|38=99999999999999999999999999|40=1", 0, "OrderQty(38)"),
    "price missing": ("55={s}|54=1|38=10|40=2", 0, "needs Price(44)"),
    "price on a market order": ("55={s}|54=1|38=10|40=1|44=100", 0, "no Price(44)"),
    "price off the tick": ("55={s}|54=1|38=10|40=2|44=100.005", 0, "tick"),
    "price finer than a unit": ("55={s}|54=1|38=10|40=2|44=100.00001", 0, "tick"),
    "price zero": ("55={s}|54=1|38=10|40=2|44=0", 0, "positive"),
    "price negative": ("55={s}|54=1|38=10|40=2|44=-1", 0, "positive"),
    "price too high": ("55={s}|54=1|38=10|40=2|44=429496.73", 3, "429,496.7295"),
}


def symbols(count: int) -> str:
    return HOUSE + "".join(f'[[symbols]]\nsymbol="S{number}"\nprice="100.00"\n' for number in range(count))


def dressed(message: str, row: int) -> str:
    """The row's message with its names, and with what FIX 4.2 asks of it besides."""
    kind, _, rest = message.replace("{s}", f"S{row}").replace("{x}", f"x{row}").partition("|")
    return f"{kind}|{'21=1|' if kind == '35=D' else ''}{'' if kind == '35=H' else f'60={now()}|'}{rest}"


def now() -> str:
    return datetime.now(UTC).strftime("%Y%m%d-%H:%M:%S")


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VenueProcess]:
    with VenueProcess(tmp_path_factory.mktemp("venue"), symbols(len(ROWS) + 1)) as process:
        yield process


@pytest.fixture(scope="module")
def client(venue: VenueProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FixClient]:
    with FixClient(venue.fix_port, "OPENBELL", tmp_path_factory.mktemp("client")) as client:
        yield client


@pytest.mark.parametrize("name", ROWS)
def test_the_answers_are_those_of_the_table(client: FixClient, name: str) -> None:
    row = list(ROWS).index(name)
    sent, expected = ROWS[name]
    for message in sent:
        client.send(dressed(message, row))
    answers = client.receive(len(expected))
    for answer, wanted in zip(answers, expected, strict=True):
        wanted = wanted.replace("{s}", f"S{row}").replace("{x}", f"x{row}")
        assert has(answer, wanted), f"{answer} lacks some of {wanted}"
        if has(answer, "35=8"):
            assert all(field(answer, tag) for tag in (6, 14, 17, 20, 31, 32, 37, 39, 60, 75, 150, 151, 5501, 5502))


@pytest.mark.parametrize("name", REJECTS)
def test_an_order_that_breaks_a_rule_is_rejected_with_its_reason(client: FixClient, name: str) -> None:
    fields, code, text = REJECTS[name]
    cl_ord_id = f"r{list(REJECTS).index(name)}"
    client.send(dressed(f"35=D|11={cl_ord_id}|{fields}", len(ROWS)))
    (answer,) = client.receive(1)
    assert has(answer, f"35=8|20=0|150=8|39=8|103={code}|11={cl_ord_id}|151=0|14=0|32=0"), answer
    assert text in field(answer, 58)


def test_every_execution_of_the_venue_has_its_own_id(venue: VenueProcess, client: FixClient) -> None:
    client.send(dressed("35=D|11=unique|55={s}|54=1|38=150|40=1", len(ROWS)))
    client.receive(3)
    ids = [row["exec_id"] for row in venue.executions()]
    assert len(set(ids)) == len(ids)
    seen = [field(message, 17) for message in client.app if has(message, "35=8|20=0")]
    own = [row["exec_id"] for row in venue.executions() if row["comp_id"] == "OPENBELL"]
    assert seen == own


def test_the_journal_says_what_the_report_said(venue: VenueProcess, client: FixClient) -> None:
    client.send(dressed("35=D|11=journal|1=acc|5500=00-ab-cd-01|55={s}|54=1|38=10|40=1", len(ROWS)))
    _, fill = client.receive(2)
    record = next(each for each in reversed(venue.records()) if "in" in each)
    row = record["out"][-1]
    assert record["in"]["traceparent"] == "00-ab-cd-01"
    assert record["session"] == row["comp_id"] == "OPENBELL"
    assert (field(fill, 5501), field(fill, 5502)) == (str(record["t"]), str(record["decided"]))
    assert (field(fill, 17), field(fill, 37), field(fill, 1)) == (row["exec_id"], row["order_id"], row["account"])
    assert (row["last_shares"], row["last_px"], row["cum_qty"], row["leaves_qty"]) == (10, 1_000_100, 10, 0)
    assert field(fill, 75) == row["trade_date"].replace("-", "")


def test_a_message_without_a_required_tag_gets_a_session_reject(client: FixClient) -> None:
    client.send(f"35=D|11=untagged|21=1|54=1|38=10|40=1|60={now()}")
    wait_until(lambda: any(has(each, "35=3|371=55|373=1") for each in client.admin), "Reject(3)")


def test_counterparties_have_their_own_names_for_orders(venue: VenueProcess, client: FixClient, tmp_path: Path) -> None:
    order = dressed("35=D|11=shared|55={s}|54=1|38=10|40=1", len(ROWS))
    with FixClient(venue.fix_port, "BETA", tmp_path) as beta:
        for each in (client, beta):
            each.send(order)
            assert [field(answer, 150) for answer in each.receive(2)] == ["0", "2"]


def test_a_resting_order_that_fills_while_its_owner_is_away_is_reported_when_it_returns(
    venue: VenueProcess, client: FixClient, tmp_path: Path
) -> None:
    with FixClient(venue.fix_port, "BETA", tmp_path) as beta:
        beta.send(dressed("35=D|11=away|55={s}|54=1|38=10|40=2|44=100.00", len(ROWS)))
        beta.receive(1)
    client.send(dressed("35=D|11=hit|55={s}|54=2|38=10|40=2|44=100.00", len(ROWS)))
    client.receive(2)
    with FixClient(venue.fix_port, "BETA", tmp_path) as beta:
        (fill,) = beta.receive(1)
        assert has(fill, "11=away|150=2|39=2|32=10|31=100.00|43=Y")


def test_an_order_that_comes_again_with_poss_dup_is_answered_with_its_state(venue: VenueProcess) -> None:
    raw = RawFixClient(venue.fix_port, "RAW")
    raw.log_on()
    order = dressed("35=D|11=dup|55={s}|54=1|38=10|40=1", len(ROWS)).removeprefix("35=D|")
    raw.send(2, "D", order)
    raw.receive("35=8|150=2")
    raw.send(3, "D", f"43=Y|122={now()}|{order}")
    assert has(raw.receive("35=8"), "20=3|17=0|39=2|14=10")
    raw.close()


def test_a_loopback_host_admits_only_connections_from_there(tmp_path: Path) -> None:
    with VenueProcess(tmp_path / "venue", 'host="127.0.0.2"\n') as venue:
        elsewhere = RawFixClient(venue.fix_port, "RAW")
        with pytest.raises(AssertionError, match="connection ended"):
            elsewhere.log_on()  # QuickFIX answers it, and then closes
            elsewhere.receive("35=8")
        elsewhere.close()


def test_numbers_that_are_none_are_refused_and_the_session_goes_on(venue: VenueProcess, client: FixClient) -> None:
    for number, quantity in enumerate(("1e9999999999", "nan", "inf", "1_0", "0x10", "+5", "--1")):
        client.send(dressed(f"35=D|11=odd{number}|55={{s}}|54=1|38={quantity}|40=1", len(ROWS)))
    client.send(dressed("35=D|11=even|55={s}|54=1|38=10|40=1", len(ROWS)))
    wait_until(lambda: any(has(each, "11=even|150=2") for each in client.app), "the good order's fill")
    client.receive(len([each for each in client.app if field(each, 11).startswith("odd")]) + 2)
    assert not any(row["last_shares"] for row in venue.executions() if row["cl_ord_id"].startswith("odd"))


def test_an_unknown_counterparty_gets_no_session(venue: VenueProcess) -> None:
    stranger = RawFixClient(venue.fix_port, "STRANGER")
    with pytest.raises(AssertionError, match="connection ended"):
        stranger.log_on()
    stranger.close()
