"""Points, references and distances for judging mathematical functions.

In: the name of a function as NumPy, SciPy or torch would call it ("exp", "atan2", "sigmoid").  Out:
arguments that matter, exact values and the distance to them in units of the last place.  Knows
nothing of the code under test.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import scipy.special

BINARY = ("pow", "atan2", "hypot")
SPECIAL = ("erf", "erfc", "erfinv", "lgamma", "digamma")  # NumPy has no extended-precision version
ANGLES = ("sin", "cos", "tan")
EXTENDED = np.finfo(np.longdouble).nmant >= 63  # long double can judge float64

RANGES: dict[str, tuple[float, float]] = {
    "exp": (-104, 89), "exp2": (-150, 128), "expm1": (-5, 5), "sigmoid": (-104, 20),
    "softplus": (-20, 20), "tanh": (-10, 10), "sinh": (-90, 90), "cosh": (-90, 90),
    "log": (0.3, 3), "log2": (0.3, 3), "log10": (0.3, 3), "log1p": (-0.9, 3), "sin": (-3e5, 3e5),
    "cos": (-300, 300), "tan": (-30, 30), "asin": (-1, 1), "acos": (-1, 1), "atan": (-5, 5),
    "asinh": (-4, 4), "acosh": (1, 4), "atanh": (-1, 1), "cbrt": (-8, 8), "rsqrt": (0, 8),
    "erf": (-4, 4), "erfc": (-4, 10.1), "erfinv": (-1, 1), "lgamma": (0, 40), "digamma": (0, 20),
    "atan2": (-3, 3), "hypot": (-3, 3), "pow": (0, 9),
}
"""Where each function has most to tell; the other half of the points are random bit patterns."""
WIDE_RANGES = {**RANGES, "exp": (-746, 710), "exp2": (-1075, 1024), "sigmoid": (-746, 40),
               "sinh": (-711, 711), "cosh": (-711, 711), "erfc": (-6, 27.3), "erf": (-6, 6)}
"""The same for float64."""


def patterns(rng: np.random.Generator, count: int, dtype: Any) -> np.ndarray:
    """Random bit patterns: every exponent, NaN and Inf too."""
    unsigned = np.uint32 if dtype == np.float32 else np.uint64
    return rng.integers(0, np.iinfo(unsigned).max, count, dtype=unsigned, endpoint=True).view(dtype)


def points(name: str, dtype: Any, count: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    """`count` arguments (pairs for two-place functions), half of them random bit patterns."""
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype).type
    low, high = (RANGES if dtype is np.float32 else WIDE_RANGES)[name]
    half = count // 2
    inner = rng.uniform(low, high, count - half)
    inner[: half // 4] *= 10.0 ** rng.uniform(-12, 0, half // 4)
    if name in ("acosh", "log", "log2", "log10"):
        inner[: half // 4] = 1 + inner[: half // 4] % 1
    if name in ("asin", "acos", "atanh", "erfinv"):
        ends = inner[half // 4 : half // 2]
        ends[...] = np.sign(ends) * (1 - np.abs(ends) * 10.0 ** rng.uniform(-7, 0, ends.size))
    first = np.concatenate([patterns(rng, half, dtype), inner.astype(dtype)])
    if name not in BINARY:
        return (first,)
    spread = (-30, 30) if name == "pow" else (low, high)
    return first, np.concatenate([patterns(rng, half, dtype),
                                  rng.uniform(*spread, count - half).astype(dtype)])


# ----------------------------------------------------------------------------------- references
def _sigmoid(x: Any) -> Any:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


_NUMPY: dict[str, Callable[..., Any]] = {
    "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "asinh": np.arcsinh,
    "acosh": np.arccosh, "atanh": np.arctanh, "atan2": np.arctan2, "pow": np.power,
    "sigmoid": _sigmoid, "rsqrt": lambda x: 1 / np.sqrt(x), "erf": scipy.special.erf,
    "softplus": lambda x: np.where(x > 0, x, 0) + np.log1p(np.exp(-np.abs(x))),
    "erfc": scipy.special.erfc, "erfinv": scipy.special.erfinv, "lgamma": scipy.special.gammaln,
    "digamma": scipy.special.digamma,
}
_MPMATH: dict[str, Callable[..., Any]] = {
    "exp2": lambda x: mpmath.power(2, x), "log2": lambda x: mpmath.log(x, 2), "pow": mpmath.power,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)), "rsqrt": lambda x: 1 / mpmath.sqrt(x),
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)), "lgamma": lambda x: mpmath.loggamma(x).real,
    "cbrt": lambda x: mpmath.sign(x) * mpmath.cbrt(abs(x)),
}


def numpy_function(name: str) -> Callable[..., Any]:
    return _NUMPY.get(name) or getattr(np, name)


def by_numpy(name: str, *args: np.ndarray) -> np.ndarray:
    """NumPy's or SciPy's value in the precision of the arguments."""
    with np.errstate(all="ignore"):
        return np.asarray(numpy_function(name)(*args))


def by_mpmath(name: str, *args: np.ndarray) -> np.ndarray:
    """Exact values, as pairs of float64 (value, rest): shape (n, 2).  NaN where there is none."""
    function = _MPMATH.get(name) or getattr(mpmath, name)
    result = np.full((args[0].size, 2), np.nan)
    widest = max(float(np.max(np.abs(a[np.isfinite(a)]), initial=1)) for a in args)
    with mpmath.workprec(160 + (int(np.log2(widest)) if name in ANGLES else 0)):
        for i, row in enumerate(zip(*args, strict=True)):
            if not all(map(np.isfinite, row)):
                continue
            try:
                exact = function(*(mpmath.mpf(float(v)) for v in row))
            except (ValueError, ZeroDivisionError, OverflowError):
                continue
            if isinstance(exact, mpmath.mpf) and mpmath.isfinite(exact):
                result[i, 0] = float(exact)
                rest = exact - mpmath.mpf(result[i, 0]) if np.isfinite(result[i, 0]) else 0
                result[i, 1] = float(rest)
    return result


def distance(got: np.ndarray, exact: np.ndarray, rest: Any = 0.0) -> np.ndarray:
    """|got - (exact + rest)| in units of the last place of the exact value, denormals included.

    Infinite where one side is NaN, or is infinite after rounding, and the other is not.
    """
    info = np.finfo(got.dtype)
    with np.errstate(all="ignore"):
        rounded = exact.astype(got.dtype)
        size = np.maximum(np.abs(exact), exact.dtype.type(info.tiny))
        _, exponent = np.frexp(size)
        unit = np.ldexp(exact.dtype.type(1), exponent - 1 - info.nmant)
        ulps = np.abs((got.astype(exact.dtype) - exact - rest) / unit).astype(np.float64)
        wrong = np.isnan(got) != np.isnan(rounded)
        wrong |= (np.isinf(got) | np.isinf(rounded)) & (got != rounded) & ~np.isnan(rounded)
    same = np.isnan(got) & np.isnan(rounded) | (got == rounded) & np.isinf(got)
    return np.where(wrong, np.inf, np.where(same, 0.0, ulps))


def exact(name: str, *args: np.ndarray) -> tuple[np.ndarray, Any]:
    """(value, rest) by which results can be judged: float32 by float64, float64 by long double or mpmath.

    NaN where mpmath is asked and has no finite answer: ends and poles are for tests of their own.
    """
    if args[0].dtype == np.float32 or EXTENDED and name not in SPECIAL:
        wide = np.float64 if args[0].dtype == np.float32 else np.longdouble
        with np.errstate(invalid="ignore"):  # signalling NaNs among the bit patterns
            wider = [a.astype(wide) for a in args]
        return by_numpy(name, *wider), 0.0
    pairs = by_mpmath(name, *args)
    return pairs[:, 0], pairs[:, 1]


def judge(name: str, got: np.ndarray, *args: np.ndarray) -> np.ndarray:
    """Distance of `got` from the exact value; 0 where only mpmath could say and does not."""
    value, rest = exact(name, *args)
    errors = distance(got, value, rest)
    return np.where(np.isnan(value), 0.0, errors) if np.ndim(rest) else errors
