"""Special functions in compiled programs: native steps, equal to SciPy's references (zeta: to a few ulp)."""

import numpy as np
import pytest

import autojit as aj
from autojit.ops.special import SCALARS
from autojit.schedule.loops import HostStep

RNG = np.random.default_rng(2)
ODD = [0.0, -0.0, 1.0, np.inf, -np.inf, np.nan, 1e-30, 30.0, -30.0]
WHOLE = RNG.integers(-100, 100, (2, 60))
PAIRS = {"zeta": (np.concatenate([RNG.uniform(0.5, 60, 80), [1, 2, 3, 1.5, np.nan, np.inf, 2, 2, 2.5, 3, 2]]),
                  np.concatenate([RNG.uniform(-3, 30, 80), [1, 1, -2, -2.5, 1, 1, np.nan, 0, 1e9, 1e8, 1e-3]])),
         "igamma": (RNG.uniform(0, 9, 50), RNG.uniform(0, 9, 50)), "igammac": (RNG.uniform(0, 9, 50), RNG.uniform(0, 9, 50)),
         "nextafter": (np.array([*ODD, *ODD, 5e-324, 1.0]), np.array([*ODD[::-1], *ODD, 0.0, 2.0]))}


def calls(name):
    """(function, arrays) of a primitive, in its dtypes."""
    if name == "gcd":
        return aj.gcd, [[a.astype(d) for a in WHOLE] for d in ("int64", "int32", "int8")]
    f = getattr(aj.special, {"igamma": "gammainc", "igammac": "gammaincc"}.get(name, name), None) or \
        getattr(aj.special, f"bessel_{name}", None) or getattr(aj, name)
    given = PAIRS.get(name, (np.linspace(-0.1, 1.1, 30) if name == "ndtri" else np.concatenate([RNG.normal(0, 5, 60), ODD]),))
    return f, [[a.astype(d) for a in given] for d in ("float32", "float64")]


@pytest.mark.parametrize("name", SCALARS)
def test_native_and_equal(name, monkeypatch):
    f, cases = calls(name)
    for arrays in cases:
        tensors = [aj.from_numpy(a) for a in arrays]
        with np.errstate(all="ignore"):
            want = f(*tensors).numpy()
        g = aj.trace(lambda *t: f(*t))
        monkeypatch.setattr(aj.config, "tier", "compile")
        got = g(*tensors).numpy()
        monkeypatch.undo()
        assert "by hand" in g.explain() and HostStep.__name__ not in g.explain()
        np.testing.assert_allclose(got, want, rtol=1e-14 if name == "zeta" else 0, atol=0)
        number = ~np.isnan(want)
        assert np.array_equal(np.signbit(got[number]), np.signbit(want[number]))


def test_multiples_overflow_as_in_numpy():
    a, b = (x.astype("int8") for x in WHOLE)
    assert np.array_equal(aj.lcm(aj.from_numpy(a), aj.from_numpy(b)).numpy(), np.lcm(a, b))
