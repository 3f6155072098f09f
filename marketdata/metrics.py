"""The plant's counters as Prometheus reads them, taken when it asks: counting costs the feed one dict entry."""

import time
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from marketdata.plant import Plant
from marketdata.subscribers import Subscribers


class PlantCollector(Collector):
    """Runs in the metrics server's thread, hence the copies."""

    def __init__(self, plant: Plant, subscribers: Subscribers) -> None:
        self._plant = plant
        self._subscribers = subscribers

    def collect(self) -> Iterator[Metric]:
        events = CounterMetricFamily(
            "openbell_feed_events", "What came in, and what was wrong with it", labels=["event"]
        )
        for event, count in sorted(dict(self._plant.counts).items()):
            events.add_metric([event], count)
        yield events
        skipped = CounterMetricFamily("openbell_feed_skipped", "ITCH messages of unused types", labels=["type"])
        for kind, count in sorted(dict(self._plant.skipped).items()):
            skipped.add_metric([ascii(chr(kind)).strip("'")], count)
        yield skipped
        fresh = self._plant.fresh(time.monotonic_ns())
        yield GaugeMetricFamily("openbell_feed_stale", "1 while quotes must not be priced by", int(not fresh))
        sequencer = self._plant.sequencer
        missing = sequencer.target - sequencer.expected
        yield GaugeMetricFamily("openbell_feed_missing_messages", "Known to exist, not here yet", missing)
        yield GaugeMetricFamily("openbell_quote_subscribers", "Streams of quotes", len(self._subscribers))
