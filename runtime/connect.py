"""Channels to other services: retries for keyed calls only, deadlines and trace passed on."""

import json
from collections.abc import Iterable

import grpc

from runtime.serve import MESSAGE_BYTES_MAX

Metadata = tuple[tuple[str, str], ...]


def channel(address: str, keyed: Iterable[str] = ()) -> grpc.aio.Channel:
    """`keyed` names the methods (`package.Service/Method`) that carry an idempotency key and may be sent again."""
    names = [dict(zip(("service", "method"), method.split("/"), strict=True)) for method in keyed]
    retry = {
        "maxAttempts": 5,
        "initialBackoff": "0.05s",
        "maxBackoff": "1s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    config = {"methodConfig": [{"name": names, "retryPolicy": retry}] if names else []}
    return grpc.aio.insecure_channel(
        address,
        options=[
            ("grpc.service_config", json.dumps(config)),
            ("grpc.enable_retries", 1),
            ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
            ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1_000),
        ],
    )


def metadata(token: str, traceparent: str | None = None) -> Metadata:
    call = (("authorization", f"Bearer {token}"),)
    return (*call, ("traceparent", traceparent)) if traceparent else call
