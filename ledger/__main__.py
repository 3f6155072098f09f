"""Starts the ledger: python -m ledger --data DIR."""

import time
from pathlib import Path

import grpc

from ledger import watch
from ledger.config import Config
from ledger.on_execution import decode
from ledger.planner import Facts, Item
from ledger.reads import Reads
from ledger.reconcile import Reconciler
from ledger.service import SCOPES, LedgerService
from ledger.settle import Settler
from ledger.writer import TRANSACTIONS, Writer
from openbell.ledger.v1 import ledger_pb2_grpc
from runtime import chain, connect, db, executions, log, serve
from runtime.batch import Batcher
from runtime.fees import FeeSchedule
from runtime.settings import Settings, SettingsError

MESSAGE_BYTES_MAX = 32 * 1024 * 1024  # a batch of far too many commands is to be refused by its name


async def main(settings: Settings) -> None:
    config = settings.section("ledger", Config)
    pool = await db.pool(settings.secret("database_ledger"), "ledger")
    heads = chain.head_file(settings.data, TRANSACTIONS, config.partition)
    await _refuse_another_history(pool, heads, settings.secret("chain_public.pem"), config.partition)
    bell = log.Bell()
    seal_key = bytes.fromhex(settings.secret("ledger_seal"))
    fenced = Writer(pool, config, bell, seal_key, settings.section("fees", FeeSchedule))
    writer: Batcher[Item, bytes] = Batcher(
        fenced.commit,
        batch_max=config.batch_max,
        queue_max=config.queue_max,
        spacing_seconds=config.command_spacing_seconds,
        commits_max=2,
    )
    ems, token = connect.channel(settings.address("ems")), settings.secret("token_ledger")
    settler = Settler(pool, writer, config)
    reconciler = Reconciler(pool, writer, config, settler, ems, token, settings.ems_partitions)

    async def on_executions(partition: int, cursor: int, rows: executions.Rows) -> None:
        arrived_at_ns = time.time_ns()
        await writer.submit_fact(Facts(partition, cursor, [decode(row, arrived_at_ns) for row in rows]))

    def add(server: grpc.aio.Server) -> None:
        service = LedgerService(writer, Reads(pool, config, bell), settler, reconciler, config)
        ledger_pb2_grpc.add_LedgerServiceServicer_to_server(service, server)

    sign = chain.sign_heads(
        heads, settings.secret("chain_private.pem"), TRANSACTIONS, config.partition, lambda: fenced.tip
    )
    followers = [executions.follow(pool, ems, token, n, on_executions) for n in settings.ems_partitions]
    by_itself = [settler.run(), reconciler.daily(), watch.run(pool, config)]
    background = [writer.run(), sign, *by_itself, *followers]
    await serve.run("ledger", settings, add, SCOPES, background, message_bytes_max=MESSAGE_BYTES_MAX)


async def _refuse_another_history(pool: db.Pool, heads: Path, public_pem: str, partition: int) -> None:
    async with pool.acquire(timeout=db.ACQUIRE_SECONDS) as connection:
        try:
            await chain.check_heads(connection, heads, public_pem, TRANSACTIONS, partition)
        except chain.Broken as problem:
            raise SettingsError(str(problem)) from None


if __name__ == "__main__":
    serve.start("ledger", main)
