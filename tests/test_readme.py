"""What the README shows runs, and programs that run again and again under the default tier give the same answers."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

import autojit as aj
from autojit.config import config

ROOT = Path(__file__).resolve().parent.parent
TUTORIAL = sorted((ROOT / "tests" / "tutorial").glob("*.py"))


@pytest.fixture
def auto():
    old, config.tier = config.tier, "auto"
    yield
    config.tier = old


def run(code: str) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "<program>", "exec"), {"__name__": "program"})
    aj.wait_compiled()
    return out.getvalue()


def test_the_python_of_the_readme(auto):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert blocks
    for block in blocks:
        text = run(block)
        assert "tensor([ 1.0806, -2.6146, -5.4668])" in text and "def kernel0(args, lo, hi, chunk):" in text


@pytest.mark.parametrize("path", TUTORIAL, ids=lambda p: p.stem)
def test_programs_give_the_same_on_numpy_and_compiled(auto, path):
    """The first run is answered by NumPy, the third by compiled code."""
    code = path.read_text().replace("import torch", "import autojit as torch")
    first, _, third = run(code), run(code), run(code)
    mask = re.compile(r"0x[0-9a-f]+")
    assert mask.sub("", first) == mask.sub("", third)
