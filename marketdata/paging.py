"""Page tokens of ListInstruments: the last symbol shown, opaque to the caller.

The check sum tells a token of ours from a guess or a cut one. It is no secret: whoever forges a token that fits reads
a page that he may read anyway.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b
from typing import Final

_CHECK_BYTES: Final = 8


def page_token(last_symbol: str) -> str:
    text = last_symbol.encode()
    return urlsafe_b64encode(_check(text) + text).decode()


def last_symbol(token: str) -> str:
    """The symbol inside. ValueError if `page_token` did not make the token."""
    raw = urlsafe_b64decode(token.encode("ascii"))
    text = raw[_CHECK_BYTES:]
    if raw[:_CHECK_BYTES] != _check(text) or page_token(text.decode()) != token:
        raise ValueError("no page token of ListInstruments")
    return text.decode()


def _check(text: bytes) -> bytes:
    return blake2b(text, digest_size=_CHECK_BYTES, person=b"instruments").digest()
