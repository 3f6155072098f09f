"""The message flow from the OMS: commands become routes, durably, before they are acknowledged."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, Final

import grpc

from ems import fix, reasons, rows
from ems.config import Config
from ems.database import EXECUTIONS_BELL, ROUTES_BELL, SQL, LogName, Writer
from ems.routes import Route
from ems.rows import Execution, Place
from openbell.ems.v1 import ems_pb2
from openbell.fix.v1 import fix_pb2
from runtime import crash, telemetry
from runtime.db import Connection
from runtime.errors import Refusal

CL_ORD_ID_MAX: Final = 20

Batch = ems_pb2.SendRequest


@dataclass(frozen=True, slots=True)
class Command:
    """A command of the OMS with what is needed to store it. `problem` says why it cannot go to a venue."""

    route: Route
    oms_partition: int
    oms_position: int
    received_at_ns: int
    venue_partition: int | None
    problem: str


@dataclass(frozen=True, slots=True)
class RouteRow:
    """A row of the table `routes`, in the order of its columns."""

    log_partition: int
    position: int
    cl_ord_id: str
    order_id: str
    account_id: str
    request: str
    symbol: str
    side: str
    ord_type: str
    time_in_force: str
    quantity: int
    price: int
    send_by_ns: int
    oms_partition: int
    oms_position: int
    trace_id: bytes
    parent_span_id: bytes | None
    received_at_ns: int
    written_at_ns: int


ROUTE_COLUMNS: Final = tuple(column.name for column in fields(RouteRow))
route_record = attrgetter(*ROUTE_COLUMNS)


def decode(batch: Batch, config: Config, now_ns: int) -> list[Command]:
    """The commands of a batch, in their order."""
    return [_decode(command, batch.partition, config, now_ns) for command in batch.commands]


def _decode(command: ems_pb2.Command, oms_partition: int, config: Config, now_ns: int) -> Command:
    order = command.new_order
    trace = telemetry.parse_traceparent(command.traceparent)
    route = Route(
        position=0,  # given when it is written
        cl_ord_id=command.cl_ord_id,
        order_id=command.order_id,
        account_id=command.account_id,
        symbol=fix.clean(order.symbol),
        side=_name(fix_pb2.Side.Name, order.side, "SIDE_"),
        ord_type=_name(fix_pb2.OrdType.Name, order.ord_type, "ORD_TYPE_"),
        time_in_force=_name(fix_pb2.TimeInForce.Name, order.time_in_force, "TIME_IN_FORCE_"),
        quantity=order.quantity,
        price=order.price,
        send_by_ns=command.send_by_ns,
        trace_id=trace.trace_id,
        parent_span_id=trace.parent_span_id,
    )
    venue = config.partition_for(order.symbol)
    problem = _problem(command, route) or (reasons.NO_VENUE if venue is None else "")
    return Command(route, oms_partition, command.position, now_ns, venue, problem)


def _name(name_of: Callable[[Any], str], number: int, prefix: str) -> str:
    """The name of an enum's value in rows; '' if there is none."""
    try:
        name = name_of(number).removeprefix(prefix)
    except ValueError:  # a value that this version does not know
        return ""
    return "" if name == "UNSPECIFIED" else name


def _problem(command: ems_pb2.Command, route: Route) -> str:
    if command.WhichOneof("request") != "new_order":
        return reasons.NOT_BUILT
    sound = {
        "symbol": is_identifier(route.symbol),
        "side": route.side in fix.SIDES,
        "order type": route.ord_type in fix.ORD_TYPES,
        "time in force": route.time_in_force in fix.TIMES_IN_FORCE,
        "quantity": route.quantity > 0,
        "price": route.price == 0 if route.ord_type == "MARKET" else route.price > 0,
    }
    return next((reasons.BAD_FIELD.format(field=field) for field, is_sound in sound.items() if not is_sound), "")


def is_identifier(text: str) -> bool:
    """What can stand in a FIX field: printable ASCII, and not empty."""
    return text.isascii() and text.isprintable() and text != ""


def check(batch: Batch) -> None:
    """Refusal for a batch with a command that no row can be kept for: it has no key, or ids that FIX cannot carry."""
    for command in batch.commands:
        ids = (command.cl_ord_id, command.order_id, command.account_id)
        if len(command.cl_ord_id) > CL_ORD_ID_MAX or not all(map(is_identifier, ids)):
            raise Refusal(
                "BAD_COMMAND",
                grpc.StatusCode.INVALID_ARGUMENT,
                f"command {command.position}: {reasons.BAD_IDS}",
                position=str(command.position),
            )


class Store:
    """Writes the logs `routes` and, for what cannot be a route, partition 0 of `executions`."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    @staticmethod
    def logs(config: Config) -> list[LogName]:
        """Of which a Store must be the writer."""
        return [("executions", 0), *(("routes", number) for number in range(1, config.partitions))]

    async def store(self, batches: Sequence[list[Command]]) -> list[None]:
        """All in one transaction, in order; what was stored before is left as it is. Durable on return."""
        commands = [command for batch in batches for command in batch]

        async def work(connection: Connection) -> dict[LogName, int]:
            return await self._write(connection, await _unknown(connection, commands))

        if commands:
            await self._writer.commit(work)
            crash.point("ems.route_written")
        return [None] * len(batches)

    async def _write(self, connection: Connection, commands: Sequence[Command]) -> dict[LogName, int]:
        now_ns = time.time_ns()
        refusals: list[Execution] = []
        routes: dict[int, list[RouteRow]] = defaultdict(list)
        for command in commands:
            partition = command.venue_partition
            if command.problem or partition is None:
                place = Place(0, self._writer.next_position(("executions", 0)) + len(refusals), "", now_ns)
                refusals.append(rows.not_sent(place, command.route, command.problem, command.received_at_ns))
            else:
                first = self._writer.next_position(("routes", partition))
                routes[partition].append(_row(command, partition, first + len(routes[partition]), now_ns))
        for partition, new_rows in routes.items():
            records = map(route_record, new_rows)
            await connection.copy_records_to_table("routes", records=records, columns=ROUTE_COLUMNS)
            await connection.execute(SQL.notify, ROUTES_BELL, str(partition))
        if refusals:
            records = map(rows.execution_record, refusals)
            await connection.copy_records_to_table("executions", records=records, columns=rows.EXECUTION_COLUMNS)
            await connection.execute(SQL.notify, EXECUTIONS_BELL, "0")
        added: dict[LogName, int] = {("routes", partition): len(new_rows) for partition, new_rows in routes.items()}
        return {**added, ("executions", 0): len(refusals)}


async def _unknown(connection: Connection, commands: Iterable[Command]) -> list[Command]:
    """The commands that are not stored yet, each ClOrdID once."""
    first: dict[str, Command] = {}
    for command in commands:
        first.setdefault(command.route.cl_ord_id, command)
    stored = {row["cl_ord_id"] for row in await connection.fetch(SQL.known_commands, list(first))}
    return [command for cl_ord_id, command in first.items() if cl_ord_id not in stored]


def _row(command: Command, partition: int, position: int, now_ns: int) -> RouteRow:
    route = command.route
    return RouteRow(
        log_partition=partition,
        position=position,
        cl_ord_id=route.cl_ord_id,
        order_id=route.order_id,
        account_id=route.account_id,
        request="NEW",
        symbol=route.symbol,
        side=route.side,
        ord_type=route.ord_type,
        time_in_force=route.time_in_force,
        quantity=route.quantity,
        price=route.price,
        send_by_ns=route.send_by_ns,
        oms_partition=command.oms_partition,
        oms_position=command.oms_position,
        trace_id=route.trace_id,
        parent_span_id=route.parent_span_id,
        received_at_ns=command.received_at_ns,
        written_at_ns=now_ns,
    )
