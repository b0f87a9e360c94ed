"""The two templates of CONTRIBUTING.md: a step in one file, and its test in another, pass as they are printed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILE = re.compile(r"`(?P<path>(?:tests/)?channel/\S+\.py)`:\n\n```python\n(?P<code>.*?)```", re.DOTALL)
PROGRAM = """
import sys
import pytest
import featlink.channel.codecs, featlink.channel.distortions
featlink.channel.codecs.__path__.append(sys.argv[1] + "/channel/codecs")
featlink.channel.distortions.__path__.append(sys.argv[1] + "/channel/distortions")
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "--import-mode=importlib", sys.argv[1] + "/tests"]))
"""


@pytest.mark.slow
def test_the_templates_pass_as_they_are_printed(tmp_path: Path) -> None:
    files = {match["path"]: match["code"] for match in FILE.finditer((ROOT / "CONTRIBUTING.md").read_text())}
    assert list(files) == [
        "channel/distortions/dead_samples.py",
        "tests/channel/distortions/test_dead_samples.py",
        "channel/codecs/jpeg2000.py",
        "tests/channel/codecs/test_jpeg2000.py",
    ]
    for path, code in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(code)
    shutil.copy(ROOT / "tests" / "channel" / "codecs" / "conftest.py", tmp_path / "tests" / "channel" / "codecs")
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\b1[0-9] passed", done.stdout)
