"""FIX as text: what goes out, and what each message of a venue means."""

from dataclasses import replace
from datetime import date

import pytest

from ems import fix
from ems.fix import Report, Unreadable
from ems.routes import Route

MARKET = Route(
    position=1,
    cl_ord_id="C1",
    order_id="ord_1",
    account_id="acc_1",
    symbol="AAPL",
    side="SELL",
    ord_type="MARKET",
    time_in_force="DAY",
    quantity=10,
    price=0,
    send_by_ns=0,
    trace_id=bytes(range(16)),
    parent_span_id=bytes(range(8)),
)
LIMIT = replace(MARKET, side="BUY", ord_type="LIMIT", time_in_force="GOOD_TILL_CANCEL", price=1_502_500)
NOW_NS = 1_795_271_445_123_456_789  # 2026-11-21 14:30:45.123
TRACE = "5500=00-000102030405060708090a0b0c0d0e0f-0001020304050607-01"


def wire(text: str) -> str:
    return text.replace(fix.SOH, "|")


def test_a_market_order_has_no_price() -> None:
    assert wire(fix.new_order(MARKET, NOW_NS, possible_resend=False)) == (
        f"8=FIX.4.2|9=0|35=D|11=C1|1=acc_1|21=1|55=AAPL|54=2|60=20261121-14:30:45.123|38=10|40=1|59=0|{TRACE}|10=000|"
    )


def test_a_limit_order_has_its_price_as_a_decimal_string_and_a_copy_says_so() -> None:
    assert wire(fix.new_order(LIMIT, NOW_NS, possible_resend=True)) == (
        "8=FIX.4.2|9=0|35=D|97=Y|11=C1|1=acc_1|21=1|55=AAPL|54=1|60=20261121-14:30:45.123|38=10|40=2|44=150.25|59=1|"
        f"{TRACE}|10=000|"
    )


def test_a_status_request_names_the_order_as_fix_4_2_asks() -> None:
    assert wire(fix.status_request(LIMIT)) == "8=FIX.4.2|9=0|35=H|11=C1|55=AAPL|54=1|10=000|"


def decoded(text: str) -> Report:
    return fix.decode(fix.parse(f"52=20261120-15:00:00|{text}".replace("|", fix.SOH)))


FILL = "35=8|11=C1|17=E1|20=0|150=1|39=1|55=AAPL|54=1|32=4|31=150.25|151=6|14=4"


def test_a_report_is_read_into_integers() -> None:
    assert decoded(f"{FILL}|75=20261123|60=20261121-14:30:45.123|5501=7|5502=8|58=hello") == Report(
        kind="FILL",
        cl_ord_id="C1",
        exec_id="E1",
        exec_trans_type=0,
        ord_status="1",
        symbol="AAPL",
        side="1",
        last_shares=4,
        last_px=1_502_500,
        cum_qty=4,
        leaves_qty=6,
        text="hello",
        trade_date=date(2026, 11, 23),
        transact_time_ns=1_795_271_445_123_000_000,
        venue_received_ns=7,
        venue_decided_ns=8,
    )


KINDS = [
    ("20=0|150=0|39=0", "NEW"),
    ("20=0|150=1|39=1|32=1|31=1", "FILL"),
    ("20=0|150=2|39=2|32=1|31=1", "FILL"),
    ("20=0|150=3|39=3", "DONE_FOR_DAY"),
    ("20=0|150=4|39=4", "CANCELED"),
    ("20=0|150=5|39=5", "REPLACED"),
    ("20=0|150=6|39=6", "PENDING_CANCEL"),
    ("20=0|150=7|39=7", "STATUS"),
    ("20=0|150=8|39=8", "REJECTED"),
    ("20=0|150=9|39=9", "STATUS"),
    ("20=0|150=A|39=A", "PENDING_NEW"),
    ("20=0|150=B|39=B", "STATUS"),
    ("20=0|150=C|39=C", "EXPIRED"),
    ("20=0|150=D|39=0", "STATUS"),
    ("20=0|150=E|39=E", "PENDING_REPLACE"),
    ("20=1|150=2|39=1|19=E0", "BUST"),
    ("20=2|150=2|39=2|19=E0|32=1|31=2", "CORRECT"),
    ("20=3|150=2|39=2", "STATUS"),
    ("20=3|150=8|39=8|103=5", "STATUS"),
]


@pytest.mark.parametrize(("fields", "kind"), KINDS)
def test_kinds(fields: str, kind: str) -> None:
    assert decoded(f"35=8|11=C1|17=E1|{fields}").kind == kind


@pytest.mark.parametrize(("msg_type", "cl_ord_id"), [("3", ""), ("j", "C1")])
def test_refusals_of_an_order(msg_type: str, cl_ord_id: str) -> None:
    report = decoded(f"35={msg_type}|45=9|372=D|379=C1|58=no")
    assert (report.kind, report.ref_seq_num, report.cl_ord_id, report.text) == ("REJECTED", 9, cl_ord_id, "no")


ENDS = [
    ("20=0|150=2|39=2|32=1|31=1", True),
    ("20=0|150=1|39=1|32=1|31=1", False),
    ("20=0|150=4|39=4", True),
    ("20=0|150=8|39=8", True),
    ("20=0|150=C|39=C", True),
    ("20=0|150=3|39=3", False),
    ("20=3|150=2|39=2", False),
    ("20=3|150=8|39=8|103=5", False),
]


@pytest.mark.parametrize(("fields", "ends"), ENDS)
def test_what_ends_a_route(fields: str, ends: bool) -> None:
    assert decoded(f"35=8|11=C1|17=E1|{fields}").ends_the_route is ends


UNREADABLE = [
    "",
    "35=8",
    "35=8|11=C1|20=0|150=2",
    "35=8|11=C1|20=9|150=2|39=2",
    "35=8|11=C1|20=0|150=Z|39=2",
    "35=8|11=C1|20=0|150=2|39=22|32=1|31=1",
    "35=9|11=C1|39=4",
    "35=3|45=4|372=H",
    f"{FILL}|32=".replace("32=4", "32=-4"),
    FILL.replace("32=4", "32=4.5"),
    FILL.replace("32=4", "32=NaN"),
    FILL.replace("32=4", "32=1_0"),
    FILL.replace("32=4", "32=+4"),
    FILL.replace("32=4", "32=\u0664"),
    FILL.replace("31=150.25", "31=1e2"),
    FILL.replace("31=150.25", "31=."),
    FILL.replace("32=4", "32=99999999999999999999"),
    FILL.replace("32=4", "32=1e1000000"),
    FILL.replace("32=4", "32=0"),
    FILL.replace("31=150.25", "31=-1"),
    FILL.replace("31=150.25", "31=150.00001"),
    FILL.replace("31=150.25", "31=1e999999"),
    FILL.replace("31=150.25", "31=Infinity"),
    FILL.replace("17=E1", "17=" + "x" * 129),
    "35=8|11=C1|17=E1|20=1|150=2|39=1",
    "35=8|11=C1|17=E1|20=2|150=2|39=1|19=E0",
]


@pytest.mark.parametrize("text", UNREADABLE)
def test_unreadable(text: str) -> None:
    with pytest.raises(Unreadable):
        decoded(text)


def test_whole_shares_may_come_with_decimals() -> None:
    assert decoded(FILL.replace("32=4", "32=4.00")).last_shares == 4


def test_a_long_text_is_cut_and_other_times_are_none() -> None:
    report = decoded(f"{FILL}|58={'x' * 65_536}|60=yesterday|75=20261332|5501=-1")
    assert len(report.text) == fix.TEXT_CHARACTERS_MAX
    assert (report.transact_time_ns, report.venue_received_ns) == (None, None)
    assert report.trade_date == date(2026, 11, 20)  # then the message's own sending time tells


def test_a_fill_that_tells_no_usable_date_cannot_be_a_row() -> None:
    with pytest.raises(fix.Unreadable, match="trade date"):
        decoded(f"{FILL}|75=20991120")


def test_any_bytes_become_text_that_can_be_stored_and_come_back_as_bytes() -> None:
    raw = b"58=\xff\xfe\x00".decode("utf-8", "surrogateescape")
    assert fix.clean(raw) == "58=\ufffd\ufffd\ufffd"
    assert fix.to_bytes(raw) == b"58=\xff\xfe\x00"


@pytest.mark.parametrize("text", ["20261121-14:30:45", "20261121-14:30:45.000", "20261121-14:30:45.000000000"])
def test_timestamps_of_any_precision(text: str) -> None:
    assert fix.to_ns(text) == 1_795_271_445_000_000_000
