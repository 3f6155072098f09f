"""Settings of [marketdata] in openbell.toml. The ports are the brokerage's: `feed` and `rerequest`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Config:
    """Where the venue's feed is, and how long it may be silent."""

    feed_host: str = "127.0.0.1"  # address to listen on; a multicast group is joined
    feed_interface: str = "0.0.0.0"  # address of the interface on which a group is joined
    rerequest_host: str = "127.0.0.1"
    silence_seconds: float = 3.0  # the venue sends a heartbeat each second
    reorder_messages: int = 20_000  # kept past a gap until it is closed
    receive_buffer_bytes: int = 8 * 1024 * 1024  # the kernel grants net.core.rmem_max at most
