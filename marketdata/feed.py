"""The sockets: one UDP line of the feed, and one to the re-request server."""

import asyncio
import socket
import time
from ipaddress import ip_address
from typing import Final

import structlog

from marketdata.config import Config
from marketdata.plant import Plant
from marketdata.subscribers import Subscribers
from runtime.settings import SettingsError

TICK_SECONDS: Final = 0.02  # retries, silence
DATAGRAM_BYTES_MAX: Final = 65_535
DATAGRAMS_PER_TURN: Final = 256  # then the RPCs have their turn

log = structlog.get_logger()


def _feed_socket(config: Config, port: int) -> socket.socket:
    """Bound to the group itself when the address is multicast, so that no other group of that port comes in."""
    line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    line.setblocking(False)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, config.receive_buffer_bytes)
    try:
        if ip_address(config.feed_host).is_multicast:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            membership = socket.inet_aton(config.feed_host) + socket.inet_aton(config.feed_interface)
            line.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        line.bind((config.feed_host, port))
    except (OSError, ValueError) as problem:
        line.close()
        raise SettingsError(
            f"cannot listen for the feed on {config.feed_host}:{port} ({problem}); "
            "stop what uses it, or change port_base or [marketdata] feed_host in openbell.toml"
        ) from None
    return line


def _rerequest_socket(config: Config, port: int) -> socket.socket:
    """Connected: the kernel then drops what others than the venue send to it."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.setblocking(False)
    try:
        server.connect((config.rerequest_host, port))
    except OSError as problem:
        server.close()
        raise SettingsError(
            f"[marketdata] rerequest_host {config.rerequest_host!r} in openbell.toml: {problem}"
        ) from None
    return server


class Feed:
    """Keeps the plant fed and the subscribers told until it is cancelled."""

    def __init__(
        self, config: Config, feed_port: int, rerequest_port: int, plant: Plant, subscribers: Subscribers
    ) -> None:
        """SettingsError if the feed's port is taken."""
        self._plant = plant
        self._subscribers = subscribers
        self._line = _feed_socket(config, feed_port)
        self._server = _rerequest_socket(config, rerequest_port)
        self._wake = asyncio.Event()
        self._emptied_ns = time.monotonic_ns()
        self._was_fresh = False
        self._generation = 0

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(self._line, self._wake.set)
        loop.add_reader(self._server, self._wake.set)
        try:
            while True:
                tick = loop.call_later(TICK_SECONDS, self._wake.set)
                await self._wake.wait()
                tick.cancel()
                self._wake.clear()
                self._turn()
                await asyncio.sleep(0)
        finally:
            loop.remove_reader(self._line)
            loop.remove_reader(self._server)
            self._line.close()
            self._server.close()

    def _turn(self) -> None:
        self._read_line()
        self._read_answers()
        self._ask()
        self._tell()

    def _read_line(self) -> None:
        """A datagram counts as heard when the socket was last seen empty: how long it has waited since, during a stop
        of this process perhaps, nobody can say, and a quote must not look fresher than it is."""
        turn_ns, now_ns = time.monotonic_ns(), time.time_ns()
        for _ in range(DATAGRAMS_PER_TURN):
            datagram = _receive(self._line)
            if datagram is None:
                self._emptied_ns = turn_ns
                return
            self._plant.on_feed(datagram, self._emptied_ns, now_ns)
        self._wake.set()

    def _read_answers(self) -> None:
        now_ns = time.time_ns()
        for _ in range(DATAGRAMS_PER_TURN):
            datagram = _receive(self._server)
            if datagram is None:
                return
            self._plant.on_answer(datagram, now_ns)
        self._wake.set()

    def _ask(self) -> None:
        for request in self._plant.sequencer.requests(time.monotonic_ns()):
            try:
                self._server.send(request)
            except OSError:  # the venue is away, or our buffer full: the retry comes by itself
                self._plant.counts["requests_unsent"] += 1

    def _tell(self) -> None:
        changed = self._plant.take_changed()
        fresh = self._plant.fresh(time.monotonic_ns())
        if fresh != self._was_fresh or self._generation != self._plant.sequencer.generation:
            self._report(fresh)
            changed |= self._plant.market.listings.keys()
        if changed:
            self._subscribers.publish(changed)

    def _report(self, fresh: bool) -> None:
        sequencer = self._plant.sequencer
        self._was_fresh, self._generation = fresh, sequencer.generation
        session = (sequencer.session or b"").decode("ascii", "replace")
        log.info(
            "feed is fresh" if fresh else "feed is stale",
            session=session,
            phase=self._plant.market.phase,
            next_number=sequencer.expected,
            missing=sequencer.target - sequencer.expected,
        )


def _receive(source: socket.socket) -> bytes | None:
    """One datagram, or None when there is none. A refusal is what a request to a dead venue came to."""
    try:
        return source.recv(DATAGRAM_BYTES_MAX)
    except (BlockingIOError, ConnectionRefusedError):
        return None
