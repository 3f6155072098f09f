"""python -m marketdata --data DIR"""

import grpc
from prometheus_client import REGISTRY

from marketdata.config import Config
from marketdata.feed import Feed
from marketdata.metrics import PlantCollector
from marketdata.plant import Plant
from marketdata.service import SCOPES, MarketDataService
from marketdata.subscribers import Subscribers
from openbell.marketdata.v1.marketdata_pb2_grpc import add_MarketDataServiceServicer_to_server
from runtime import serve
from runtime.settings import Settings


async def main(settings: Settings) -> None:
    config = settings.section("marketdata", Config)
    plant = Plant(round(config.silence_seconds * 10**9), config.reorder_messages)
    subscribers = Subscribers()
    feed = Feed(config, settings.port("feed"), settings.port("rerequest"), plant, subscribers)
    REGISTRY.register(PlantCollector(plant, subscribers))

    def add(server: grpc.aio.Server) -> None:
        add_MarketDataServiceServicer_to_server(MarketDataService(plant, subscribers), server)

    await serve.run("marketdata", settings, add, SCOPES, [feed.run()])


if __name__ == "__main__":
    serve.start("marketdata", main)
