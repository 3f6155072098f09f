"""python -m exchange --config FILE: the wiring, and nothing else."""

import argparse
import gc
import signal
import sys
import time
from pathlib import Path
from typing import Final

import structlog

from exchange import config as settings
from exchange.config import Config, ConfigError
from exchange.desk import Desk
from exchange.feed import Addresses, Feed, Stream
from exchange.journal import Journal, JournalError
from exchange.market import Market
from exchange.operator import Operator
from exchange.recovery import recover
from exchange.server import Server, SessionConfig
from exchange.store import StoreError
from exchange.venue import Venue
from runtime.telemetry import setup_logs

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

log = structlog.get_logger()


def main() -> None:
    parser = argparse.ArgumentParser(prog="exchange", description="A simulated venue: FIX 4.2 in, ITCH 5.0 out.")
    setup_logs("venue")  # by way of logging, which outlives the reader of its pipe
    parser.add_argument("--config", type=Path, required=True, help="TOML file; an empty one starts with the defaults")
    try:
        run(settings.load(parser.parse_args().config))
    except (ConfigError, JournalError, OSError) as problem:
        sys.exit(f"exchange: {problem}")


def run(config: Config) -> None:
    """Until SIGTERM or SIGINT. JournalError or OSError if it cannot start or go on."""
    # Orders are kept, and a collection would walk all of them while everybody waits (1.3 s at a million). What is made
    # and dropped for each message and connection has no cycles, so counting references frees it.
    gc.disable()
    config.data_dir.mkdir(parents=True, exist_ok=True)
    journal = Journal(config.data_dir / "journal.jsonl", config.name, time.time_ns())
    stream = Stream(journal.header.feed_session, journal.header.created_ns)
    recovered = recover(Market(journal.header.feed_session), journal.records(), stream.extend)
    feed = _open_feed(config, stream, fresh=not recovered.events)
    hours, conduct = settings.opening_hours(config), settings.conduct(config)
    venue = Venue(recovered, journal, feed.publish, hours, conduct, time.time_ns)
    venue.open(settings.instruments(config), time.time_ns())
    desk = Desk(venue, feed, config, time.time_ns)
    operator = Operator(venue, desk.flush, config, time.time_ns)
    server = _open_server(config, desk)  # last: whoever can connect finds everything in place
    desk.open(server)
    server.watch(feed.rerequest, feed.serve)
    server.watch(operator.listener, operator.serve)
    stopping: list[int] = []  # until now a signal simply ends the process: nobody has been told anything
    for each in STOP_SIGNALS:
        signal.signal(each, lambda number, _: stopping.append(number))
    log.info("open", venue=config.name, fix_port=config.fix_port, replayed=recovered.events)
    server.run(lambda: bool(stopping))
    server.log_out("the venue stops")
    feed.stop()
    log.info("closed", venue=config.name)


def _open_server(config: Config, desk: Desk) -> Server:
    sessions = [SessionConfig(party.comp_id, party.reset_on_logon) for party in config.counterparties]
    try:
        return Server(config.name, config.host, config.fix_port, sessions, config.data_dir / "sessions", desk)
    except StoreError:
        raise
    except OSError as problem:
        raise OSError(f"port {config.fix_port} (fix_port) cannot be opened: {problem}") from None


def _open_feed(config: Config, stream: Stream, fresh: bool) -> Feed:
    addresses = Addresses((config.feed_host, config.feed_port), (config.host, config.rerequest_port))
    try:
        return Feed(stream, addresses, fresh, time.monotonic_ns)
    except OSError as problem:
        raise OSError(f"port {config.rerequest_port} (rerequest_port) cannot be opened: {problem}") from None


if __name__ == "__main__":
    main()
