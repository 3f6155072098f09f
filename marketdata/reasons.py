"""Why market data is refused: one table from reason to gRPC status."""

from typing import Final

from grpc import StatusCode

from runtime.errors import Refusal

STATUS: Final = {
    "UNKNOWN_SYMBOL": StatusCode.NOT_FOUND,
    "FEED_NOT_READY": StatusCode.UNAVAILABLE,  # which symbols exist is not known yet: ask again
    "INVALID_PAGE_SIZE": StatusCode.INVALID_ARGUMENT,
    "INVALID_PAGE_TOKEN": StatusCode.INVALID_ARGUMENT,
}


def refusal(reason: str, message: str, **metadata: str) -> Refusal:
    return Refusal(reason, STATUS[reason], message, **metadata)
