"""Keyset pages: a token is the key of the last row shown, so pages stay stable while rows are added.

The check sum tells a token of the list asked for from a guess, a cut one, or one of another list. It is no secret:
whoever forges a token that fits reads a page that he may read anyway.
"""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b
from typing import Final

from grpc import StatusCode

from runtime.errors import Refusal

SIZE_DEFAULT: Final = 50
SIZE_MAX: Final = 500
_CHECK_BYTES: Final = 8

Key = tuple[int | str, ...]


def size(asked: int) -> int:
    """Rows of a page. Refusal INVALID_PAGE_SIZE outside 0 (the default) to 500."""
    if not 0 <= asked <= SIZE_MAX:
        raise Refusal(
            "INVALID_PAGE_SIZE",
            StatusCode.INVALID_ARGUMENT,
            f"page_size must be 1 to {SIZE_MAX}, or 0 for {SIZE_DEFAULT}",
        )
    return asked or SIZE_DEFAULT


def token(of: str, key: Key) -> str:
    text = json.dumps(key).encode()
    return urlsafe_b64encode(_check(of, text) + text).decode()


def key(of: str, page_token: str, start: Key) -> Key:
    """The key inside, or `start` for an empty token. Refusal INVALID_PAGE_TOKEN if it is not one of `of`."""
    if not page_token:
        return start
    try:
        raw = urlsafe_b64decode(page_token.encode("ascii"))
        text = raw[_CHECK_BYTES:]
        if raw[:_CHECK_BYTES] == _check(of, text) and urlsafe_b64encode(raw).decode() == page_token:
            found = tuple(json.loads(text))
            if _shape(found) == _shape(start):
                return found
    except (ValueError, TypeError):
        pass
    raise Refusal("INVALID_PAGE_TOKEN", StatusCode.INVALID_ARGUMENT, f"the page token is not one that {of} gave")


def _shape(key: Key) -> list[type]:
    """Types of the parts; an integer that no bigint holds is of no shape that a list has."""
    return [type(part) if type(part) is str or abs(part) < 2**63 else float for part in key]  # type: ignore[arg-type]


def _check(of: str, text: bytes) -> bytes:
    return blake2b(of.encode() + b" " + text, digest_size=_CHECK_BYTES).digest()
