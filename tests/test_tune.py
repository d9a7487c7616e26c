"""Schedules that are level are timed once, with a stand-in for the clock here."""

from __future__ import annotations

import numpy as np

import autojit as aj
from autojit.backends.cpu.emit import emit_kernel
from autojit.config import config
from autojit.dtypes import float32
from autojit.engine import tune
from autojit.ir.aval import aval
from autojit.ir.graph import Graph, placeholder
from autojit.ops.declare import P
from autojit.schedule.cost import Ballot, Target
from autojit.schedule.loops import KernelStep
from autojit.schedule.plan import schedule

from .checking import evaluate  # noqa: F401  (the operations are declared there)


class Prepared:
    """What the engine prepares, without its compiler."""

    def __init__(self, graph: Graph, target: Target) -> None:
        self.plan = schedule(graph, target)
        self.emitted = {k: emit_kernel(s.kernel) for k, s in enumerate(self.plan.steps) if isinstance(s, KernelStep)}
        self.text = "".join(e.text for e in self.emitted.values())


class Cache(dict):
    def put(self, kind: str, key: str, data: bytes) -> None:
        self[kind, key] = data

    def get(self, kind: str, key: str) -> bytes | None:
        return super().get((kind, key))


def square(n: int) -> Graph:
    """Two directions are as good as each other."""
    x, y = placeholder(aval((n, 3), float32)), placeholder(aval((n, 3), float32))
    d = P.sub(P.expand(P.reshape(x, (n, 1, 3)), (n, n, 3)), P.expand(P.reshape(y, (1, n, 3)), (n, n, 3)))
    return Graph([x, y], [P.sum(P.exp(P.neg(P.sum(P.mul(d, d), (2,)))), (0, 1))])


def test_the_fastest_is_taken_and_remembered():
    timed: list[str] = []
    cache = Cache()

    def clock(p: Prepared) -> float:
        timed.append(p.text)
        return 2.0 if len(timed) == 1 else 1.0

    found = tune.tuned(square(400), Prepared, clock, cache)
    assert len(timed) > 1 and len(cache) == 1
    (votes,) = cache.values()
    assert any(votes)
    again = tune.tuned(square(400), Prepared, lambda p: 1 / 0, cache)
    assert again.text == found.text


def test_what_is_not_clearly_faster_is_not_taken():
    cache = Cache()
    times = iter([1.0, 0.99, 0.98, 0.98, 0.99, 1.0, 1.0])
    found = tune.tuned(square(400), Prepared, lambda p: next(times), cache)
    assert found.text == Prepared(square(400), Target()).text
    assert not any(next(iter(cache.values())))


def test_votes_change_the_schedule_only():
    ballot = Ballot()
    schedule(square(400), Target(ballot=ballot))
    assert max(ballot.near) > 1 and all(n <= 3 for n in ballot.near)
    assert Ballot((7,)).vote(2) == 1 and Ballot((7,)).vote(1) == 0


def test_nothing_level_is_nothing_timed():
    x = placeholder(aval((100,), float32))
    tune.tuned(Graph([x], [P.exp(x)]), Prepared, lambda p: 1 / 0, Cache())


def test_with_the_real_clock(tmp_path):
    before = config.tier, config.tune, config.cache_dir
    config.tier, config.tune, config.cache_dir = "compile", 1, str(tmp_path)
    try:
        x, y = (np.random.default_rng(k).standard_normal((400, 3)).astype(np.float32) for k in range(2))
        f = aj.trace(lambda x, y: (-((x[:, None] - y[None]) ** 2).sum(2)).exp().sum())
        want = np.exp(-((x[:, None].astype(np.float64) - y[None]) ** 2).sum(2)).sum()
        np.testing.assert_allclose(float(f(aj.from_numpy(x), aj.from_numpy(y))), want, rtol=1e-5)
        assert any((tmp_path).rglob("*tune*"))
    finally:
        config.tier, config.tune, config.cache_dir = before
