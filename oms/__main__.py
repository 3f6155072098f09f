"""Starts the OMS: python -m oms --data DIR."""

import grpc

from oms.accounts import Accounts
from oms.config import Config
from oms.hand_over import HandOver
from oms.holds import KEYED, Holds
from oms.on_execution import decode
from oms.place_order import PlaceOrder
from oms.prices import Prices
from oms.reads import Reads
from oms.service import SCOPES, OmsService
from oms.sweep import Sweep
from oms.writer import Answer, Facts, Item, Writer
from openbell.oms.v1 import oms_pb2_grpc
from runtime import calendar, connect, db, executions, log, serve
from runtime.batch import Batcher
from runtime.fees import FeeSchedule
from runtime.settings import Settings


async def main(settings: Settings) -> None:
    config = settings.section("oms", Config)
    fees = settings.section("fees", FeeSchedule)
    pool = await db.pool(settings.secret("database_oms"), "oms")
    token = settings.secret("token_oms")
    ledger = connect.channel(settings.address("ledger"), KEYED)
    ems = connect.channel(settings.address("ems"))
    bell = log.Bell()
    writer: Batcher[Item, Answer] = Batcher(
        Writer(pool, config.partition, bell).commit,
        batch_max=config.batch_max,
        queue_max=config.queue_max,
        spacing_seconds=config.command_spacing_seconds,
    )
    holds = Holds(ledger, token)
    prices = Prices(connect.channel(settings.address("marketdata")), token, config.quote_age_seconds_max)

    async def on_executions(partition: int, cursor: int, rows: executions.Rows) -> None:
        await writer.submit_fact(Facts(partition, cursor, [decode(row) for row in rows]))

    def market_open(now_ns: int) -> bool:
        return calendar.is_open(now_ns, settings.session)

    def add(server: grpc.aio.Server) -> None:
        place = PlaceOrder(writer, holds, prices, config.collar_basis_points, fees, market_open)
        service = OmsService(place, Accounts(ledger, token), Reads(pool, config, bell), config)
        oms_pb2_grpc.add_OmsServiceServicer_to_server(service, server)

    background = [
        writer.run(),
        prices.run(),
        HandOver(pool, config, ems, token, bell).run(),
        Sweep(pool, holds, writer, config).run(),
        *(executions.follow(pool, ems, token, partition, on_executions) for partition in settings.ems_partitions),
    ]
    await serve.run("oms", settings, add, SCOPES, background)


if __name__ == "__main__":
    serve.start("oms", main)
