"""What one transaction writes for a batch of messages; and the database's own rules."""

from dataclasses import replace
from datetime import date

import asyncpg
import pytest

from ems import messages, plan
from ems.messages import Content, ExecKey, Item, Key, NotSent, Received, SeqKey
from ems.plan import Known, Mark, Plan
from ems.routes import OpenRoutes, Stage
from ems.rows import EXECUTION_COLUMNS, Place, execution_record, not_sent
from tests.cluster import Database
from tests.test_ems_fix import MARKET

MARK = Mark("FIX.4.2:OPENBELL->XSIM", "XSIM", 3, 40)
FIRST = Place(1, 7, "XSIM", 99)
ROUTE = replace(MARKET, cl_ord_id="C1", side="BUY")


def received(text: str, *, in_order: bool = True, resets_session: bool = False) -> Received:
    return Received(text.replace("|", "\x01"), 50, 1, in_order=in_order, resets_session=resets_session)


def fill(seq_num: int, exec_id: str, shares: int = 1, status: str = "1") -> Received:
    return received(
        f"35=8|34={seq_num}|20=0|150=1|39={status}|11=C1|17={exec_id}|32={shares}|31=150|55=AAPL|54=1|75=20261120"
    )


def planned(*batch: Item, known: Known | None = None) -> Plan:
    open_routes = OpenRoutes(5)
    open_routes.add(ROUTE, Stage.LIVE)
    read = messages.read(batch, MARK.epoch, open_routes)
    return plan.make(batch, read, known or Known({"C1": ROUTE}, {}, frozenset()), open_routes, MARK, FIRST)


def test_rows_are_dense_and_in_order_of_arrival_and_the_mark_moves_with_them() -> None:
    made = planned(fill(41, "E1"), NotSent(ROUTE, "late", 60), fill(42, "E2", status="2"))
    assert [(row.position, row.kind, row.exec_id) for row in made.executions] == [
        (7, "FILL", "E1"),
        (8, "NOT_SENT", None),
        (9, "FILL", "E2"),
    ]
    assert made.mark == replace(MARK, committed_seq=42)
    assert made.done == {"C1": ROUTE.position}


def test_one_execution_is_one_row_in_the_batch_and_against_the_log() -> None:
    earlier: dict[Key, Content | None] = {ExecKey("E1", date(2026, 11, 20)): Content("C1", 1, 1_500_000)}
    made = planned(fill(41, "E1"), fill(42, "E2"), fill(43, "E2"), known=Known({"C1": ROUTE}, earlier, frozenset()))
    assert [row.exec_id for row in made.executions] == ["E2"]
    assert (made.duplicates, made.mark.committed_seq) == (2, 43)


def test_a_duplicate_that_ends_the_order_still_ends_it() -> None:
    earlier: dict[Key, Content | None] = {ExecKey("E1", date(2026, 11, 20)): Content("C1", 1, 1_500_000)}
    made = planned(fill(41, "E1", status="2"), known=Known({"C1": ROUTE}, earlier, frozenset()))
    assert (made.executions, made.done) == ([], {"C1": ROUTE.position})


def test_an_exec_id_used_for_something_else_is_a_dead_letter() -> None:
    made = planned(fill(41, "E1", shares=1), fill(42, "E1", shares=2))
    assert (len(made.executions), len(made.dead_letters), made.mark.committed_seq) == (1, 1, 42)


def test_status_reports_are_told_apart_by_their_number() -> None:
    status = "35=8|34={}|20=3|150=0|39=0|17=0|11=C1"
    known = Known({"C1": ROUTE}, {SeqKey(3, 41): None}, frozenset())
    made = planned(*(received(status.format(number)) for number in (41, 42, 42)), known=known)
    assert [row.msg_seq_num for row in made.executions] == [42]


def test_what_came_out_of_order_does_not_move_the_mark() -> None:
    made = planned(received("35=3|34=60|45=1", in_order=False), fill(41, "E1"))
    assert made.mark.committed_seq == 41


def test_a_reset_begins_an_epoch_and_its_numbers() -> None:
    made = planned(fill(41, "E1"), received("35=A|34=1|141=Y", resets_session=True), fill(2, "E2"))
    assert [(row.epoch, row.msg_seq_num) for row in made.executions] == [(3, 41), (4, 2)]
    assert made.mark == replace(MARK, epoch=4, committed_seq=2)


def test_a_decision_not_to_send_is_a_row_once() -> None:
    late = NotSent(ROUTE, "late", 60)
    assert len(planned(late, late).executions) == 1
    assert planned(late, known=Known({}, {}, frozenset({"C1"}))).executions == []


async def test_the_execution_log_takes_no_change_from_anybody(database: Database) -> None:
    service = await asyncpg.connect(database.urls["ems"], server_settings={"search_path": "ems"})
    owner = await asyncpg.connect(database.admin_url, server_settings={"search_path": "ems"})
    try:
        row = not_sent(replace(FIRST, position=1), ROUTE, "late", 60)
        records = [execution_record(row)]
        await service.copy_records_to_table("executions", records=records, columns=EXECUTION_COLUMNS)
        for statement in ("UPDATE executions SET last_px = 1", "DELETE FROM executions", "TRUNCATE executions"):
            for connection in (service, owner):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await service.execute("UPDATE routes SET quantity = 1")
        with pytest.raises(asyncpg.UniqueViolationError) as twice:
            again = [execution_record(replace(row, position=2))]
            await service.copy_records_to_table("executions", records=again, columns=EXECUTION_COLUMNS)
        assert twice.value.constraint_name == "executions_not_sent"
    finally:
        await service.close()
        await owner.close()
