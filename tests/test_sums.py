"""Long float32 sums keep their digits: within 1e-6 of the sum of absolute values, whatever is added and along which axis."""

from __future__ import annotations

import numpy as np
import pytest

import autojit as aj
from autojit.config import config

N = 1 << 20


@pytest.fixture(autouse=True)
def compiled(monkeypatch):
    before = config.tier
    config.tier = "compile"
    yield
    config.tier = before


def data(kind: str) -> np.ndarray:
    rng = np.random.default_rng(3)
    x = {"uniform": lambda: rng.random(N), "normal": lambda: rng.standard_normal(N), "constant": lambda: np.full(N, 0.1),
         "large first": lambda: np.full(N, 0.4), "tiny": lambda: np.full(N, 3e-8),
         "both signs": lambda: rng.random(N) ** 8 * 1e4}[kind]().astype(np.float32)
    if kind == "large first":
        x[0] = 1e6
    if kind == "tiny":
        x[::7] = 1
    if kind == "both signs":
        x[::2] *= -1
    return x


def off(value, terms: np.ndarray, axes=None) -> float:
    """The largest error by the sum of absolute values."""
    wide = terms.astype(np.float64)
    return float(np.max(np.abs(value.numpy().astype(np.float64) - wide.sum(axes)) / np.abs(wide).sum(axes)))


@pytest.mark.parametrize("kind", ["uniform", "normal", "constant", "large first", "tiny", "both signs"])
def test_sums_of_many(kind):
    x = data(kind)
    t = aj.from_numpy(x)
    total, squares, mean = aj.trace(lambda x: (x.sum(), (x * x).sum(), x.mean()))(t)
    wide = x.astype(np.float64)
    assert off(total, x) < 1e-6
    assert off(squares, wide * wide) < 1e-6
    assert off(mean * N, x) < 1e-6


@pytest.mark.parametrize("kind", ["uniform", "constant", "large first"])
@pytest.mark.parametrize("shape", [(N // 16, 16), (16, N // 16), (1024, 1024)])
def test_sums_along_an_axis(kind, shape):
    x = data(kind).reshape(shape)
    rows, columns = aj.trace(lambda x: (x.sum(1), x.sum(0)))(aj.from_numpy(x))
    assert off(rows, x, 1) < 1e-6
    assert off(columns, x, 0) < 2e-6


def test_gradients_that_are_sums():
    """Of a scale and a shift, over many rows."""
    x = data("uniform").reshape(N // 64, 64)
    g, b = np.full(64, 0.5, np.float32), np.zeros(64, np.float32)

    def f(g, b, x):
        return ((x * g + b) * x).sum()

    _, (dg, db) = aj.value_and_grad(aj.trace(f), argnums=(0, 1))(*map(aj.from_numpy, (g, b, x)))
    assert off(dg, x.astype(np.float64) ** 2, 0) < 1e-6
    assert off(db, x, 0) < 1e-6


@pytest.mark.parametrize("kind", ["uniform", "constant", "large first"])
def test_segments(kind):
    x = data(kind)[:N // 4]
    where = np.random.default_rng(5).integers(0, 10, len(x))
    out = aj.trace(lambda x, i: aj.zeros(10).index_add(0, i, x))(aj.from_numpy(x), aj.from_numpy(where))
    want = np.bincount(where, x.astype(np.float64), 10)
    size = np.bincount(where, np.abs(x).astype(np.float64), 10)
    assert float(np.max(np.abs(out.numpy() - want) / size)) < 1e-6


def test_variance_of_many():
    x = data("normal") + np.float32(100)
    got = float(aj.trace(lambda x: x.var())(aj.from_numpy(x)))
    assert abs(got - x.astype(np.float64).var(ddof=1)) < 1e-6 * got
