"""A program that takes its second and third time along a known path does what it did the first time, and what torch does.

All programs that compare the eager face with torch are run again with a path open from the start, three times, so that steps
are new, then known, then ended by a program that was learned; with `restless`, a path that was closed begins anew at once.
"""

from __future__ import annotations

import json
import warnings

import pytest

import autojit as aj
from autojit.eager import ahead, autograd, path
from autojit.eager.state import OPEN, state

from . import test_eager_fuzz as fuzz
from . import test_eager_programs as programs
from . import test_tutorial as tutorial
from .eagerly.frame import PROGRAMS, outcome, same


def fresh():
    """A path is open, whatever happened before."""
    if state.open is not None:
        OPEN.pop(id(state.open), None)
    state.open, state.fails, state.skip = None, 0, 0
    path.start()


@pytest.fixture(autouse=True)
def open_path():
    fresh()
    yield
    state.open, state.fails, state.skip = None, 0, 0


@pytest.fixture(params=[False, True], ids=["usual", "restless"])
def restless(request, monkeypatch):
    """Closed paths begin anew at once: tensors with and without a path meet in every way."""
    if request.param:
        close = path.Path.close

        def reopened(self):
            mine = state.open is self
            close(self)
            if mine and state.open is None:
                path.start()
        monkeypatch.setattr(path.Path, "close", reopened)


class Counter:
    """How often backward() was known."""

    def __init__(self, monkeypatch):
        self.known = 0
        ran = ahead.ran_ahead

        def counted(root):
            done = ran(root)
            self.known += done
            return done
        monkeypatch.setattr(autograd, "ran_ahead", counted)

    def since(self, f):
        before = self.known
        f()
        return self.known - before


@pytest.fixture
def known(monkeypatch):
    return Counter(monkeypatch)


# ---------------------------------------------------------------- everything again
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name, restless):
    for _ in range(3):
        fresh()
        got = json.loads(json.dumps(outcome(PROGRAMS[name], aj)))
        assert same(got, programs.EXPECTED[name]), f"\n   here {got}\n  torch {programs.EXPECTED[name]}"


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_random_programs(first, restless):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = []
        for seed in range(first, first + 50):
            for _ in range(3):
                fresh()
                found.append(fuzz.difference(seed))
    assert [d for d in found if d is not None][:3] == []


@pytest.mark.parametrize("file", tutorial.PROGRAMS, ids=lambda p: p.stem)
def test_tutorial(file):
    for _ in range(3):
        fresh()
        assert tutorial.text_of(tutorial.ours(file), str(file)) == file.with_suffix(".txt").read_text()
