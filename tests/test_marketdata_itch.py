"""Each ITCH message type, decoded from bytes laid out by hand as the specification's tables have them."""

import pytest

from marketdata import itch
from tests import itch_wire as wire

AT = 0x2A_BC12_3456_78  # all six bytes of the time differ
TIME = (AT >> 32, AT & 0xFFFF_FFFF)


def stamped(message: bytes) -> bytes:
    return message[:5] + wire.u(AT, 6) + message[11:]


ROWS = {
    "system event": (wire.system_event(b"Q"), 12, (0, *TIME, b"Q")),
    "stock directory": (wire.directory(7, "AAPL", 40), 39, (7, *TIME, b"AAPL    ", 40)),
    "trading action": (wire.trading(7, "AAPL", b"H"), 25, (7, *TIME, b"AAPL    ", b"H")),
    "add": (wire.add(7, 2**40, b"B", 300, 150_0100), 36, (7, *TIME, 2**40, b"B", 300, 150_0100)),
    "add with attribution": (wire.add_attributed(7, 9, b"S", 1, 1), 40, (7, *TIME, 9, b"S", 1, 1)),
    "executed": (wire.executed(7, 9, 100), 31, (7, *TIME, 9, 100)),
    "executed with price": (wire.executed_at(7, 9, 100, 5_0000, b"N"), 36, (7, *TIME, 9, 100, b"N", 5_0000)),
    "cancelled": (wire.cancelled(7, 9, 50), 23, (7, *TIME, 9, 50)),
    "deleted": (wire.deleted(7, 9), 19, (7, *TIME, 9)),
    "replaced": (wire.replaced(7, 9, 10, 200, 6_0000), 35, (7, *TIME, 9, 10, 200, 6_0000)),
    "trade": (wire.hidden_trade(7, 60, 4_0000), 44, (7, *TIME, 60, 4_0000)),
    "cross": (wire.cross(7, 2**33, 4_0000), 40, (7, *TIME, 2**33, 4_0000)),
}


@pytest.mark.parametrize(("message", "length", "fields"), ROWS.values(), ids=ROWS)
def test_each_message_type_has_the_length_and_fields_of_the_specification(
    message: bytes, length: int, fields: tuple[object, ...]
) -> None:
    assert len(message) == length == itch.LAYOUTS[message[0]].size
    assert itch.decode(stamped(message)) == fields
    assert itch.time_ns(stamped(message)) == AT


def test_every_type_the_decoder_knows_is_in_the_table() -> None:
    assert {row[0][0] for row in ROWS.values()} == set(itch.LAYOUTS)


def test_a_symbol_loses_its_padding_and_whatever_is_not_ascii() -> None:
    assert itch.symbol(b"BRK.A   ") == "BRK.A"
    assert itch.symbol(b"A\xff      ") == "A\N{REPLACEMENT CHARACTER}"
