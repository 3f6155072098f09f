"""What FIX 4.2 allows in a message, from QuickFIX's FIX42.xml: the reasons of a session level Reject(3).

What depends on the tags alone (which may stand there, which must, in what order) is decided once for each sequence of
tags and remembered; after that only values are looked at.
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from exchange.wire import DATA_FIELDS, Message, utc_ns

FIRST_USER_DEFINED_TAG: Final = 5000

# SessionRejectReason(373). FIX 4.2 has no code for a tag that is repeated or out of place, nor for a wrong group count.
INVALID_TAG_NUMBER: Final = 0
REQUIRED_TAG_MISSING: Final = 1
NOT_DEFINED_FOR_TYPE: Final = 2
UNDEFINED_TAG: Final = 3
WITHOUT_VALUE: Final = 4
VALUE_INCORRECT: Final = 5
FORMAT_INCORRECT: Final = 6
COMP_ID_PROBLEM: Final = 9
SENDING_TIME_PROBLEM: Final = 10
INVALID_MSG_TYPE: Final = 11

_TAG_DIGITS_MAX: Final = 9
_TAGS_MAX_KEPT: Final = 64  # a longer list of tags is looked at anew each time, which bounds what is remembered
# Bounded, for what is longer than this is no number anyone means, and int() has limits of its own.
_DIGITS_MAX: Final = 18
_INTEGER: Final = re.compile(r"-?[0-9]{1,18}")
_DECIMAL: Final = re.compile(r"-?(?=.?[0-9])[0-9]{0,40}(\.[0-9]{0,40})?")
# IOIShares and SettlLocation: FIX42.xml lists words that may stand there; numbers and country codes may, too.
_OPEN_LISTS: Final = frozenset({"27", "166"})

Check = Callable[[str], bool]


class Refusal(NamedTuple):
    """SessionRejectReason(373), if FIX 4.2 has one; RefTagID(371) or ""; Text(58)."""

    reason: int | None
    ref_tag: str
    text: str


class Broken(Exception):
    """Carries the Refusal of a sequence of tags."""

    def __init__(self, reason: int | None, tag: str, text: str) -> None:
        super().__init__(text)
        self.refusal = Refusal(reason, tag, text)


@dataclass(frozen=True, slots=True)
class Block:
    """A header, a body, a trailer, or one entry of a repeating group. `tags`: with the group that a tag counts."""

    first: str
    tags: Mapping[str, "Block | None"]
    required: frozenset[str]


class Plan(NamedTuple):
    """What to look at in a message with known tags: (place, check) of values; the places of the lengths of data fields;
    (place, entries) of groups."""

    checks: list[tuple[int, Check]]
    lengths: list[int]
    counts: list[tuple[int, int]]


class Dictionary:
    def __init__(self, path: Path) -> None:
        """OSError or ParseError if `path` is no dictionary."""
        root = ET.parse(path).getroot()
        fields = list(root.iterfind("fields/field"))
        tags = {field.attrib["name"]: field.attrib["number"] for field in fields}
        self._formats = {field.attrib["number"]: _FORMATS.get(field.attrib["type"]) for field in fields}
        self._checks = {field.attrib["number"]: _check(field) for field in fields}
        self.header, self.trailer = (_block(each, tags) for part in ("header", "trailer") for each in root.iter(part))
        self._bodies = {each.attrib["msgtype"]: _block(each, tags) for each in root.iterfind("messages/message")}
        self._remembered = lru_cache(maxsize=256)(self._plan)

    def broken(self, message: Message) -> Refusal | None:
        """What FIX 4.2 has against the message; None if nothing. Tags from 5000 on are free."""
        tags, values = message.tags, message.values
        plan = (self._remembered if len(tags) <= _TAGS_MAX_KEPT else self._plan)(message.fields["35"], tags)
        if isinstance(plan, Refusal):
            return plan
        if "" in values:
            tag = tags[values.index("")]
            return Refusal(WITHOUT_VALUE, tag, f"tag {tag} has no value")
        for place, check in plan.checks:
            if not check(values[place]):
                return self._refused_value(tags[place], values[place])
        return _miscounted(plan, tags, values) if plan.lengths or plan.counts else None

    def _refused_value(self, tag: str, value: str) -> Refusal:
        has_format = self._formats[tag]
        if has_format and not has_format(value):
            return Refusal(FORMAT_INCORRECT, tag, f"tag {tag} does not have the format of its type")
        return Refusal(VALUE_INCORRECT, tag, f"tag {tag} cannot have this value")

    def _plan(self, msg_type: str, tags: tuple[str, ...]) -> Plan | Refusal:
        try:
            for tag in tags:
                self._need_defined(tag)
            if msg_type and msg_type not in self._bodies:
                raise Broken(INVALID_MSG_TYPE, "35", "FIX 4.2 has no such MsgType(35)")
            blocks = (self.header, self._bodies[msg_type], self.trailer) if msg_type else ()
            return Plan(self._value_checks(tags), _lengths(tags), _Walk(tags).through(blocks) if blocks else [])
        except Broken as problem:
            return problem.refusal

    def _need_defined(self, tag: str) -> None:
        if not tag.isdecimal() or tag.startswith("0") or len(tag) > _TAG_DIGITS_MAX:
            named = tag if tag.isdecimal() and len(tag) <= _TAG_DIGITS_MAX else ""
            raise Broken(INVALID_TAG_NUMBER, named, "a tag is a positive number")
        if not _is_user_defined(tag) and tag not in self._checks:
            raise Broken(UNDEFINED_TAG, tag, f"FIX 4.2 has no tag {tag}")

    def _value_checks(self, tags: tuple[str, ...]) -> list[tuple[int, Check]]:
        checks = ((place, self._checks.get(tag)) for place, tag in enumerate(tags) if place > 2)  # framed by 8, 9, 35
        return [(place, check) for place, check in checks if check]


class _Walk:
    """Goes through a message's tags as header, body and trailer have them."""

    def __init__(self, tags: tuple[str, ...]) -> None:
        self._tags = tags
        self._at = 0
        self._missing: list[str] = []
        self._counts: list[tuple[int, int]] = []

    def through(self, blocks: tuple[Block, ...]) -> list[tuple[int, int]]:
        """The places of the tags that count a group's entries, and how many there are. Broken."""
        for block in blocks:
            self._entry(block)
        if self._at < len(self._tags):
            self._refuse(self._tags[self._at], blocks)
        if self._missing:
            raise Broken(REQUIRED_TAG_MISSING, self._missing[0], f"tag {self._missing[0]} is required")
        return self._counts

    def _entry(self, block: Block) -> None:
        """Up to the first tag that is not the block's or stands there already."""
        seen = set()
        while self._at < len(self._tags):
            tag = self._tags[self._at]
            if tag in seen or not (tag in block.tags or _is_user_defined(tag)):
                break
            self._at += 1
            group = block.tags.get(tag)
            if not _is_user_defined(tag):
                seen.add(tag)
            if group:
                self._group(group)
        self._missing += sorted(block.required - seen, key=int)

    def _group(self, group: Block) -> None:
        count_at, entries = self._at - 1, 0
        while self._at < len(self._tags) and self._tags[self._at] == group.first:
            self._entry(group)
            entries += 1
        self._counts.append((count_at, entries))

    def _refuse(self, tag: str, blocks: tuple[Block, ...]) -> None:
        if any(_is_in(block, tag) for block in blocks):
            raise Broken(None, tag, f"tag {tag} stands twice or out of place")
        raise Broken(NOT_DEFINED_FOR_TYPE, tag, f"tag {tag} is not defined for this MsgType(35)")


def _is_user_defined(tag: str) -> bool:
    return len(tag) > 3 and int(tag) >= FIRST_USER_DEFINED_TAG


def _is_in(block: Block, tag: str) -> bool:
    return tag in block.tags or any(_is_in(group, tag) for group in block.tags.values() if group)


def _lengths(tags: tuple[str, ...]) -> list[int]:
    """The places of the lengths. Broken if a data field does not follow its own."""
    places = []
    for length, data in DATA_FIELDS.items():
        if data in tags:
            place = tags.index(data) - 1
            if tags[place] != length:
                raise Broken(REQUIRED_TAG_MISSING, length, f"tag {length} must stand before tag {data}")
            places.append(place)
    return places


def _miscounted(plan: Plan, tags: tuple[str, ...], values: tuple[str, ...]) -> Refusal | None:
    for place in plan.lengths:
        if int(values[place]) != len(values[place + 1]):
            return Refusal(
                FORMAT_INCORRECT, tags[place], f"tag {tags[place]} is not the length of tag {tags[place + 1]}"
            )
    for place, entries in plan.counts:
        if int(values[place]) != entries:
            return Refusal(None, tags[place], f"tag {tags[place]} says {values[place]}, there are {entries}")
    return None


def _block(element: ET.Element, tags: Mapping[str, str]) -> Block:
    own = {tags[each.attrib["name"]]: _block(each, tags) if each.tag == "group" else None for each in element}
    required = frozenset(tags[each.attrib["name"]] for each in element if each.attrib["required"] == "Y")
    return Block(next(iter(own), ""), own, required)


def _check(field: ET.Element) -> Check | None:
    values = frozenset(value.attrib["enum"] for value in field)
    if not values or field.attrib["number"] in _OPEN_LISTS:
        return _FORMATS.get(field.attrib["type"])
    if field.attrib["type"] == "MULTIPLEVALUESTRING":
        return lambda value: values.issuperset(value.split(" "))
    return values.__contains__


def _is_integer(value: str) -> bool:
    return (value.isdecimal() and len(value) <= _DIGITS_MAX) or _INTEGER.fullmatch(value) is not None


def _is_decimal(value: str) -> bool:
    return (value.isdecimal() and len(value) <= _DIGITS_MAX) or _DECIMAL.fullmatch(value) is not None


def _is_character(value: str) -> bool:
    return len(value) == 1


def _is_timestamp(value: str) -> bool:
    return utc_ns(value) is not None


def _is_date(value: str) -> bool:
    return len(value) == 8 and _is_timestamp(f"{value}-00:00:00")


def _is_time(value: str) -> bool:
    return _is_timestamp(f"20000101-{value}")


def _is_month(value: str) -> bool:
    return _is_date(f"{value}01")


def _is_day_of_month(value: str) -> bool:
    return value.isdecimal() and len(value) <= 2 and 1 <= int(value) <= 31


_FORMATS: Final[Mapping[str, Check]] = {
    "INT": _is_integer,
    "LENGTH": _is_integer,
    "DAYOFMONTH": _is_day_of_month,
    **dict.fromkeys(("QTY", "PRICE", "PRICEOFFSET", "AMT", "FLOAT"), _is_decimal),
    "CHAR": _is_character,
    "BOOLEAN": frozenset("YN").__contains__,
    "UTCTIMESTAMP": _is_timestamp,
    "UTCTIMEONLY": _is_time,
    **dict.fromkeys(("UTCDATE", "LOCALMKTDATE"), _is_date),
    "MONTHYEAR": _is_month,
}
