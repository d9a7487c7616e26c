"""Programs chosen to hurt give what torch gives: values, gradients, versions, names, errors.

Expectations are stored (`python -m tests.test_eager_programs` writes them, with torch) and torch confirms them where installed.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import autojit

from .eagerly import functions, memory, passes, paths, turnings, twins, writes  # noqa: F401
from .eagerly.frame import PROGRAMS, outcome, same

STORED = Path(__file__).with_name("eager_expected.json")
# On purpose: torch frees what it has walked over before it finds the fault; here a refused backward() changes nothing.
EXPECTED = json.loads(STORED.read_text()) if STORED.exists() else {}


@pytest.mark.parametrize("name", PROGRAMS)
def test_as_torch(name):
    got = json.loads(json.dumps(outcome(PROGRAMS[name], autojit)))
    assert same(got, EXPECTED[name]), f"\n   here {got}\n  torch {EXPECTED[name]}"


@pytest.mark.parametrize("name", PROGRAMS)
def test_stored_is_torchs(name):
    torch = pytest.importorskip("torch")
    assert same(json.loads(json.dumps(outcome(PROGRAMS[name], torch))), EXPECTED[name])


def test_there_are_many():
    assert len(PROGRAMS) > 140 and set(EXPECTED) == set(PROGRAMS)


def write() -> None:
    import torch
    lines = [f" {json.dumps(name)}: {json.dumps(outcome(f, torch))}" for name, f in sorted(PROGRAMS.items())]
    STORED.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    write()
