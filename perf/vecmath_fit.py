"""Where the coefficients of `autojit.backends.cpu.vecmath` come from.

``python -m perf.vecmath_fit [name ...]`` fits each polynomial anew (Remez's exchange in mpmath) and
prints it, with the largest relative error of the function that it makes, beside that of the table in
use.  Both are in units of half the last place (2**-24 or 2**-53).  Takes a minute; writes nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import mpmath as mp
import numpy as np

Function = Callable[[Any], Any]
mp.mp.dps = 50


# ------------------------------------------------------------------------------------- fitting
def remez(target: Function, weight: Function, low: Any, high: Any, powers: Sequence[int]) -> list[Any]:
    """Coefficients of these powers with the least maximum of |weight * (target - polynomial)|."""
    first = min(powers)  # t**first goes into the weight: a polynomial that vanishes at 0 cannot alternate there

    def weigh(t: Any) -> Any:
        return abs(weight(t) * t**first)

    exponents = [p - first for p in powers]
    n = len(powers)
    middle, half = (low + high) / 2, (high - low) / 2
    grid = [middle - half * mp.cos(mp.pi * i / (60 * (n + 1))) for i in range(60 * (n + 1) + 1)]
    grid = [t for t in grid if weigh(t) != 0]
    values = [(t, weigh(t), target(t) / t**first if first else target(t)) for t in grid]
    chosen = [values[int(i * (len(values) - 1) / n)] for i in range(n + 1)]
    best, least = [], mp.inf
    for _ in range(14):
        rows = [[w * t**e for e in exponents] + [(-1) ** i] for i, (t, w, _) in enumerate(chosen)]
        solution = mp.lu_solve(mp.matrix(rows), mp.matrix([w * v for _, w, v in chosen]))
        coefficients = [solution[i] for i in range(n)]
        errors = [w * (v - sum(c * t**e for c, e in zip(coefficients, exponents, strict=True)))
                  for t, w, v in values]
        worst = max(map(abs, errors))
        if worst < least:
            best, least = coefficients, worst
        if worst < abs(solution[n]) * mp.mpf("1.01"):
            break
        peaks = _alternating(errors, n + 1)
        if peaks is None:
            break
        chosen = [values[i] for i in peaks]
    return best


def _alternating(errors: list[Any], count: int) -> list[int] | None:
    """Places of the largest error of each run of one sign, thinned to `count` of them."""
    peaks: list[int] = []
    for i, e in enumerate(errors):
        if e and peaks and (errors[peaks[-1]] > 0) == (e > 0):
            if abs(e) > abs(errors[peaks[-1]]):
                peaks[-1] = i
        elif e:
            peaks.append(i)
    while len(peaks) > count:
        if len(peaks) == count + 1:
            peaks.pop(0 if abs(errors[peaks[0]]) < abs(errors[peaks[-1]]) else -1)
        else:
            weak = min(range(len(peaks) - 1), key=lambda j: abs(errors[peaks[j]]) + abs(errors[peaks[j + 1]]))
            del peaks[weak : weak + 2]
    return peaks if len(peaks) == count else None


def rounded(value: Any, bits: int) -> Any:
    return mp.mpf(float(np.float32(float(value)) if bits == 24 else float(value)))


def fit(target: Function, weight: Function, low: Any, high: Any, count: int, bits: int,
        fixed: Sequence[float]) -> list[Any]:
    """Coefficients, lowest first, each rounded in turn so that the others make up for it."""
    done = [mp.mpf(c) for c in fixed]
    while len(done) < count:
        def rest(t: Any) -> Any:
            return target(t) - sum(c * t**i for i, c in enumerate(done))

        found = remez(rest, weight, low, high, range(len(done), count))
        # In float64 only the leading ones matter: the rest are rounded at once.
        take = 1 if bits == 24 or len(done) < len(fixed) + 4 else len(found)
        done += [rounded(c, bits) for c in found[:take]]
    return done


def error(target: Function, weight: Function, low: Any, high: Any, coefficients: Sequence[Any]) -> Any:
    points = [low + (high - low) * i / 1000 for i in range(1001)]
    return max(abs(weight(t) * (target(t) - mp.polyval(list(coefficients)[::-1], t))) for t in points)


# -------------------------------------------------------------------------------- what is fitted
def plain(f: Function) -> tuple[Function, Function]:
    """f itself."""
    return f, lambda t: 1 / f(t)


def odd(f: Function, slope: Any = 1) -> tuple[Function, Function]:
    """(f(x) - slope x) / x**3 in z = x**2."""
    third = mp.taylor(f, 0, 3)[3]

    def target(z: Any) -> Any:
        x = mp.sqrt(z)
        return (f(x) - slope * x) / x**3 if z else third

    return target, lambda z: mp.sqrt(z) ** 3 / f(mp.sqrt(z)) if z else mp.mpf(0)


def beyond_line(f: Function) -> tuple[Function, Function]:
    """(f(x) - f'(0) x) / x**2 for f(0) = 0."""
    _, slope, second = mp.taylor(f, 0, 2)
    return (lambda x: (f(x) - slope * x) / x**2 if x else second,
            lambda x: x**2 / f(x) if x else mp.mpf(0))


def over_x(f: Function, less: int = 0) -> tuple[Function, Function]:
    """f(x) / x - less in z = x**2."""
    slope = mp.taylor(f, 0, 1)[1]

    def quotient(z: Any) -> Any:
        return f(mp.sqrt(z)) / mp.sqrt(z) if z else slope

    return lambda z: quotient(z) - less, lambda z: 1 / quotient(z)


def over_argument(f: Function) -> tuple[Function, Function]:
    """f(x) / x."""
    slope = mp.taylor(f, 0, 1)[1]

    def quotient(x: Any) -> Any:
        return f(x) / x if abs(x) > 1e-20 else slope

    return plain(quotient)


def scaled_erfc(k: int) -> tuple[Function, Function]:
    def target(t: Any) -> Any:
        u = (1 - t) / (2 * k)
        x = 1 / u - k
        return mp.erfc(x) * mp.exp(x**2) / u

    return plain(target)


def erf_tail() -> tuple[Function, Function]:
    """-erfc(x) exp(x**2), weighed by what it is to erf."""
    return lambda x: -mp.erfc(x) * mp.exp(x**2), lambda x: mp.exp(-(x**2)) / mp.erf(x)


def turned(pair: tuple[Function, Function]) -> tuple[Function, Function]:
    """The same in -z."""
    target, weight = pair
    return lambda z: target(-z), lambda z: weight(-z)


def erfinv(argument: Function) -> tuple[Function, Function]:
    """erfinv(x) / x where -log(1 - x**2) = argument(s)."""

    def target(s: Any) -> Any:
        x = mp.sqrt(-mp.expm1(-argument(s)))
        return mp.erfinv(x) / x if x else mp.sqrt(mp.pi) / 2

    return plain(target)


def stirling(z: Any) -> Any:
    x = 1 / mp.sqrt(z) if z else mp.inf
    return (mp.loggamma(x) - (x - 0.5) * mp.log(x) + x - mp.log(2 * mp.pi) / 2) * x if z else mp.mpf(1) / 12


def far_digamma(z: Any) -> Any:
    x = 1 / mp.sqrt(z) if z else mp.inf
    return (mp.log(x) - 1 / (2 * x) - mp.digamma(x)) / z if z else mp.mpf(1) / 12


def near_digamma(s: Any) -> Any:
    root = mp.findroot(mp.digamma, 1.4616321449683622)
    away = s + 1.5 - root
    return mp.digamma(s + 1.5) / away if abs(away) > 1e-20 else mp.polygamma(1, root)


def log2_rest(z: Any) -> Any:
    """The part of log2((1 + s) / (1 - s)) / s beyond s**2, over s**4, in z = s**2."""
    s = mp.sqrt(z)
    return (2 * mp.atanh(s) / s - 2 - 2 * z / 3) / mp.log(2) / z**2 if z else mp.mpf(2) / 5 / mp.log(2)


ONE = mp.mpf(1)
HALF_LN2 = mp.log(2) / 2
MANTISSA = (mp.sqrt(0.5) - 1, mp.sqrt(2) - 1)
FROM_3_4 = (-ONE / 4, ONE / 2)
OCTANT = (0 * ONE, (mp.pi / 4) ** 2)


def log2(f: Any) -> Any:
    return mp.log1p(f) / mp.log(2)


def exp2(r: Any) -> Any:
    return mp.power(2, r)


def cos(z: Any) -> Any:
    return mp.cos(mp.sqrt(z))


def bounded(f: Function) -> tuple[Function, Function]:
    """f, for a term that is the smaller the farther."""
    return f, lambda z: z + ONE / 1000


def jobs32() -> dict[str, tuple[Any, ...]]:
    """name -> ((target, weight), low, high, fixed leading coefficients)."""
    return {
        "exp32._EXP": (plain(mp.exp), -HALF_LN2, HALF_LN2, (1, 1, 0.5)),
        "exp32._EXPM1": (beyond_line(mp.expm1), -HALF_LN2, HALF_LN2, (0.5,)),
        "exp32._LOG": (beyond_line(mp.log1p), *FROM_3_4, (-0.5,)),
        "exp32._LOG_LONG": (beyond_line(mp.log1p), *MANTISSA, (-0.5,)),
        "exp32._LOG2": (beyond_line(log2), *FROM_3_4, ()),
        "exp32._LOG10": (beyond_line(lambda f: mp.log1p(f) / mp.log(10)), *FROM_3_4, ()),
        "exp32._SINH": (odd(mp.sinh), 0 * ONE, ONE, ()),
        "exp32._TANH": (odd(mp.tanh), 0 * ONE, mp.mpf("0.3025"), ()),
        "trig32._SIN": (odd(mp.sin), *OCTANT, ()),
        "trig32._COS": (plain(cos), *OCTANT, (1, -0.5)),
        "trig32._TAN": (odd(mp.tan), *OCTANT, ()),
        "trig32._ASIN": (odd(mp.asin), 0 * ONE, ONE / 4, ()),
        "trig32._ATAN": (odd(mp.atan), 0 * ONE, ONE, ()),
        "special32._ERF_SMALL": (turned(over_x(mp.erf, 1)), -ONE, 0 * ONE, ()),
        "special32._ERF_LARGE": (erf_tail(), ONE, 4 * ONE, ()),
        "special32._ERFC": (scaled_erfc(3), -ONE, mp.mpf("0.54"), ()),
        "exp32._EXP2": (plain(exp2), -ONE / 2, ONE / 2, (1,)),
        "wide32._LOG2": (over_argument(log2), *FROM_3_4, ()),
        "wide32._EXP2": (plain(exp2), -ONE / 2, ONE / 2, (1,)),
        "special32._ERFINV": (erfinv(lambda s: s + 2.5), -5 * ONE / 2, 5 * ONE / 2, ()),
        "special32._ERFINV_TAIL": (erfinv(lambda s: (s + 3) ** 2), mp.sqrt(5) - 3, ONE, ()),
        "gamma32._ASYMPTOTIC": (bounded(far_digamma), 0 * ONE, ONE / 64, ()),
    }


def jobs64() -> dict[str, tuple[Any, ...]]:
    return {
        "exp64._EXPM1": (beyond_line(mp.expm1), -HALF_LN2, HALF_LN2, (0.5,)),
        "exp64._SINH": (odd(mp.sinh), 0 * ONE, ONE, ()),
        "exp64._TANH": (odd(mp.tanh), 0 * ONE, mp.mpf("0.3025"), ()),
        "exp64.TWICE_ATANH": (odd(lambda s: 2 * mp.atanh(s), 2), 0 * ONE, ONE / 25, ()),
        "trig64._SIN": (odd(mp.sin), *OCTANT, ()),
        "trig64._COS": (plain(cos), *OCTANT, (1, -0.5)),
        "trig64._TAN": (odd(mp.tan), *OCTANT, ()),
        "trig64._ASIN": (odd(mp.asin), 0 * ONE, ONE / 4, ()),
        "trig64._ATAN": (odd(mp.atan), 0 * ONE, ONE, ()),
        "special64._ERF_SMALL": (turned(over_x(mp.erf, 1)), -ONE, 0 * ONE, ()),
        "special64._ERF_LARGE": (erf_tail(), ONE, 6 * ONE, ()),
        "special64._ERFC": (scaled_erfc(4), -ONE, mp.mpf("0.744"), ()),
        "gamma64._NEAR_1": (over_argument(lambda t: mp.loggamma(1 + t)), mp.mpf("-0.3"), ONE / 2, ()),
        "gamma64._NEAR_2": (over_argument(lambda t: mp.loggamma(2 + t)), -ONE / 2, ONE / 2, ()),
        "exp64._EXP": (plain(mp.exp), -HALF_LN2, HALF_LN2, (1, 1, 0.5)),
        "exp64._EXP2": (plain(exp2), -ONE / 2, ONE / 2, (1,)),
        "wide64._C5": ((log2_rest, lambda z: z**2 * mp.log(2) / 2), 0 * ONE, mp.mpf("0.02947"), ()),
        "special64._ERFINV": (erfinv(lambda s: s + 2.5), -5 * ONE / 2, 5 * ONE / 2, ()),
        "special64._ERFINV_TAIL": (erfinv(lambda s: (s + 4) ** 2), mp.sqrt(5) - 4, mp.mpf("2.1"), ()),
        "gamma64.STIRLING": (bounded(stirling), 0 * ONE, ONE / 64, ()),
        "gamma64._DIGAMMA": (plain(near_digamma), -ONE / 2, ONE / 2, ()),
        "gamma64._ASYMPTOTIC": (bounded(far_digamma), 0 * ONE, ONE / 100, ()),
        "gamma64.COS_PI": ((lambda z: mp.cospi(mp.sqrt(z)), lambda z: ONE), 0 * ONE, ONE / 4, (1,)),
        "gamma64.SIN_PI": (over_x(mp.sinpi), 0 * ONE, ONE / 4, ()),
    }


def main(wanted: Sequence[str]) -> None:
    for name, ((target, weight), low, high, fixed) in {**jobs32(), **jobs64()}.items():
        if wanted and name not in wanted:
            continue
        module, table = name.split(".")
        used = getattr(import_module(f"autojit.backends.cpu.vecmath.{module}"), table)
        bits = 24 if isinstance(used[0], np.float32) else 53
        found = fit(target, weight, low, high, len(used), bits, fixed)
        unit = mp.mpf(2) ** -bits
        kept = [mp.mpf(float(c)) for c in used][::-1]
        ours, new = (mp.nstr(error(target, weight, low, high, c) / unit, 3) for c in (kept, found))
        print(f"{name}: {len(used)} coefficients, error {ours} half places, fitted anew {new}")
        print("    " + ", ".join(repr(float(c)) for c in reversed(found)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
