"""python -m exchange --config FILE: the wiring, and nothing else."""

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from typing import Final, NoReturn

import structlog

from exchange.acceptor import Acceptor
from exchange.config import Config, ConfigError, instruments, load
from exchange.feed import Addresses, Feed, Stream
from exchange.journal import Journal, JournalError
from exchange.market import Market
from exchange.recovery import recover
from exchange.venue import Venue
from runtime.telemetry import setup_logs

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
MARK_SECONDS: Final = 1.0

log = structlog.get_logger()


def main() -> None:
    parser = argparse.ArgumentParser(prog="exchange", description="A simulated venue: FIX 4.2 in, ITCH 5.0 out.")
    setup_logs("venue")  # by way of logging, which outlives the reader of its pipe
    parser.add_argument("--config", type=Path, required=True, help="TOML file; an empty one starts with the defaults")
    try:
        run(load(parser.parse_args().config))
    except (ConfigError, JournalError, OSError) as problem:
        sys.stderr.write(f"exchange: {problem}\n")
        _end(1)


def run(config: Config) -> NoReturn:
    """Until SIGTERM or SIGINT. JournalError or OSError if it cannot start or go on."""
    # Blocked before any thread starts, so that only the wait below takes them.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    config.data_dir.mkdir(parents=True, exist_ok=True)
    now_ns = time.time_ns()
    journal = Journal(config.data_dir / "journal.jsonl", config.name, now_ns)
    stream = Stream(journal.header.feed_session, journal.header.created_ns)
    recovered = recover(Market(journal.header.feed_session), journal.records(), stream.extend)
    feed = _open_feed(config, stream, fresh=not recovered.events)
    venue = Venue(recovered, journal, feed.publish, config.counterparties, config.session, time.time_ns)
    venue.add_instruments(instruments(config), now_ns)
    acceptor = Acceptor(venue, config)
    feed.start()
    acceptor.start()
    log.info("open", venue=config.name, fix_port=config.fix_port, replayed=recovered.events)
    while signal.sigtimedwait(STOP_SIGNALS, MARK_SECONDS) is None:
        venue.mark_sent()
        acceptor.check_stores()
    acceptor.log_out()
    venue.mark_sent()
    feed.stop()
    log.info("closed", venue=config.name)
    _end(0)


def _open_feed(config: Config, stream: Stream, fresh: bool) -> Feed:
    addresses = Addresses((config.feed_host, config.feed_port), (config.host, config.rerequest_port))
    try:
        return Feed(stream, addresses, fresh)
    except OSError as problem:
        raise OSError(f"port {config.rerequest_port} (rerequest_port) cannot be opened: {problem}") from None


def _end(code: int) -> NoReturn:
    """Not by way of the interpreter's end: stopping or freeing a SocketAcceptor, forced or not, takes its sockets away
    under its own thread (3 crashes in 12). Journal and FIX store are written through, so nothing is left to close."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
