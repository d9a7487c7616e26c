"""The table against torch: it says what agrees, what does not, what leaves compiled code; and where it can run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from autojit import testing  # noqa: E402

from . import against  # noqa: E402

ROOT = Path(testing.__file__).resolve().parent.parent


def lines(family):
    said = []
    return against.table(family, said.append), "\n".join(said)


def test_a_family_that_agrees():
    wrong, text = lines("calculus")
    assert wrong == 0 and "Disagreements: none" in text
    assert "trapezoid:" not in text                       # its running sums have kernels
    row, = [line for line in text.splitlines() if line.startswith("calculus")]
    assert row.split()[1] == "4" and row.split()[-1] == "0"


def test_what_differs_is_told(monkeypatch):
    real = against.torch_results

    def other(s, dtype, cts=None):
        values, grads, name = real(s, dtype, cts)
        return [v + (s.op.name == "vander") for v in values], [g + np.ones_like(g) for g in grads], name
    monkeypatch.setattr(against, "torch_results", other)
    wrong, text = lines("calculus")
    assert "vander, sample 0: values" in text and "trapezoid, sample 0: gradients" in text and wrong > 5


def test_what_raises_is_told(monkeypatch):
    def refuse(*args):
        raise RuntimeError("so it is")
    monkeypatch.setattr(against, "host_steps", refuse)
    assert "vander, sample 0: no program: RuntimeError: so it is" in lines("calculus")[1]


COMMAND = [sys.executable, "-m", "autojit.testing", "--against", "torch", "--family", "parts"]
NOWHERE = "import sys; sys.modules['tests'] = None; from autojit.comparing import main; sys.exit(main(['--against', 'torch']))"


@pytest.mark.parametrize(("command", "status", "said"), [(COMMAND, 0, "Disagreements: none"),
                                                         ([sys.executable, "-c", NOWHERE], 2, "top of a checkout")])
def test_the_command(command, status, said):
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == status and said in done.stdout, done.stderr[-500:]
