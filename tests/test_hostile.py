"""Programs of a user who means no good: each prints what torch prints, or is refused as torch refuses it.

Without torch the stored outcomes stand in; `python -m tests.test_hostile` stores them anew.  OWN holds what is meant to
differ: refusals that torch lacks, and derivatives that are NaN in torch only by the form of its formulas.
"""

from __future__ import annotations

import json
import warnings
from math import inf, nan
from pathlib import Path

import numpy as np
import pytest

import autojit

try:
    import torch
except ImportError:
    torch = None

STORED = Path(__file__).with_name("hostile_expected.json")
HERE = Path(__file__).with_name("hostile.txt")
PROGRAMS = [p for p in HERE.read_text().splitlines() if p and not p.startswith("#")]
WORDS = [p.removesuffix("  # kind only") for p in PROGRAMS]

MASKED = "TypeError: a masked array cannot become a tensor: its mask would be lost"
OWN = [
    ("m.tensor(np.ma.array([1., 2.], mask=[0, 1]))", MASKED),
    ("m.from_numpy(np.ma.array([1.], mask=[1]))", MASKED),
    ("g(lambda x: m.hypot(x, x), [0.])", "[[0.0]]"),
    ("g(lambda x: m.logaddexp(x, x), [inf])", "[[1.0]]"),
    ("m.tensor([1.])*2**70", "tensor([1.1806e+21])"),
]


def nested(depth):
    """A list in a list in a list."""
    found = 1
    for _ in range(depth):
        found = [found]
    return found


def endless():
    """A list that holds itself."""
    found: list = []
    found.append(found)
    return found


def outcome(program, m):
    """What the program prints, or kind and first line of its refusal."""
    def g(f, *values):
        xs = [m.tensor(v, requires_grad=True) for v in values]
        f(*xs).sum().backward()
        return [x.grad.tolist() for x in xs]

    def quietly(f):
        with m.no_grad():
            return f()

    names = {"m": m, "f": m.nn.functional, "np": np, "nan": nan, "inf": inf, "nested": nested, "endless": endless, "g": g,
             "quietly": quietly}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return str(eval(program, names))
        except Exception as e:                            # compared by kind and words
            return f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}"


def wanted(program):
    return outcome(program, torch) if torch is not None else json.loads(STORED.read_text())[program]


@pytest.mark.parametrize("program", PROGRAMS)
def test_as_in_torch(program):
    code = program.removesuffix("  # kind only")
    mine, theirs = outcome(code, autojit), wanted(code)
    if code != program:
        mine, theirs = mine.split(":")[0], theirs.split(":")[0]
    assert mine == theirs


@pytest.mark.parametrize(("program", "text"), OWN)
def test_where_torch_is_less_kind(program, text):
    assert outcome(program, autojit) == text


def test_every_outcome_is_stored():
    assert set(json.loads(STORED.read_text())) == set(WORDS)


if __name__ == "__main__":
    STORED.write_text(json.dumps({p: outcome(p, torch) for p in WORDS}, indent=0) + "\n")
