"""No program blows up: twice the graph is at most about twice the work and twice the text, whatever it is made of."""

from __future__ import annotations

import cProfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from autojit.backends.numpy.run import NumpyProgram
from autojit.ir.graph import Graph, Node, forget
from autojit.schedule.loops import Loop, Run
from autojit.schedule.plan import schedule
from autojit.schedule.verify import verify_schedule

from .graphs import agree
from .test_schedule import P, c, draw, graph_of, inputs, mean, run_plain

SMALL = ["sin", "tanh", "exp", "neg", "abs", "sigmoid"]


def irregular(k: int, n: int) -> int:
    """A choice that does not repeat: what is periodic is another matter."""
    return int(np.random.default_rng(k * 7919 + n).integers(n))


def products(n: int) -> Graph:
    """Tiny matrices multiplied, turned and squashed."""
    a, x = inputs((4, 4), (4, 4))
    y = x
    for k in range(n):
        y = P.matmul(y, a) if irregular(k, 2) else P.matmul(a, P.permute(y, (1, 0)))
        y = getattr(P, ("tanh", "sin", "sigmoid")[irregular(k, 3)])(y)
    return graph_of(P.sum(y, (0, 1)), [a, x], [a, x])


def wide_products(n: int) -> Graph:
    """The same with matrices that are not written out."""
    a, x = inputs((14, 14), (14, 14))
    y = x
    for k in range(n):
        b = P.expand(P.reshape(y, (14, 14, 1)), (14, 14, 14))
        d = P.expand(P.reshape(a, (1, 14, 14)), (14, 14, 14))
        y = getattr(P, ("tanh", "sin", "sigmoid")[irregular(k, 3)])(P.sum(P.mul(b, d), (1,)))
    return graph_of(P.sum(y, (0, 1)), [x], [a, x])


def centred(n: int) -> Graph:
    """Reductions that feed broadcasts: x less its mean, again and again."""
    (x,) = inputs((30, 20))
    y = x
    for k in range(n):
        axis = irregular(k, 2)
        y = P.tanh(P.sub(y, mean(y, axis)))
    return graph_of(P.sum(y, (0, 1)), [x], [x])


def shifted(n: int) -> Graph:
    """Slices put together in another order."""
    (x,) = inputs((40,))
    y = x
    for k in range(n):
        at = 1 + irregular(k, 30)
        y = P.concat([P.slice(y, (at,), (40,), (1,)), P.slice(y, (0,), (at,), (1,))], 0)
        y = P.add(y, P.mul(x, c(0.5, x)))
    return graph_of(P.sum(P.mul(y, y), (0,)), [x], [x])


def branches(n: int) -> Graph:
    """x → f(x) + g(x)."""
    (x,) = inputs((30,))
    y = x
    for k in range(n):
        f, g = (getattr(P, SMALL[irregular(k + at, 6)]) for at in (0, 1000))
        y = P.mul(P.add(f(y), g(P.mul(y, c(0.3, y)))), c(0.7, y))
    return graph_of(P.sum(y, (0,)), [x], [x])


def both_ways(n: int) -> Graph:
    """x → x + its own transpose, reduced and spread."""
    (x,) = inputs((12, 12))
    y = x
    for k in range(n):
        s = P.expand(P.reshape(P.sum(y, (irregular(k, 2),)), (12, 1)), (12, 12))
        y = P.tanh(P.add(P.add(y, P.permute(y, (1, 0))), s))
    return graph_of(P.sum(y, (0, 1)), [x], [x])


def statements(body: Any) -> int:
    return sum([1 + statements(s.body) if isinstance(s, (Loop, Run)) else 1 for s in body])


def text(plan: Any) -> int:
    return sum([statements(s.kernel.body) if hasattr(s, "kernel") else 1 for s in plan.steps])


KINDS: list[Callable[[int], Graph]] = [products, wide_products, centred, shifted, branches, both_ways]


@pytest.mark.parametrize("make", KINDS, ids=lambda f: f.__name__)
def test_twice_the_graph_is_twice_the_work(make):
    counts = []
    for n in (10, 20, 40):
        forget()
        graph = make(n)
        profile = cProfile.Profile()
        plan = profile.runcall(schedule, graph)
        counts.append((text(plan), sum([e.callcount for e in profile.getstats()])))
    for (a, b), (d, e) in zip(counts, counts[1:]):
        assert d < 3 * a + 2000 and e < 3 * b + 200_000, counts
    assert counts[2][0] < 600 * 40, counts


@pytest.mark.parametrize("make", KINDS, ids=lambda f: f.__name__)
def test_what_is_cut_is_still_right(make):
    forget()
    graph = make(14)
    verify_schedule(schedule(graph))
    arrays = [0.3 * a for a in draw(graph)]
    assert agree(run_plain(graph, arrays), NumpyProgram(graph)(arrays), rtol=2e-4, atol=1e-4) is None
    assert isinstance(graph.outputs[0], Node)
