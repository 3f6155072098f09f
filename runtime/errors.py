"""Refusals: one exception, one wire form (google.rpc.Status with ErrorInfo, AIP-193)."""

from collections.abc import Iterable
from typing import cast

import grpc
from google.rpc import error_details_pb2, status_pb2

DOMAIN = "openbell"
DETAILS = "grpc-status-details-bin"


class Refusal(Exception):
    """A command or query that is answered with a reason; nothing but the refusal is stored."""

    def __init__(self, reason: str, status: grpc.StatusCode, message: str, **metadata: str) -> None:
        super().__init__(message)
        self.reason, self.status, self.message, self.metadata = reason, status, message, metadata


class Unknown(Exception):
    """Whether it was done is not known; ask again with the same key. Becomes UNAVAILABLE."""


def details(refusal: Refusal) -> tuple[tuple[str, bytes], ...]:
    """Trailing metadata that carries the refusal's ErrorInfo."""
    status = status_pb2.Status(code=refusal.status.value[0], message=refusal.message)
    info = error_details_pb2.ErrorInfo(reason=refusal.reason, domain=DOMAIN, metadata=refusal.metadata)
    status.details.add().Pack(info)
    return ((DETAILS, status.SerializeToString()),)


def from_rpc(error: grpc.RpcError) -> Refusal:
    """The refusal inside a failed call; without ErrorInfo, the reason is the status' own name."""
    code: grpc.StatusCode = error.code()
    trailers = cast(Iterable[tuple[str, str | bytes]], error.trailing_metadata() or ())
    packed = next((value for key, value in trailers if key == DETAILS), b"")
    info = error_details_pb2.ErrorInfo()
    if isinstance(packed, bytes):
        for detail in status_pb2.Status.FromString(packed).details:
            detail.Unpack(info)
    return Refusal(info.reason or code.name, code, error.details() or code.name, **dict(info.metadata))
