"""Random numbers of the device are the host's: bits, integers and uniform numbers equal, normal ones within 4 ulp."""

from __future__ import annotations

import numpy as np
import pytest

from autojit.dtypes import bfloat16, float16, float32, float64, int64
from autojit.halves import values
from autojit.ops import philox

SEEDS = ((0, 0), (12345678901234567890, 3), (1 << 63, 1 << 40), (2147483647, (1 << 32) + 7))
COUNTS = (1, 2, 3, 5, 1030)


def drawn(backend, kind, seed, draw, count, dtype, *span):
    return backend.to_host(backend.random(kind, seed, draw, (count,), dtype, *span))


@pytest.mark.parametrize("seed, draw", SEEDS)
def test_uniform(standin, seed, draw):
    for n in COUNTS:
        assert (drawn(standin, "uniform", seed, draw, n, float32) == philox.uniform32(seed, draw, n)).all()
        assert (drawn(standin, "uniform", seed, draw, n, float64) == philox.uniform64(seed, draw, n)).all()


@pytest.mark.parametrize("low, high", [(0, 10), (-5, 7), (0, 1), (-(1 << 63), (1 << 63) - 1), (0, (1 << 63) - 1),
                                       (-1, (1 << 62) + 5), (-(1 << 62) - 3, (1 << 62) + 9)])
def test_integers(standin, low, high):
    for seed, draw in SEEDS:
        got = drawn(standin, "integers", seed, draw, 1030, int64, low, high)
        with np.errstate(over="ignore"):
            assert (got == philox.integers(seed, draw, 1030, low, high)).all()


@pytest.mark.parametrize("seed, draw", SEEDS)
def test_normal(standin, seed, draw):
    for n in COUNTS:
        for dtype in (float32, float64):
            got, want = drawn(standin, "normal", seed, draw, n, dtype), philox.normal(seed, draw, n, dtype.np)
            assert (np.abs(got - want) <= 4 * np.spacing(np.abs(want))).all()
            assert got.dtype == dtype.np


def test_16_bits(standin):
    u = philox.uniform32(5, 1, 1030)
    for dtype, steps, read in ((float16, 2.0 ** 11, lambda a: a.astype("f4")), (bfloat16, 2.0 ** 8, values)):
        got = read(drawn(standin, "uniform", 5, 1, 1030, dtype))
        assert (got == np.floor(u * np.float32(steps)) / np.float32(steps)).all() and got.max() < 1.0
    normal = drawn(standin, "normal", 5, 1, 1030, float16)
    assert (normal == philox.normal(5, 1, 1030, np.float32).astype("f2")).mean() > 0.999


def test_shapes(standin):
    assert standin.random("uniform", 0, 0, (0, 3), float32).shape == (0, 3)
    both = drawn(standin, "uniform", 0, 0, 6, float32), standin.to_host(standin.random("uniform", 0, 0, (2, 3), float32))
    assert (both[0].reshape(2, 3) == both[1]).all()
