"""Framing, fields, the dictionary and the store of the venue's FIX sessions. `|` stands for SOH."""

import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.dictionary import Dictionary
from exchange.store import Sent, Store, StoreError
from exchange.wire import (
    DATA_FIELDS,
    HEADER,
    MESSAGE_BYTES_MAX,
    Framer,
    Message,
    frame,
    read,
    read_fields,
    utc_ns,
)

FIX42 = Path(sys.prefix) / "share" / "quickfix" / "FIX42.xml"
SPEC = Dictionary(FIX42)
HEAD = "35={type}|34=7|49=RAW|52=20261121-14:30:00.123|56=XSIM|"
ORDER = "11=a|21=1|55=AAPL|54=1|38=10|40=1|60=20261121-14:30:00|"


def soh(text: str) -> str:
    return text.replace("|", "\x01")


def wire(text: str) -> bytes:
    return frame(soh(text))


def message(body: str, msg_type: str = "D") -> Message:
    return read(wire(HEAD.replace("{type}", msg_type) + body))


GOOD = [wire(f"35=0|34={number}|49=RAW|56=XSIM|58={'x' * (number * 37 % 500)}|") for number in range(1, 12)]

# What may stand between two good messages, and how many messages of its own it has.
GARBLED: dict[str, bytes] = {
    "junk": b"\r\nhello",
    "a wrong checksum": GOOD[0][:-4] + b"999\x01",
    "a checksum of letters": GOOD[0][:-4] + b"abc\x01",
    "a body length that is too small": GOOD[3].replace(b"9=", b"9=1", 1)[:-7] + b"10=000\x01",
    "a body length that is huge": b"8=FIX.4.2\x019=2000000000\x0135=0\x01",
    "a body length just too large": b"8=FIX.4.2\x019=%d\x0135=0\x01" % MESSAGE_BYTES_MAX,
    "a body length of 0": b"8=FIX.4.2\x019=0\x0110=000\x01",
    "a negative body length": b"8=FIX.4.2\x019=-5\x0135=0\x0110=000\x01",
    "a body length of letters": b"8=FIX.4.2\x019=abc\x0135=0\x0110=000\x01",
    "no body length": b"8=FIX.4.2\x0135=0\x0134=5\x0110=000\x01",
    "no message type": b"8=FIX.4.2\x019=5\x0134=5\x0110=163\x01",
    "a start alone": b"8=FIX.4.2\x01",
    "a start cut short": b"8=FI",
    "starts in a row": b"8=FIX.4.2\x019=" * 40,
}


def frames(stream: bytes, slices: list[int]) -> list[bytes]:
    framer, found, at = Framer(), [], 0
    for size in [*slices, len(stream)]:
        found += framer.feed(stream[at : at + size])
        at += size
    return found + framer.give_up() + framer.give_up()


@pytest.mark.parametrize("name", GARBLED)
def test_what_is_garbled_is_skipped_and_the_next_good_message_read(name: str) -> None:
    stream = GOOD[0] + GARBLED[name] + GOOD[1] + GOOD[2]
    framer = Framer()
    found = framer.feed(stream)
    while framer.is_waiting and (more := framer.give_up()):
        found += more
    assert found == [GOOD[0], GOOD[1], GOOD[2]]
    assert framer.garbled > 0


@given(st.lists(st.sampled_from([*GOOD, *GARBLED.values()]), max_size=12), st.lists(st.integers(1, 300), max_size=40))
def test_the_same_messages_come_out_however_the_bytes_are_sliced(parts: list[bytes], slices: list[int]) -> None:
    stream = b"".join(parts) + GOOD[-1]
    assert frames(stream, slices) == frames(stream, []) == frames(stream, [1] * len(stream))


@given(st.binary(max_size=600), st.integers(0, len(GOOD) - 1))
def test_a_good_message_behind_any_bytes_comes_out(junk: bytes, which: int) -> None:
    framer = Framer()
    found = framer.feed(junk + GOOD[which])
    while more := framer.give_up():
        found += more
    assert found == [GOOD[which]]


def test_what_is_kept_is_bounded() -> None:
    framer = Framer()
    for _ in range(200):
        framer.feed(b"8=FIX.4.2\x019=16000\x0135=0\x0158=" + b"x" * 1000)
        assert len(framer._rest) <= MESSAGE_BYTES_MAX
        framer.feed(b"y" * 1_000_000)
        assert len(framer._rest) <= MESSAGE_BYTES_MAX


def test_the_longest_message_passes_and_a_longer_one_does_not() -> None:
    short = wire("35=0|58=|")
    room = MESSAGE_BYTES_MAX - len(short) - len("16360") + len("9")
    longest, longer = (wire(f"35=0|58={'x' * (room + more)}|") for more in (0, 1))
    assert len(longest) == MESSAGE_BYTES_MAX
    assert Framer().feed(longest + longer + GOOD[0]) == [longest, GOOD[0]]


def test_a_message_in_a_data_field_is_not_taken_for_one() -> None:
    outer = wire(f"35=B|34=2|95={len(GOOD[0])}|96={GOOD[0].decode()}|")
    assert Framer().feed(outer + GOOD[1]) == [outer, GOOD[1]]
    spoilt = outer[:-4] + b"000\x01"
    assert Framer().feed(spoilt + GOOD[1]) == [GOOD[1]]


def test_a_message_of_another_version_is_framed_too() -> None:
    other = b"8=FIX.4.4\x019=5\x0135=0\x0110=163\x01"
    assert Framer().feed(other) == [other]


def test_the_checksum_is_right_for_every_length() -> None:
    for length in range(600):
        made = wire(f"35=0|58={'~' * length}|")
        assert int(made[-4:-1]) == sum(made[:-7]) % 256
        assert Framer().feed(made) == [made]


def test_what_is_framed_reads_back() -> None:
    fields = read_fields(wire("35=D|34=5|11=a=b|58=é|"))
    assert list(fields.items())[:-1] == [
        ("8", "FIX.4.2"),
        ("9", "22"),
        ("35", "D"),
        ("34", "5"),
        ("11", "a=b"),
        ("58", "é"),
    ]


# name: (fields, what is read)
FIELDS: dict[str, tuple[str, dict[str, str]]] = {
    "of a tag that stands twice the first counts": ("35=D|34=1|55=A|55=B|", {"55": "A"}),
    "a header's tag behind the body does not count": ("35=D|11=a|34=9|", {"34": "none"}),
    "nor does it hide the header's": ("35=D|34=1|11=a|34=9|", {"34": "1"}),
    "a data field may contain SOH": ("35=D|34=1|354=8|355=a|34=9|b|11=x|", {"355": "a\x0134=9\x01b", "34": "1"}),
    "a data field in the header": ("35=D|90=6|91=a|34=9|34=5|11=x|", {"91": "a\x0134=9", "34": "5"}),
    "a length that is not true is a plain field": ("35=D|34=1|354=99|355=a|11=x|", {"355": "a", "11": "x"}),
    "a length of letters": ("35=D|34=1|354=x|355=a|11=x|", {"355": "a", "11": "x"}),
    "a field without a value": ("35=D|34=1|11=|", {"11": ""}),
    "a field without an equals sign": ("35=D|34=1|11|55=A|", {"11": "", "55": "A"}),
    "nothing at all": ("35=D|34=1||55=A|", {"": "", "55": "A"}),
}


@pytest.mark.parametrize("name", FIELDS)
def test_fields_are_read(name: str) -> None:
    text, expected = FIELDS[name]
    fields = read_fields(wire(text))
    assert {tag: fields.get(tag, "none") for tag in expected} == expected


def test_the_constants_are_those_of_the_dictionary() -> None:
    fields = {each.attrib["name"]: each.attrib["number"] for each in ET.parse(FIX42).getroot().iterfind("fields/field")}
    types = {each.attrib["number"]: each.attrib["type"] for each in ET.parse(FIX42).getroot().iterfind("fields/field")}
    header = ET.parse(FIX42).getroot().iterfind("header/field")
    assert {fields[each.attrib["name"]] for each in header} == HEADER
    assert {tag for tag, kind in types.items() if kind == "LENGTH"} == set(DATA_FIELDS)
    assert {tag for tag, kind in types.items() if kind == "DATA"} == set(DATA_FIELDS.values())


TIMES = {
    "19700101-00:00:01": 10**9,
    "19700101-00:00:01.005": 1_005_000_000,
    "19700101-00:00:01.000005": 1_000_005_000,
    "19700101-00:00:01.000000005": 1_000_000_005,
    **dict.fromkeys(
        ("", "19700101", "19700101-00:00:0", "19700101 00:00:01", "19700101-00:00:01.", "19700101-00:00:01.5", "0"),
        None,
    ),
    **dict.fromkeys(("19700132-00:00:01", "19700101-24:00:00", "19700101-00:00:60", "1970010²-00:00:01"), None),
    **dict.fromkeys(("19700101-00:00:01x123", "19700101-00:00:01.12a", "+9700101-00:00:01", "19700101-0 :00:01"), None),
}


@pytest.mark.parametrize("text", TIMES)
def test_timestamps(text: str) -> None:
    assert utc_ns(text) == TIMES[text]


# name: (MsgType, body, SessionRejectReason(373), RefTagID(371)); None where FIX 4.2 has no code
REFUSED: dict[str, tuple[str, str, int | None, str]] = {
    "a tag of letters": ("D", ORDER + "x=1|", 0, ""),
    "a tag with a leading zero": ("D", ORDER + "058=1|", 0, "058"),
    "tag 0": ("D", ORDER + "0=1|", 0, "0"),
    "a negative tag": ("D", ORDER + "-1=1|", 0, ""),
    "a huge tag": ("D", ORDER + f"{'9' * 5000}=1|", 0, ""),
    "nothing between two SOH": ("D", ORDER + "|", 0, ""),
    "a required tag missing": ("D", ORDER.replace("55=AAPL|", ""), 1, "55"),
    "two required tags missing": ("D", ORDER.replace("55=AAPL|", "").replace("11=a|", ""), 1, "11"),
    "a tag of another message": ("D", ORDER + "150=0|", 2, "150"),
    "an undefined tag": ("D", ORDER + "4999=0|", 3, "4999"),
    "a tag without a value": ("D", ORDER + "58=|", 4, "58"),
    "a user-defined tag without a value": ("D", ORDER + "5000=|", 4, "5000"),
    "a tag without an equals sign": ("D", ORDER + "58|", 4, "58"),
    "no message type": ("", ORDER, 4, "35"),
    "an unknown side": ("D", ORDER.replace("54=1", "54=Z"), 5, "54"),
    "an unknown word in a list": ("D", ORDER + "18=1 q|", 5, "18"),
    "a side of two letters": ("D", ORDER.replace("54=1", "54=11"), 6, "54"),
    "a quantity with an exponent": ("D", ORDER.replace("38=10", "38=1e5"), 6, "38"),
    "a quantity with a plus": ("D", ORDER.replace("38=10", "38=+1"), 6, "38"),
    "a quantity that is a sign": ("D", ORDER.replace("38=10", "38=-"), 6, "38"),
    "a quantity that is a point": ("D", ORDER.replace("38=10", "38=."), 6, "38"),
    "a quantity with an underscore": ("D", ORDER.replace("38=10", "38=1_0"), 6, "38"),
    "a superscript quantity": ("D", ORDER.replace("38=10", "38=²"), 6, "38"),
    "a quantity of 5,000 digits": ("D", ORDER.replace("38=10", f"38={'9' * 5000}"), 6, "38"),
    "not a number": ("D", ORDER.replace("38=10", "38=nan"), 6, "38"),
    "a price with a comma": ("D", ORDER + "44=1,5|", 6, "44"),
    "a time of day that is none": ("D", ORDER + "126=20261121-25:00:00|", 6, "126"),
    "a date that is none": ("D", ORDER + "432=20260230|", 6, "432"),
    "a month that is none": ("D", ORDER + "200=202613|", 6, "200"),
    "a day of the month that is none": ("D", ORDER + "205=32|", 6, "205"),
    "a boolean that is none": ("D", ORDER + "114=X|", 6, "114"),
    "an unknown message type": ("~", ORDER, 11, "35"),
    "a message type of two letters": ("DD", ORDER, 11, "35"),
    "a tag that stands twice": ("D", ORDER + "55=B|", None, "55"),
    "a header's tag in the body": ("D", ORDER + "50=x|", None, "50"),
    "a trailer's tag in the body": ("D", "93=1|89=x|" + ORDER, None, "11"),
    "a group's tag outside it": ("D", ORDER + "79=x|", None, "79"),
    "a group with too few": ("D", ORDER + "78=2|79=x|80=1|", None, "78"),
    "a group with too many": ("D", ORDER + "78=1|79=x|80=1|79=y|80=1|", None, "78"),
    "a group that does not begin with its first tag": ("D", ORDER + "78=1|80=1|79=x|", None, "80"),
    "a group's tag twice in one entry": ("D", ORDER + "78=1|79=x|80=1|80=1|", None, "80"),
    "a data field without its length": ("D", ORDER + "355=x|", 1, "354"),
    "a data field apart from its length": ("D", ORDER + "354=1|58=t|355=x|", 1, "354"),
    "a length that is not true": ("D", ORDER + "354=9|355=x|", 6, "354"),
    "a length of letters": ("D", ORDER + "354=x|355=x|", 6, "354"),
    "an integer with a point": ("2", "7=1.0|16=0|", 6, "7"),
    "a group missing its count": ("V", "262=x|263=0|264=0|267=1|269=0|146=1|", None, "146"),
}

ACCEPTED: dict[str, tuple[str, str]] = {
    "an order": ("D", ORDER),
    "a price with a point at the end": ("D", ORDER + "44=5.|"),
    "a price with a point at the start": ("D", ORDER + "44=-.5|"),
    "a quantity of 0": ("D", ORDER.replace("38=10", "38=00")),
    "user-defined tags, twice": ("D", ORDER + "5000=x|5000=y|9999=z|12345=a|"),
    "a group": ("D", ORDER + "78=2|79=x|80=1|79=y|80=1|58=t|"),
    "a group of none": ("D", ORDER + "78=0|"),
    "a user-defined tag in a group": ("D", ORDER + "78=1|79=x|6000=z|80=1|"),
    "a group in a group": ("E", "66=x|394=3|68=1|73=1|11=a|67=1|78=1|79=x|80=1|55=A|54=1|38=1|40=1|"),
    "a list of instructions": ("D", ORDER + "18=1 G|"),
    "data": ("D", ORDER + "354=3|355=a|b|58=t|"),
    "a signature": ("D", ORDER + "93=3|89=a|b|"),
    "text that is not ASCII": ("D", ORDER + "58=é|"),
    "dates": ("D", ORDER + "432=20261231|200=202612|205=31|126=20261121-14:30:00.000001|"),
    "a type that a venue need not serve": ("7", "2=x|5=N|55=A|4=B|53=5|"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_dictionary_refuses(name: str) -> None:
    msg_type, body, reason, tag = REFUSED[name]
    refusal = SPEC.broken(message(body, msg_type))
    assert refusal is not None
    assert (refusal.reason, refusal.ref_tag) == (reason, tag)
    assert refusal.text.isascii()


@pytest.mark.parametrize("name", ACCEPTED)
def test_the_dictionary_accepts(name: str) -> None:
    msg_type, body = ACCEPTED[name]
    assert SPEC.broken(message(body, msg_type)) is None


def test_the_header_is_checked_as_well() -> None:
    for head, reason, tag in (
        ("35=D|34=1|49=RAW|56=XSIM|", 1, "52"),
        ("35=D|34=1|49=RAW|52=20261121|56=XSIM|", 6, "52"),
        ("35=D|34=x|49=RAW|52=20261121-14:30:00|56=XSIM|", 6, "34"),
        ("35=D|34=1|43=Q|49=RAW|52=20261121-14:30:00|56=XSIM|", 6, "43"),
        ("35=D|34=1|34=1|49=RAW|52=20261121-14:30:00|56=XSIM|", None, "34"),
        ("35=D|34=1|49=RAW|52=20261121-14:30:00|56=XSIM|", None, ""),
    ):
        refusal = SPEC.broken(read(wire(head + ORDER)))
        assert (refusal.reason, refusal.ref_tag) == (reason, tag) if refusal else tag == ""


@given(st.lists(st.tuples(st.integers(0, 460), st.text("019=|.-NY", max_size=4)), max_size=100))
def test_whatever_the_fields_are_there_is_an_answer(pairs: list[tuple[int, str]]) -> None:
    text = "".join(f"{tag}={value}|" for tag, value in pairs)
    found = SPEC.broken(message(text))
    assert found is None or (found.text and (found.ref_tag.isdecimal() or not found.ref_tag))


# The store


def filled(directory: Path, count: int = 5) -> Store:
    store = Store(directory, "RAW", 1)
    for number in range(1, count + 1):
        body = "" if number % 3 == 0 else f"35=8\x0158=message {number}\x01"
        assert store.append(body, number * 10, mark=number if body else 0) == number
    store.next_in = 4
    return store


def test_what_is_flushed_is_there_after_a_restart_and_what_is_not_is_not(tmp_path: Path) -> None:
    store = filled(tmp_path)
    store.flush()
    store.flush_next_in()
    store.append("35=8\x01", 60, mark=6)
    store.next_in = 9
    again = Store(tmp_path, "RAW", 2)
    assert (again.next_in, again.next_out, again.last_mark) == (4, 6, 5)
    assert again.read(2, 2) == [Sent(2, 20, "35=8\x0158=message 2\x01"), Sent(3, 30, "")]


def test_messages_are_read_back_flushed_or_not(tmp_path: Path) -> None:
    store = filled(tmp_path)
    before = store.read(1, 100)
    assert [sent.number for sent in before] == [1, 2, 3, 4, 5]
    store.flush()
    store.flush_next_in()
    assert store.read(1, 100) == before
    store.append("35=8\x0158=late\x01", 60)
    store.append("", 70)
    assert store.read(1, 100)[:5] == before
    assert store.read(5, 2) == [before[4], Sent(6, 60, "35=8\x0158=late\x01")]
    assert store.read(6, 2)[1:] == store.read(7, 1) == [Sent(7, 70, "")]
    assert store.read(8, 5) == store.read(3, 0) == []


def test_a_torn_tail_is_cut_wherever_it_is_torn(tmp_path: Path) -> None:
    store = filled(tmp_path)
    store.flush()
    store.flush_next_in()
    path = tmp_path / "RAW.out"
    whole = path.read_bytes()
    ends = [32 * (number + 1) + sum(len(sent.body) for sent in store.read(1, number)) for number in range(6)]
    assert ends[-1] == len(whole)
    for size in range(32, len(whole) + 1):
        path.write_bytes(whole[:size])
        again = Store(tmp_path, "RAW", 2)
        kept = sum(end <= size for end in ends) - 1
        assert again.next_out == kept + 1
        assert again.append("35=8\x0158=new\x01", 5) == kept + 1
        again.flush()
        again.close()
        assert Store(tmp_path, "RAW", 3).read(1, 9)[-1].body == "35=8\x0158=new\x01"


def test_damage_is_refused_wherever_it_is(tmp_path: Path) -> None:
    filled(tmp_path).flush()
    path = tmp_path / "RAW.out"
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :])
        with pytest.raises(StoreError, match="restore"):
            Store(tmp_path, "RAW", 2)
    path.write_bytes(whole[:20])
    with pytest.raises(StoreError, match="beginning"):
        Store(tmp_path, "RAW", 2)


def test_a_reset_starts_both_numbers_anew_and_keeps_the_mark(tmp_path: Path) -> None:
    store = filled(tmp_path)
    store.flush()
    store.flush_next_in()
    store.reset(7)
    assert (store.next_in, store.next_out, store.last_mark) == (1, 1, 5)
    assert Store(tmp_path, "RAW", 2).next_out == 6  # not flushed yet
    store.append("35=8\x01", 80)
    store.flush()
    store.flush_next_in()
    again = Store(tmp_path, "RAW", 2)
    assert (again.next_in, again.next_out, again.last_mark) == (1, 2, 5)
    again.append("35=8\x01", 90, mark=9)
    again.next_in = 3
    again.flush()
    again.flush_next_in()
    assert Store(tmp_path, "RAW", 2).last_mark == 9
    assert Store(tmp_path, "RAW", 2).next_in == 3


def test_a_reset_cut_short_between_its_files_is_whole(tmp_path: Path) -> None:
    store = filled(tmp_path)
    store.flush()
    store.flush_next_in()
    old = (tmp_path / "RAW.in").read_bytes()
    store.reset(1)  # at the time of the first beginning: the clock stands still
    store.next_in = 2
    store.flush()
    store.flush_next_in()
    (tmp_path / "RAW.in").write_bytes(old)
    again = Store(tmp_path, "RAW", 2)
    assert (again.next_in, again.next_out) == (1, 1)


def test_a_full_disk_is_an_error_and_the_files_stay_whole(tmp_path: Path) -> None:
    store = filled(tmp_path)
    store.flush()
    store.flush_next_in()
    descriptor = store._out
    store.append("35=8\x01", 60)
    with open("/dev/full", "wb") as full:
        store._out = full.fileno()
        with pytest.raises(OSError, match="No space"):
            store.flush()
    store._out = descriptor
    assert Store(tmp_path, "RAW", 2).next_out == 6
