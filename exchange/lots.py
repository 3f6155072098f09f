"""A draw of lots that comes out alike for the same seed: no generator whose state a restart would lose."""

from hashlib import blake2b
from typing import Final

_PARTS: Final = 1_000_000


def is_drawn(seed: int, number: int, per_million: int) -> bool:
    """Whether the lot of the event with this number falls; it does so `per_million` times in a million."""
    if not per_million:
        return False
    digest = blake2b(f"{seed}:{number}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) % _PARTS < per_million
