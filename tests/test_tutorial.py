"""The tutorial's programs, `import autojit as torch`, print what torch prints: character by character.

Expected text is stored beside each program (`python -m tests.test_tutorial` writes it, with torch), and torch confirms it
where it is installed.  Object addresses are masked.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PROGRAMS = sorted((HERE / "tutorial").glob("*.py"))


def text_of(source: str, name: str) -> str:
    """What a program prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(source, name, "exec"), {"__name__": "__main__"})
    return masked(out.getvalue())


def masked(text: str) -> str:
    return re.sub(r"0x[0-9a-f]+", "0x", text)


def ours(path: Path) -> str:
    return re.sub(r"^import torch$", "import autojit as torch", path.read_text(), flags=re.M)


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda p: p.stem)
def test_prints_the_same(path):
    assert text_of(ours(path), str(path)) == path.with_suffix(".txt").read_text()


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda p: p.stem)
def test_stored_text_is_torchs(path):
    pytest.importorskip("torch")
    assert text_of(path.read_text(), str(path)) == path.with_suffix(".txt").read_text()


def test_as_a_process_of_its_own():
    path = HERE / "tutorial" / "02_first_gradients.py"
    env = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    done = subprocess.run([sys.executable, "-c", ours(path)], capture_output=True, text=True, env=env, timeout=120)
    assert done.returncode == 0, done.stderr
    assert masked(done.stdout) == path.with_suffix(".txt").read_text()


def write() -> None:
    for path in PROGRAMS:
        path.with_suffix(".txt").write_text(text_of(path.read_text(), str(path)))


if __name__ == "__main__":
    write()
