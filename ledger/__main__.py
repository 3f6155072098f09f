"""Starts the ledger: python -m ledger --data DIR."""

import time

import grpc

from ledger.config import Config
from ledger.on_execution import decode
from ledger.reads import Reads
from ledger.service import SCOPES, LedgerService
from ledger.writer import Facts, Item, Writer
from openbell.ledger.v1 import ledger_pb2_grpc
from runtime import connect, db, executions, log, serve
from runtime.batch import Batcher
from runtime.settings import Settings


async def main(settings: Settings) -> None:
    config = settings.section("ledger", Config)
    pool = await db.pool(settings.secret("database_ledger"), "ledger")
    bell = log.Bell()
    writer: Batcher[Item, bytes] = Batcher(
        Writer(pool, config, bell).commit,
        batch_max=config.batch_max,
        queue_max=config.queue_max,
        spacing_seconds=config.command_spacing_seconds,
    )
    ems, token = connect.channel(settings.address("ems")), settings.secret("token_ledger")

    async def on_executions(partition: int, cursor: int, rows: executions.Rows) -> None:
        arrived_at_ns = time.time_ns()
        await writer.submit_fact(Facts(partition, cursor, [decode(row, arrived_at_ns) for row in rows]))

    def add(server: grpc.aio.Server) -> None:
        service = LedgerService(writer, Reads(pool, config, bell), config)
        ledger_pb2_grpc.add_LedgerServiceServicer_to_server(service, server)

    followers = [executions.follow(pool, ems, token, n, on_executions) for n in settings.ems_partitions]
    await serve.run("ledger", settings, add, SCOPES, [writer.run(), *followers])


if __name__ == "__main__":
    serve.start("ledger", main)
