"""ITCH 5.0 messages and MoldUDP64 packets, written out field by field as the specifications list them.

Nothing here comes from the code under test: a layout that is wrong there must not be wrong here too.
"""

from collections.abc import Sequence

SESSION = b"OPENBELL01"
NOON_NS = 12 * 3_600 * 10**9
AAPL, GOOGL = 1, 2  # stock locates


def u(number: int, size: int) -> bytes:
    return number.to_bytes(size, "big")


def stock(symbol: str) -> bytes:
    return symbol.encode().ljust(8)


def itch(kind: str, locate: int, *fields: bytes, at: int = NOON_NS) -> bytes:
    """`at`: nanoseconds since midnight in New York. The tracking number is one that no field can be mistaken for."""
    return b"".join((kind.encode(), u(locate, 2), u(0xABCD, 2), u(at, 6), *fields))


def system_event(code: bytes, at: int = NOON_NS) -> bytes:
    return itch("S", 0, code, at=at)


def directory(locate: int, symbol: str, round_lot: int = 100, at: int = NOON_NS) -> bytes:
    tail = (b"Q", b"N", u(round_lot, 4), b"N", b"C", b"Z ", b"P", b"N", b"N", b"1", b"N", u(0, 4), b"N")
    return itch("R", locate, stock(symbol), *tail, at=at)


def trading(locate: int, symbol: str, state: bytes = b"T") -> bytes:
    return itch("H", locate, stock(symbol), state, b" ", b"    ")


def add(locate: int, ref: int, side: bytes, shares: int, price: int, at: int = NOON_NS) -> bytes:
    return itch("A", locate, u(ref, 8), side, u(shares, 4), stock("AAPL"), u(price, 4), at=at)


def add_attributed(locate: int, ref: int, side: bytes, shares: int, price: int) -> bytes:
    return itch("F", locate, u(ref, 8), side, u(shares, 4), stock("AAPL"), u(price, 4), b"OPBL")


def executed(locate: int, ref: int, shares: int, match: int = 77, at: int = NOON_NS) -> bytes:
    return itch("E", locate, u(ref, 8), u(shares, 4), u(match, 8), at=at)


def executed_at(locate: int, ref: int, shares: int, price: int, printable: bytes = b"Y") -> bytes:
    return itch("C", locate, u(ref, 8), u(shares, 4), u(77, 8), printable, u(price, 4))


def cancelled(locate: int, ref: int, shares: int) -> bytes:
    return itch("X", locate, u(ref, 8), u(shares, 4))


def deleted(locate: int, ref: int) -> bytes:
    return itch("D", locate, u(ref, 8))


def replaced(locate: int, ref: int, new_ref: int, shares: int, price: int) -> bytes:
    return itch("U", locate, u(ref, 8), u(new_ref, 8), u(shares, 4), u(price, 4))


def hidden_trade(locate: int, shares: int, price: int) -> bytes:
    return itch("P", locate, u(0, 8), b"B", u(shares, 4), stock("AAPL"), u(price, 4), u(77, 8))


def cross(locate: int, shares: int, price: int) -> bytes:
    return itch("Q", locate, u(shares, 8), stock("AAPL"), u(price, 4), u(77, 8), b"O")


def packet(sequence: int, messages: Sequence[bytes], session: bytes = SESSION) -> bytes:
    body = b"".join(u(len(message), 2) + message for message in messages)
    return session + u(sequence, 8) + u(len(messages), 2) + body


def heartbeat(next_number: int, session: bytes = SESSION) -> bytes:
    return packet(next_number, [], session)


OPENING = (
    system_event(b"O"),
    directory(AAPL, "AAPL"),
    trading(AAPL, "AAPL"),
    directory(GOOGL, "GOOGL"),
    trading(GOOGL, "GOOGL"),
    add(AAPL, 1, b"B", 1000, 149_9900),
    add(AAPL, 2, b"S", 1000, 150_0100),
    add(GOOGL, 3, b"B", 500, 2799_9900),
    add(GOOGL, 4, b"S", 500, 2800_0100),
)
"""How the tests' venue opens: both symbols listed, trading and quoted."""
