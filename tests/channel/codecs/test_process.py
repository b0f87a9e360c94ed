"""A program runs, or fails loudly and leaves nothing behind."""

from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile

import pytest

from featlink.channel.codecs import programs
from featlink.channel.codecs.base import CodecError
from featlink.channel.codecs.programs import run
from featlink.shared import cancelling
from featlink.shared.cancelling import AbandonedError

Program = Callable[[str], str]


def test_large_data_flow_both_ways() -> None:
    data = os.urandom(5_000_000)
    assert run(["cat"], data, timeout_s=20) == data
    assert run(["cat"], memoryview(data), timeout_s=20) == data


def test_a_program_may_write_to_another_file() -> None:
    with TemporaryFile() as file:
        assert (
            run(["sh", "-c", f"echo warning; cat > /dev/fd/{file.fileno()}"], b"bits", 20, [file.fileno()])
            == b"warning\n"
        )
        file.seek(0)
        assert file.read() == b"bits"


def test_a_program_may_ignore_its_input() -> None:
    assert run(["true"], bytes(1_000_000), timeout_s=20) == b""


def test_missing_program() -> None:
    with pytest.raises(CodecError, match="cannot start no-such-encoder: No such file"):
        run(["/nowhere/no-such-encoder"], b"", timeout_s=5)


def test_file_that_is_no_program(tmp_path: Path) -> None:
    path = tmp_path / "encoder"
    path.write_text("text")
    with pytest.raises(CodecError, match="cannot start encoder: Permission denied"):
        run([str(path)], b"", timeout_s=5)


def test_failure_carries_the_words_of_the_program(program: Program) -> None:
    with pytest.raises(CodecError, match=r"failed: cause \.\.\. giving up$"):
        run([program("echo cause >&2; echo more >&2; echo giving up >&2; echo >&2; exit 3")], b"", timeout_s=5)
    with pytest.raises(CodecError, match=r"failed: it said nothing$"):
        run(["false"], b"", timeout_s=5)


def test_killed_program(program: Program) -> None:
    with pytest.raises(CodecError, match=r"was killed by signal 9: out of luck$"):
        run([program("echo out of luck >&2; kill -9 $$")], b"", timeout_s=5)


def test_hanging_program_and_its_children_are_killed_and_reaped(program: Program, tmp_path: Path) -> None:
    pids, late = tmp_path / "pids", tmp_path / "late"
    # The child holds standard output open: killing only the parent would leave both it and the pipe.
    hanging = program(f"(sleep 60; touch {late}) & echo $$ $! > {pids}; wait")
    with pytest.raises(CodecError, match="took longer than 1 s and was stopped"):
        run([hanging], bytes(1_000_000), timeout_s=1)
    assert not late.exists(), "nobody waited for its end"
    parent, child = map(int, pids.read_text().split())
    with pytest.raises(ProcessLookupError):
        os.kill(parent, 0)
    assert _is_gone(child)


def _is_gone(pid: int) -> bool:
    """No such process, or a dead one that init (not this process) has yet to reap."""
    for _ in range(50):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def test_a_program_works_in_a_folder_of_its_own(program: Program) -> None:
    folder = run([program("pwd; echo left > behind")], b"", timeout_s=20).decode().strip()
    assert not Path(folder).exists()
    assert folder != str(Path.cwd())


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="Linux only")
def test_a_program_is_limited(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "_MOST_FILE", 1 << 20)
    with pytest.raises(CodecError):
        run([program("sleep 0.2; exec head -c 9000000 /dev/zero > big")], b"", timeout_s=20)
    limits = run([program("sleep 0.2; ulimit -f; ulimit -c; ulimit -t; ulimit -d")], b"", timeout_s=20).split()
    assert limits[1:] == [b"0", str(20 * (os.cpu_count() or 1) + 1).encode(), str(8 << 20).encode()]


def test_a_program_that_nobody_waits_for_is_killed(program: Program) -> None:
    token = cancelling.Token()
    started = time.monotonic()
    with cancelling.under(token):
        threading.Timer(0.3, token.cancel).start()
        with pytest.raises(AbandonedError):
            run([program("sleep 100")], b"", timeout_s=200)
    assert time.monotonic() - started < 60
