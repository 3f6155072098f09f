"""Why market data is refused: one table from reason to gRPC status."""

from typing import Final

from grpc import StatusCode

from runtime.errors import Refusal

STATUS: Final = {
    "UNKNOWN_SYMBOL": StatusCode.NOT_FOUND,
    "FEED_NOT_READY": StatusCode.UNAVAILABLE,  # which symbols exist is not known yet: ask again
}


def refusal(reason: str, message: str, **metadata: str) -> Refusal:
    return Refusal(reason, STATUS[reason], message, **metadata)
