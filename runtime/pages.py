"""Keyset pages: a token is the key of the last row, so pages stay stable while rows are added."""

import base64
import json

SIZE_DEFAULT, SIZE_MAX = 50, 500

Cursor = tuple[int, ...]


class InvalidToken(ValueError):
    """A page token that this service did not make."""


def size(asked: int) -> int:
    """ValueError outside 0 (the default) to 500."""
    if not 0 <= asked <= SIZE_MAX:
        raise ValueError(f"page_size must be from 0 to {SIZE_MAX}, not {asked}")
    return asked or SIZE_DEFAULT


def encode(key: Cursor) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode()


def decode(token: str, start: Cursor) -> Cursor:
    """The key in `token`, or `start` if it is empty. InvalidToken unless it has the shape of `start`."""
    if not token:
        return start
    try:
        key = json.loads(base64.urlsafe_b64decode(token.encode()))
        fits = len(key) == len(start) and all(type(part) is int and abs(part) < 2**63 for part in key)
    except (ValueError, TypeError):
        fits = False
    if not fits:
        raise InvalidToken("the page token is not one of this list's")
    return tuple(key)
