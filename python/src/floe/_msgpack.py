"""Reads msgpack, as far as a serialized plan has it: enough to see which files a plan names, and to change the options of
its stores."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from typing import Any

#: Types of a fixed size: their format, or how many bytes give the length of what follows.
_NUMBERS = {0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q"} | {
    0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q",
}  # fmt: skip
_LENGTHS = {
    0xC4: ("bin", ">B"), 0xC5: ("bin", ">H"), 0xC6: ("bin", ">I"),
    0xC7: ("ext", ">B"), 0xC8: ("ext", ">H"), 0xC9: ("ext", ">I"),
    0xD9: ("str", ">B"), 0xDA: ("str", ">H"), 0xDB: ("str", ">I"),
    0xDC: ("seq", ">H"), 0xDD: ("seq", ">I"), 0xDE: ("map", ">H"), 0xDF: ("map", ">I"),
}  # fmt: skip


def read(data: bytes | memoryview, at: int = 0) -> Any:
    """The value that begins at `at`. Bytes are passed over, and are `None`.

    >>> read(bytes([0x82, 0xA1, 0x61, 0x01, 0xA1, 0x62, 0x92, 0xC3, 0xA1, 0x78]))
    {'a': 1, 'b': [True, 'x']}
    """
    value, _ = _value(memoryview(data), at)
    return value


def find(data: bytes, at: int, keys: Collection[str]) -> Iterator[tuple[str, int, int]]:
    """Where the values of these keys begin and end, in the order of the bytes; what is inside of one is not looked at. Goes
    through a document of any depth.

    >>> list(find(bytes([0x82, 0xA1, 0x61, 0x01, 0xA1, 0x62, 0x92, 0xC3, 0xA1, 0x78]), 0, ["b"]))
    [('b', 6, 10)]
    """
    view = memoryview(data)
    #: For each open list and map: how many values are left, and whether it is a map.
    opened: list[list[int]] = [[1, False]]
    while opened:
        top = opened[-1]
        if top[0] == 0:
            opened.pop()
            continue
        is_key = top[1] and top[0] % 2 == 0
        kind, value, at = _head(view, at)
        top[0] -= 1
        if kind in ("seq", "map"):
            opened.append([value * (2 if kind == "map" else 1), kind == "map"])
        elif is_key and kind == "str" and value in keys:
            begin, at = at, _end(view, at)
            top[0] -= 1
            yield value, begin, at


def write(value: Any) -> bytes:
    """The bytes of a value as `read` gives it.

    >>> read(write({"a": [1, -7, 70_000, None, True, 0.5], "b": "x" * 40}))["a"]
    [1, -7, 70000, None, True, 0.5]
    """
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        if 0 <= value < 0x80:
            return bytes([value])
        return b"\xcf" + struct.pack(">Q", value) if value >= 0 else b"\xd3" + struct.pack(">q", value)
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, str):
        text = value.encode()
        head = bytes([0xA0 | len(text)]) if len(text) < 32 else b"\xdb" + struct.pack(">I", len(text))
        return head + text
    if isinstance(value, list):
        return b"\xdd" + struct.pack(">I", len(value)) + b"".join(map(write, value))
    entries = b"".join(write(key) + write(content) for key, content in value.items())
    return b"\xdf" + struct.pack(">I", len(value)) + entries


def _head(data: memoryview, at: int) -> tuple[str, Any, int]:
    """What begins at `at`: the value itself, or how many values follow in a `seq` or a `map`; and where to read on."""
    head, at = data[at], at + 1
    if head < 0x80:
        return "scalar", head, at
    if head >= 0xE0:
        return "scalar", head - 0x100, at
    if head in (0xC0, 0xC2, 0xC3):
        return "scalar", {0xC0: None, 0xC2: False, 0xC3: True}[head], at
    if form := _NUMBERS.get(head):
        return "scalar", struct.unpack_from(form, data, at)[0], at + struct.calcsize(form)
    if 0xD4 <= head <= 0xD8:
        return "scalar", None, at + 1 + (1 << (head - 0xD4))
    if head < 0x90:
        kind, count = "map", head & 0x0F
    elif head < 0xA0:
        kind, count = "seq", head & 0x0F
    elif head < 0xC0:
        kind, count = "str", head & 0x1F
    elif head in _LENGTHS:
        kind, form = _LENGTHS[head]
        (count,) = struct.unpack_from(form, data, at)
        at += struct.calcsize(form)
    else:
        raise ValueError(f"no msgpack at byte {at - 1}")
    if kind == "str":
        return kind, str(data[at : at + count], "utf-8", "replace"), at + count
    if kind in ("bin", "ext"):
        return "scalar", None, at + count + (kind == "ext")
    return kind, count, at


def _end(data: memoryview, at: int) -> int:
    left = 1
    while left:
        kind, value, at = _head(data, at)
        left += {"seq": 1, "map": 2}[kind] * value - 1 if kind in ("seq", "map") else -1
    return at


def _value(data: memoryview, at: int) -> tuple[Any, int]:
    kind, count, at = _head(data, at)
    if kind == "seq":
        items = []
        for _ in range(count):
            item, at = _value(data, at)
            items.append(item)
        return items, at
    if kind != "map":
        return count, at
    entries = {}
    for _ in range(count):
        key, at = _value(data, at)
        value, at = _value(data, at)
        entries[key if isinstance(key, (str, int)) else str(key)] = value
    return entries, at
