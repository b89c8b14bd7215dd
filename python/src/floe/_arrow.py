"""Frames as they come, as one Arrow stream in C (`ArrowArrayStream`, by the PyCapsule interface), without any other library.

Each array is asked for on the thread that reads the stream, and made there from the next frame: nothing runs ahead, and readers
that hold the interpreter's lock meanwhile, as Polars' own do, do not wait for a thread that needs it.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Iterator
from typing import Any

import polars as pl

_NAME = b"arrow_array_stream"
_EIO = 5
#: Bytes of an `ArrowArray` and an `ArrowSchema`, and where each has its function `release`, in pointers of 8 bytes.
_ARRAY_BYTES, _ARRAY_RELEASE = 80, 64


class _Stream(ctypes.Structure):
    """`struct ArrowArrayStream`."""

    _fields_ = (
        ("get_schema", ctypes.c_void_p),
        ("get_next", ctypes.c_void_p),
        ("get_last_error", ctypes.c_void_p),
        ("release", ctypes.c_void_p),
        ("private_data", ctypes.c_void_p),
    )


_Fill = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_Tell = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
_Free = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

# With plain addresses for objects: a capsule that is being freed must not be counted again.
_pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_capsule = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
    ("PyCapsule_New", ctypes.pythonapi)
)


class _Part:
    """The stream of one frame."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self._owner = frame.__arrow_c_stream__()
        self._at = _pointer_of(id(self._owner), _NAME)
        self._stream = _Stream.from_address(self._at)

    def schema(self, out: int) -> int:
        return int(_Fill(self._stream.get_schema)(self._at, out))

    def next(self, out: int) -> int:
        return int(_Fill(self._stream.get_next)(self._at, out))

    def error(self) -> str:
        told = _Tell(self._stream.get_last_error)(self._at)
        return (ctypes.string_at(told) if told else b"").decode(errors="replace")


class _Source:
    """What a stream gives: the arrays of its frames, one after the other."""

    def __init__(self, first: pl.DataFrame, rest: Iterator[pl.DataFrame]) -> None:
        self._first, self._frames = first.clear(), itertools.chain([first], rest)
        self._part: _Part | None = None
        #: Why the last call failed; C may read it until the next call.
        self.error: Any = None

    def schema(self, out: int) -> int:
        return self._answer(_Part(self._first), out, "schema")

    def next(self, out: int) -> int:
        while True:
            if self._part is None:
                frame = next(self._frames, None)
                if frame is None:
                    # An array without a `release` is the end.
                    ctypes.memset(out, 0, _ARRAY_BYTES)
                    return 0
                self._part = _Part(frame)
            code = self._answer(self._part, out, "next")
            if code or ctypes.c_void_p.from_address(out + _ARRAY_RELEASE).value:
                return code
            self._part = None

    def _answer(self, part: _Part, out: int, what: str) -> int:
        code: int = getattr(part, what)(out)
        if code:
            self.failed(part.error())
        return code

    def failed(self, text: str) -> None:
        self.error = ctypes.create_string_buffer(text.encode())


#: Sources of the streams that have not been released, by number, and the structs of the existing capsules.
_sources: dict[int, _Source] = {}
_structs: dict[int, _Stream] = {}
_numbers = itertools.count(1)


def _filled(stream: int, out: int, what: str) -> int:
    source = _sources[_Stream.from_address(stream).private_data]
    try:
        return int(getattr(source, what)(out))
    except BaseException as error:  # noqa: BLE001 - told to who reads, as C has no exceptions
        source.failed(f"{type(error).__name__}: {error}")
        return _EIO


def _get_schema(stream: int, out: int) -> int:
    return _filled(stream, out, "schema")


def _get_next(stream: int, out: int) -> int:
    return _filled(stream, out, "next")


def _get_last_error(stream: int) -> int | None:
    error = _sources[_Stream.from_address(stream).private_data].error
    return None if error is None else ctypes.addressof(error)


def _release(stream: int) -> None:
    struct = _Stream.from_address(stream)
    _sources.pop(struct.private_data, None)
    struct.release = None


def _drop(capsule: int) -> None:
    # A consumer that took the stream has moved it elsewhere and cleared `release` here.
    at = _pointer_of(capsule, _NAME)
    if _Stream.from_address(at).release:
        _release(at)
    _structs.pop(at, None)


# Keep these as long as the process runs: streams call them even when no Python object refers to them any more.
_FUNCTIONS = (_Fill(_get_schema), _Fill(_get_next), _Tell(_get_last_error), _Free(_release))
_ADDRESSES = [ctypes.cast(function, ctypes.c_void_p).value for function in _FUNCTIONS]
_DROP = _Free(_drop)


def stream(first: pl.DataFrame, rest: Iterator[pl.DataFrame]) -> object:
    """A capsule with the stream of `first` and of the frames after it."""
    number = next(_numbers)
    _sources[number] = _Source(first, rest)
    struct = _Stream(*_ADDRESSES, number)
    at = ctypes.addressof(struct)
    _structs[at] = struct
    return _capsule(at, _NAME, ctypes.cast(_DROP, ctypes.c_void_p))
