"""`python -m ems --data DIR`: takes commands, and serves the execution log. The engines are processes of their own."""

from ems import config as configuration
from ems.accept_commands import Command, Store
from ems.database import EXECUTIONS_BELL, Writer, listen
from ems.service import SCOPES, Service
from openbell.ems.v1 import ems_pb2_grpc
from runtime import db, serve
from runtime.batch import Batcher
from runtime.settings import Settings


async def main(settings: Settings) -> None:
    config = configuration.load(settings)
    url = settings.secret("database_ems")
    pool = await db.pool(url, "ems")
    store = Store(await Writer.take(pool, Store.logs(config)))
    commands: Batcher[list[Command], None] = Batcher(store.store, batch_max=50, queue_max=1_000)
    service = Service(config, pool, commands)
    await serve.run(
        "ems",
        settings,
        lambda server: ems_pb2_grpc.add_EmsServiceServicer_to_server(service, server),
        SCOPES,
        [commands.run(), listen(url, EXECUTIONS_BELL, service.ring)],
    )


if __name__ == "__main__":
    serve.start("ems", main)
