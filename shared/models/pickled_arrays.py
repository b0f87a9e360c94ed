"""Read NumPy arrays in dicts, lists and tuples out of a pickle, without unpickling.

A pickle is a program for a stack machine, whose opcodes can call anything that can be imported. This reader has a
machine of its own (opcodes and their arguments come from the standard library's ``pickletools``, which runs nothing).
It knows the opcodes of plain values and containers, and the few callables with which NumPy writes arrays; these it does
not call either, but builds views into the file's bytes. Everything else is refused, so nothing of a file is ever run,
and what it holds is no larger than the file.
"""

from __future__ import annotations

import math
import mmap
import pickletools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featlink.shared.errors import ModelError

_MOST_OPCODES = 1_000_000
"""A ResNet-152 detector has some 20,000."""
_MOST_AXES = 8
_KINDS = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"}
"""Types of an array's values: nothing that holds objects, text or fields."""

_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): "array",
    ("numpy._core.multiarray", "_reconstruct"): "array",  # NumPy 2
    ("numpy", "ndarray"): "class",
    ("numpy", "dtype"): "dtype",
    ("numpy.core.numeric", "_frombuffer"): "buffer",  # protocol 5
    ("numpy._core.numeric", "_frombuffer"): "buffer",
    ("_codecs", "encode"): "bytes",  # protocol 2
    ("__builtin__", "bytes"): "no bytes",  # protocol 2's b""
    ("collections", "OrderedDict"): "dict",
}

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_VALUES = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_KEEP = {"BINPUT", "LONG_BINPUT"}
_FETCH = {"BINGET", "LONG_BINGET"}


class _Refused(Exception):
    """Why a file is not read."""


@dataclass(frozen=True)
class _Callable:
    """One of :data:`_ALLOWED`, which is never called."""

    what: str


@dataclass
class _Type:
    """A dtype while it is built."""

    code: str
    order: str = "="

    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.code).newbyteorder(self.order)  # type: ignore[arg-type]


@dataclass
class _Array:
    """An array whose values come later, and the places of the memo where it is kept."""

    places: list[int] = field(default_factory=list)


class _Mark:
    """Where the items of a container begin on the stack."""


def read_arrays(path: Path) -> object:
    """What a pickle of arrays holds.

    Args:
        path: of a file of pickle's protocols 2 to 5.

    Returns:
        None, bool, int, float, str, bytes and NumPy arrays, in dicts, lists and tuples. Arrays are read-only; the same
        one may be there several times. Text and bytes that Python 2 wrote are str, decoded as Latin-1.

    Raises:
        ModelError: it is damaged, or holds anything else; in one line. Nothing of it was run.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        try:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            raise ModelError(f"cannot read weights {path}: it is empty") from None
    with content:
        try:
            found = _Machine().run(pickletools.genops(content))  # type: ignore[arg-type]
        except _Refused as error:
            raise ModelError(f"cannot read weights {path}: {error}; nothing of it was run") from None
        except Exception:  # pickletools and the machine fail on damaged files in many ways
            raise ModelError(f"cannot read weights {path}: damaged, or no pickle of protocol 2 to 5") from None
    return found


class _Machine:
    """The stack machine."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self, opcodes: Iterator[tuple[pickletools.OpcodeInfo, Any, int | None]]) -> object:
        """Run a program; returns what it leaves."""
        for count, (opcode, argument, _) in enumerate(opcodes):
            if count > _MOST_OPCODES:
                raise _Refused(f"it has more than {_MOST_OPCODES:,} opcodes")
            if opcode.name == "STOP":
                [result] = self._stack
                return result
            self._step(opcode.name, argument)
        raise ValueError("no end")

    def _step(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _VALUES:
            stack.append(bytes(argument) if isinstance(argument, bytearray) else argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            self._replace(_TUPLES[name], tuple)
        elif name == "MARK":
            stack.append(_Mark())
        elif name == "TUPLE":
            items = self._marked()
            stack.append(tuple(items))
        elif name in ("APPEND", "APPENDS"):
            items = [stack.pop()] if name == "APPEND" else self._marked()
            self._top(list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = [stack.pop(-2), stack.pop()] if name == "SETITEM" else self._marked()
            pairs = list(zip(items[::2], items[1::2], strict=True))
            if not all(key is None or isinstance(key, str | bytes | int | float) for key, _ in pairs):
                raise _Refused("a dict has keys other than text and numbers")
            self._top(dict).update(pairs)
        elif name == "MEMOIZE" or name in _KEEP:
            place = len(self._memo) if argument is None else argument
            self._memo[place] = stack[-1]
            if isinstance(stack[-1], _Array):
                stack[-1].places.append(place)
        elif name in _FETCH:
            stack.append(self._memo[argument])
        elif name == "POP":
            stack.pop()
        elif name == "GLOBAL":
            stack.append(_allowed(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            self._replace(2, lambda names: _allowed(*names))
        elif name == "REDUCE":
            self._replace(2, lambda pair: self._made(*pair))
        elif name == "BUILD":
            self._build(stack.pop())
        elif name not in ("PROTO", "FRAME"):
            raise _Refused(f"it has the opcode {name}, which no file of arrays needs")

    def _replace(self, count: int, make: Any) -> None:
        items = self._stack[-count:]
        if len(items) < count:
            raise ValueError("stack")
        self._stack[-count:] = [make(items)]

    def _marked(self) -> list[Any]:
        """What lies above the last mark, which goes, too."""
        place = next(i for i in reversed(range(len(self._stack))) if isinstance(self._stack[i], _Mark))
        items = self._stack[place + 1 :]
        del self._stack[place:]
        return items

    def _top(self, kind: type) -> Any:
        if type(self._stack[-1]) is not kind:
            raise ValueError("no container")
        return self._stack[-1]

    # What NumPy's callables would make.

    def _made(self, function: object, arguments: object) -> object:
        what = function.what if isinstance(function, _Callable) else ""
        match what, arguments:
            case "array", (_Callable("class"), (0,), _):
                return _Array()
            case "dtype", (str(code), False, True):
                if code not in _KINDS:
                    raise _Refused(f"it has an array of type {code[:16]!r}, not of numbers")
                return _Type(code)
            case "buffer", (bytes(raw), _Type() as kind, tuple(shape), str(order)):
                return _view(raw, kind, shape, fortran=order == "F")
            case "bytes", (str(text), "latin1"):
                return text.encode("latin1")
            case "no bytes", ():
                return b""
            case "dict", ():
                return {}
        raise _Refused("it calls a function otherwise than NumPy does")

    def _build(self, state: object) -> None:
        target = self._stack[-1]
        match target, state:
            case _Array(), (_, tuple(shape), _Type() as kind, bool(fortran), bytes() | str() as raw):
                raw = raw.encode("latin1") if isinstance(raw, str) else raw  # as Python 2 wrote it
                array = _view(raw, kind, shape, fortran)
                self._stack[-1] = array
                for place in target.places:
                    self._memo[place] = array
            case _Type(), (_, "<" | ">" | "|" | "=" as order, None, None, None, -1, -1, 0):
                target.order = order
            case _:
                raise _Refused("it sets the state of something other than an array of numbers")


def _view(raw: bytes, kind: _Type, shape: tuple[Any, ...], fortran: bool) -> npt.NDArray[Any]:
    """The array in some bytes, not copied."""
    dtype = kind.dtype()
    if len(shape) > _MOST_AXES or not all(type(side) is int and 0 <= side < 1 << 31 for side in shape):
        raise _Refused("it has an array of an impossible shape")
    if math.prod(shape) * dtype.itemsize != len(raw):
        raise _Refused(f"it has an array of {math.prod(shape):,} values in {len(raw):,} bytes")
    return np.ndarray(shape, dtype, raw, order="F" if fortran else "C") if raw else np.zeros(shape, dtype)


def _allowed(module: object, name: object) -> _Callable:
    what = _ALLOWED.get((module, name)) if isinstance(module, str) and isinstance(name, str) else None
    if what is None:
        shown = f"{module}.{name}"[:80].encode("unicode_escape").decode()
        raise _Refused(f"it holds more than arrays ({shown}), which is code that would have to be run")
    return _Callable(what)
