"""Ops that take numbers apart, on numbers of every size: NumPy is the judge."""

import numpy as np
import pytest

import autojit as aj


@pytest.mark.parametrize("bits, floating", [(np.uint32, np.float32), (np.uint64, np.float64)])
def test_frexp_of_random_bits(bits, floating):
    rng = np.random.default_rng(5)
    x = rng.integers(0, np.iinfo(bits).max, 4000, bits, endpoint=True).view(floating)
    tiny = rng.integers(0, 1 << (21 if floating is np.float32 else 50), 1000, bits).view(floating)
    x = np.concatenate([x, tiny, -tiny, np.array([0, -0.0, np.inf, -np.inf, np.finfo(floating).max], floating)])
    mantissa, exponent = aj.frexp(aj.from_numpy(x))
    want, power = np.frexp(x)
    finite = np.isfinite(x)
    np.testing.assert_array_equal(mantissa.numpy(), want)
    assert np.array_equal(np.signbit(mantissa.numpy()), np.signbit(want)) and exponent.dtype is aj.int32
    np.testing.assert_array_equal(exponent.numpy()[finite], power[finite])
