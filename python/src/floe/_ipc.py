"""Arrow IPC, as a coordinator sends it, to frames: a whole result as a file that is mapped, or batch by batch.

Nothing here names an engine of Polars by its default: with `engine_affinity` set to Floe's own, reading a result would
otherwise be a query again.
"""

from __future__ import annotations

import contextlib
import io
import os
import struct
import tempfile
from collections.abc import Iterator
from typing import Protocol

import polars as pl

FILE = "application/vnd.apache.arrow.file"
STREAM = "application/vnd.apache.arrow.stream"

_CONTINUATION = 0xFFFFFFFF
_END = struct.pack("<Ii", _CONTINUATION, 0)
_SCHEMA, _DICTIONARY, _RECORDS = 1, 2, 3
_COPY_BYTES = 1 << 20


class Source(Protocol):
    """What bytes come from: a response over HTTP."""

    def readinto(self, buffer: memoryview, /) -> int:
        """Fills a part of `buffer`; 0 at the end."""
        ...


def read_file(source: Source) -> pl.DataFrame:
    """All rows of an Arrow file."""
    with _scratch() as (fd, path):
        buffer = memoryview(bytearray(_COPY_BYTES))
        while count := source.readinto(buffer):
            part = buffer[:count]
            while part:
                part = part[os.write(fd, part) :]
        return pl.scan_ipc(path, glob=False).collect(engine="in-memory")


@contextlib.contextmanager
def _scratch() -> Iterator[tuple[int, str]]:
    """A file that is nowhere on a disk, where the system has such."""
    if hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd"):
        fd = os.memfd_create("floe-result", os.MFD_CLOEXEC)
        try:
            yield fd, f"/proc/self/fd/{fd}"
        finally:
            os.close(fd)
    else:
        with tempfile.NamedTemporaryFile(prefix="floe-result-", suffix=".arrow") as file:
            yield file.fileno(), file.name


def read_stream(source: Source) -> pl.DataFrame:
    """All rows of an Arrow stream."""
    frames = list(batches(source))
    return frames[0] if len(frames) == 1 else pl.concat(frames, rechunk=False)


def batches(source: Source) -> Iterator[pl.DataFrame]:
    """The rows of an Arrow stream, one record batch at a time; a frame without rows if there are none."""
    schema, dictionaries, any_rows = b"", bytearray(), False
    while (message := _message(source)) is not None:
        kind, raw = message
        if kind == _SCHEMA:
            schema = bytes(raw)
        elif kind == _DICTIONARY:
            dictionaries += raw
        elif kind == _RECORDS:
            any_rows = True
            yield _decode(schema, dictionaries, raw)
    if not schema:
        raise EOFError("the result ended before its schema")
    if not any_rows:
        yield _decode(schema, dictionaries, bytearray())


def _decode(schema: bytes, dictionaries: bytearray, records: bytearray) -> pl.DataFrame:
    return pl.read_ipc_stream(io.BytesIO(b"".join((schema, dictionaries, records, _END))))


def _message(source: Source) -> tuple[int, bytearray] | None:
    """The next message with its framing, and its kind."""
    head = bytearray(8)
    _fill(source, memoryview(head))
    mark, size = struct.unpack("<Ii", head)
    if mark != _CONTINUATION or size < 0:
        raise ValueError("the result is no Arrow stream")
    if size == 0:
        return None
    meta = bytearray(size)
    _fill(source, memoryview(meta))
    kind, body = _envelope(meta)
    raw = bytearray(8 + size + body)
    raw[:8], raw[8 : 8 + size] = head, meta
    _fill(source, memoryview(raw)[8 + size :])
    return kind, raw


def _fill(source: Source, buffer: memoryview) -> None:
    while buffer:
        count = source.readinto(buffer)
        if not count:
            raise EOFError("the result ended in the middle: its coordinator has failed or is gone")
        buffer = buffer[count:]


def _envelope(meta: bytearray) -> tuple[int, int]:
    """Kind of a message and bytes of its body, from the flatbuffer `Message` of Arrow's format."""
    (table,) = struct.unpack_from("<I", meta, 0)
    (back,) = struct.unpack_from("<i", meta, table)
    vtable = table - back
    (length,) = struct.unpack_from("<H", meta, vtable)

    def field(slot: int, form: str) -> int:
        at = 4 + 2 * slot
        (offset,) = struct.unpack_from("<H", meta, vtable + at) if at < length else (0,)
        return int(struct.unpack_from(form, meta, table + offset)[0]) if offset else 0

    return field(1, "<B"), field(3, "<q")
