"""Orders through the real service, engine, venue and database."""

import json

import grpc
import pytest

from openbell.ems.v1 import ems_pb2
from openbell.fix.v1 import fix_pb2
from runtime import telemetry
from tests.cluster import Database
from tests.ems_stage import ACCOUNT, Stage, buy, until


async def test_an_order_is_filled_and_its_executions_are_on_the_log(database: Database) -> None:
    async with Stage(database) as stage:
        await stage.start_all()
        assert await stage.send(buy("A1", 10)) == 1
        await stage.done("A1")
        new, fill = await stage.subscribe(partition=1, count=2)
        assert (new.kind, fill.kind) == (ems_pb2.EXECUTION_KIND_NEW, ems_pb2.EXECUTION_KIND_FILL)
        assert (fill.cl_ord_id, fill.order_id, fill.account_id, fill.symbol) == ("A1", "ord_A1", ACCOUNT, "AAPL")
        assert (fill.last_shares, fill.last_price, fill.ord_status) == (10, 1_500_100, fix_pb2.ORD_STATUS_FILLED)
        assert fill.trade_date
        assert fill.trace_id == "0af7651916cd43dd8448eb211c80319c"
        assert bytes.fromhex(fill.span_id) == telemetry.span_id("fix in", fill.execution_id)
        await stage.assert_sound(A1=10)
        new_row, fill_row = await stage.rows("A1")
        assert new_row["sent_at_ns"] < new_row["venue_received_ns"] <= new_row["venue_decided_ns"]
        assert new_row["venue_decided_ns"] < new_row["received_at_ns"] <= new_row["recorded_at_ns"]
        assert fill_row["sent_at_ns"] is None
        assert await stage.subscribe(partition=1, count=1, after=1) == [fill]


async def test_orders_of_a_batch_arrive_in_their_order_and_with_their_price(database: Database) -> None:
    async with Stage(database) as stage:
        await stage.start_all()
        limit = {"ord_type": fix_pb2.ORD_TYPE_LIMIT, "price": 1_450_100}
        names = [f"B{number:02d}" for number in range(60)]
        assert await stage.send(*(buy(name, position=number, **limit) for number, name in enumerate(names, 1))) == 60

        async def all_new() -> bool:
            return len(await stage.rows()) == 60

        await until(all_new, "60 orders rest at the venue")
        ours = [row for row in stage.venue.executions() if row["comp_id"] == "OPENBELL"]
        assert [row["cl_ord_id"] for row in ours] == names
        orders = [record["in"] for record in stage.venue.records() if record.get("in", {}).get("cl_ord_id") in names]
        assert {order["price"] for order in orders} == {"145.01"}


async def test_what_is_sent_again_is_acknowledged_again_and_goes_to_the_venue_once(database: Database) -> None:
    async with Stage(database) as stage:
        await stage.start_all()
        for _ in range(3):
            assert await stage.send(buy("C1", position=7), buy("C1", position=7)) == 7
        assert await stage.send(buy("C1", position=7), buy("C2", position=8)) == 8
        await stage.done("C1", "C2")
        await stage.assert_sound(C1=10, C2=10)
        assert await stage.query("SELECT position FROM ems.routes ORDER BY position") == [(1,), (2,)]


REFUSALS = [
    (buy("D1", symbol=""), "symbol"),
    (buy("D2", symbol="AA\x01PL"), "symbol"),
    (buy("D3", quantity=0), "quantity"),
    (buy("D4", quantity=-5), "quantity"),
    (buy("D5", side=fix_pb2.SIDE_UNSPECIFIED), "side"),
    (buy("D6", price=1), "price"),
    (buy("D7", ord_type=fix_pb2.ORD_TYPE_LIMIT), "price"),
    (buy("D8", ord_type=fix_pb2.ORD_TYPE_STOP), "order type"),
    (buy("D9", time_in_force=fix_pb2.TIME_IN_FORCE_GOOD_TILL_DATE), "time in force"),
    (
        ems_pb2.Command(cl_ord_id="D10", order_id="o", account_id="a", cancel_order=ems_pb2.CancelOrder()),
        "kind of request",
    ),
]


async def test_what_cannot_be_sent_is_a_row_of_partition_0_and_once_only(database: Database) -> None:
    async with Stage(database) as stage:
        await stage.start_service()
        commands = [command for command, _ in REFUSALS]
        await stage.send(*commands)
        await stage.send(*commands)
        rows = await stage.subscribe(partition=0, count=len(REFUSALS))
        assert [row.position for row in rows] == list(range(1, len(REFUSALS) + 1))
        assert {row.kind for row in rows} == {ems_pb2.EXECUTION_KIND_NOT_SENT}
        for row, (command, reason) in zip(rows, REFUSALS, strict=True):
            assert (row.cl_ord_id, reason in row.text) == (command.cl_ord_id, True)
        assert await stage.query("SELECT FROM ems.routes") == []


async def test_a_symbol_that_no_venue_takes_is_refused_and_the_others_go_on(database: Database) -> None:
    async with Stage(database) as stage:
        venues = [{"name": "XSIM", "symbols": ["AAPL"]}]
        sections = stage.settings.sections | {"ems": {"venues": venues}}
        (stage.directory / "settings.json").write_text(json.dumps(sections))
        await stage.start_service()
        await stage.send(buy("E1"), buy("E2", symbol="IBM"), buy("E3"))
        (row,) = await stage.subscribe(partition=0, count=1)
        assert (row.cl_ord_id, row.text) == ("E2", "no venue takes this symbol")
        assert [row["cl_ord_id"] for row in await stage.query("SELECT * FROM ems.routes ORDER BY 2")] == ["E1", "E3"]


BAD = [{"cl_ord_id": ""}, {"cl_ord_id": "x" * 21}, {"account_id": "a\x01b"}, {"order_id": ""}]


async def test_a_command_that_cannot_be_stored_refuses_its_batch(database: Database) -> None:
    async with Stage(database) as stage:
        await stage.start_service()
        for bad in BAD:
            command = buy("F1")
            for name, value in bad.items():
                setattr(command, name, value)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stage.send(buy("F0"), command)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert await stage.query("SELECT FROM ems.routes") == []
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stage.subscribe(partition=2, count=1)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
