"""Pickles of arrays are read as NumPy wrote them; what could do anything else is refused, and nothing of it runs."""

from __future__ import annotations

import collections
import io
import os
import pickle
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featlink.shared.errors import ModelError
from featlink.shared.models.checkpoints import read_checkpoint
from featlink.shared.models.pickled_arrays import read_arrays

ARRAYS = {
    "float32": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "fortran": np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
    "big": np.arange(5, dtype=">f4"),
    "half": np.ones((2, 2), np.float16),
    "counter": np.array(7, np.int64),
    "empty": np.zeros((0, 3), np.float32),
    "flags": np.array([True, False]),
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_what_numpy_wrote_is_read(protocol: int, tmp_path: Path) -> None:
    rest = {"__author__": "zoo", "n": -5, "x": 1.5, "none": None, "big": 1 << 40, "list": [1, (2, 3), b"raw", ""]}
    content = {"model": ARRAYS, "ordered": collections.OrderedDict(a=1), "again": ARRAYS["half"], **rest}
    path = tmp_path / "zoo.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    found: Any = read_arrays(path)
    assert {name: found[name] for name in rest} == rest
    assert found["ordered"] == {"a": 1}
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found["model"][name], array)
        assert found["model"][name].dtype == array.dtype
    np.testing.assert_array_equal(found["again"], ARRAYS["half"])
    state = read_checkpoint(path).state
    assert {name: tuple(value.shape) for name, value in state.items()} == {n: a.shape for n, a in ARRAYS.items()}
    np.testing.assert_array_equal(state["big"].numpy(), np.arange(5, dtype=np.float32))


class Runs:
    """Unpickling it would run what it is made with."""

    def __init__(self, *how: Any) -> None:
        self.how = how

    def __reduce__(self) -> Any:
        return self.how


OWNED = Path(tempfile.gettempdir()) / f"featlink-test-owned-{os.getpid()}"


def persistent(content: object) -> bytes:
    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: object) -> object:
            return "os.system" if obj == "me" else None

    file = io.BytesIO()
    Pickler(file).dump(content)
    return file.getvalue()


def array_state(shape: bytes, raw: bytes) -> bytes:
    """An array's opcodes with any shape."""
    dtype = b"cnumpy\ndtype\n(X\x02\x00\x00\x00f4\x89\x88tR"
    dtype += b"(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    return (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btR(K\x01"
        + shape
        + dtype
        + b"\x89"
        + raw
        + b"tb"
    )


def top(opcodes: bytes) -> bytes:
    return b"\x80\x04" + opcodes + b"."


touch = f"touch {OWNED}"
HOSTILE: dict[str, bytes] = {
    "reduce": pickle.dumps({"model": {"a": ARRAYS["half"], "b": Runs(os.system, (touch,))}}),
    "at the top": pickle.dumps(Runs(os.system, (touch,))),
    "eval": pickle.dumps(Runs(eval, (f"open({str(OWNED)!r}, 'w')",))),
    "build": pickle.dumps({"a": Runs(collections.OrderedDict, (), {"__class__": 1})}),
    "state of a class": top(b"cnumpy\nndarray\n}X\x01\x00\x00\x00aK\x01sb"),
    "persistent id": persistent({"a": "me"}),
    "instance": b"(S'" + touch.encode() + b"'\nios\nsystem\n.",
    "object": top(b"(cos\nsystem\nX\x05\x00\x00\x00touchO"),
    "new object": top(b"cbuiltins\nobject\n)\x81"),
    "new object with keywords": top(b"cbuiltins\nobject\n)}\x92"),
    "extension": top(b"\x82\x01"),
    "dotted": top(b"\x8c\x05numpy\x8c\x18testing.os.system.popenx\x93"),
    "numpy's own danger": top(b"cnumpy.f2py\nmain\n)R"),
    "a global made by hand": top(b"\x8c\x02os\x8c\x06system\x93\x8c\x05touch\x85R"),
    "array called as a function": top(b"cnumpy\nndarray\n(K\x01tR"),
    "objects": pickle.dumps({"a": np.array([1, "x", None], object)}),
    "records": pickle.dumps({"a": np.zeros(2, [("x", "f4")])}),
    "text": pickle.dumps({"a": np.array(["abc"])}),
    "huge shape": top(array_state(b"(K\x7fJ\xff\xff\xff\x7fJ\xff\xff\xff\x7ft", b"C\x04aaaa")),
    "negative shape": top(array_state(b"(J\xff\xff\xff\xffJ\xff\xff\xff\xfft", b"C\x04aaaa")),
    "many axes": top(array_state(b"(" + b"K\x01" * 40 + b"t", b"C\x04aaaa")),
    "huge bytes": top(b"\x8e" + struct.pack("<Q", 1 << 62) + b"a"),
    "huge text": top(b"\x8d" + struct.pack("<Q", 1 << 40) + b"a"),
    "huge number": top(b"\x8b" + struct.pack("<i", 1 << 30)),
    "a key that is a container": top(b"}](K\x01es"[:2] + b"K\x01s"),
    "a set": pickle.dumps({1, 2}, 4),
    "deep": top(b"(" * 50_000 + b"t" * 49_999),
    "no end": b"\x80\x04" + b"N" * 1000,
    "too long": b"\x80\x04" + b"N0" * 600_000 + b"N.",
    "unknown memo": top(b"h\x07"),
    "empty stack": top(b"R"),
    "cut": pickle.dumps(ARRAYS)[:-200],
    "empty": b"",
    "text file": b"this is no pickle at all",
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_anything_else_is_refused_in_one_line_and_does_not_run(content: bytes, tmp_path: Path) -> None:
    OWNED.unlink(missing_ok=True)
    (path := tmp_path / "weights.pkl").write_bytes(content)
    start = time.process_time()
    with pytest.raises(ModelError) as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert not OWNED.exists()
    assert time.process_time() - start < 30


def test_names_of_what_would_run_are_told(tmp_path: Path) -> None:
    (path := tmp_path / "weights.pkl").write_bytes(HOSTILE["reduce"])
    with pytest.raises(ModelError, match=r"posix\.system"):
        read_arrays(path)


def test_one_array_under_many_names_does_not_grow(tmp_path: Path) -> None:
    array = np.ones(10_000, np.float32)
    (path := tmp_path / "w.pkl").write_bytes(pickle.dumps({f"layer{i}": array for i in range(1000)}))
    with pytest.raises(ModelError, match="many names"):
        read_checkpoint(path)


def test_what_holds_itself_ends(tmp_path: Path) -> None:
    loop: dict[str, Any] = {"x": 1}
    loop["model"] = loop
    (path := tmp_path / "w.pkl").write_bytes(pickle.dumps(loop))
    with pytest.raises(ModelError, match="does not hold a state dict"):
        read_checkpoint(path)


def each(folder: str, pattern: str) -> Callable[[Path], list[Path]]:
    return lambda root: sorted((root / "checkpoints" / folder).glob(pattern))


def test_layouts_of_the_field(detectron2: Path) -> None:
    """As detectron2's releases, its trainer and conversion tools write them."""
    files = each("layouts", "*.p*")(detectron2)
    assert len(files) > 15
    reference = read_checkpoint(detectron2 / "checkpoints/layouts/small_zoo_numpy1_protocol3.pkl").state
    for path in files:
        if "caffe2" in path.name:
            with pytest.raises(ModelError, match="Detectron 1"):
                read_checkpoint(path)
            continue
        state = read_checkpoint(path).state
        common = state.keys() & reference.keys()
        assert len(common) >= 3
        for name in common:
            np.testing.assert_array_equal(state[name].numpy(), reference[name].numpy(), err_msg=f"{path.name} {name}")


def test_recorded_hostile_files(detectron2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = each("hostile", "*")(detectron2)
    assert len(files) >= 9
    for path in files:
        with pytest.raises(ModelError):
            read_checkpoint(path)
    assert not list(tmp_path.iterdir())
