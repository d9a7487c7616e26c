"""How a program is declared, run and shown.

A program is a function of `t`, a namespace with torch's names (autojit or torch), that returns values.  What it shows is
plain data: numbers rounded to five digits, flags, dtypes, names of functions, the words of errors.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

PROGRAMS: dict[str, Callable[[Any], Any]] = {}


def program(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    assert f.__name__ not in PROGRAMS, f.__name__
    PROGRAMS[f.__name__] = f
    return f


def number(v: float) -> Any:
    if v != v or v in (float("inf"), float("-inf")):
        return str(v)
    return float(f"{v:.5g}")


def numbers(v: Any) -> Any:
    if isinstance(v, list):
        return [numbers(i) for i in v]
    return number(v) if isinstance(v, float) else v


def show(v: Any) -> Any:
    if isinstance(v, (list, tuple)):
        return [show(i) for i in v]
    if isinstance(v, dict):
        return {k: show(x) for k, x in v.items()}
    if v is None or isinstance(v, (bool, int, str)):
        return v
    if isinstance(v, (float, np.floating)):
        return number(float(v))
    if isinstance(v, np.ndarray):
        return ["array", str(v.dtype), numbers(v.tolist())]
    if hasattr(v, "next_functions"):
        name = v.name() if callable(v.name) else v.name
        return name.replace("torch::autograd::", "")
    if hasattr(v, "requires_grad"):
        return ["tensor", str(v.dtype), numbers(v.detach().tolist()), v.requires_grad]
    return re.sub(r"0x[0-9a-f]+", "0x", repr(v))


def words(e: BaseException) -> list[str]:
    return [type(e).__name__, str(e).split(" (Triggered")[0]]


def attempt(f: Callable[[], Any]) -> Any:
    """What f gives, or the error it raises: for programs that go on after it."""
    try:
        return f()
    except Exception as e:
        return words(e)


def outcome(f: Callable[[Any], Any], t: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return show(f(t))
        except Exception as e:
            return words(e)


def same(a: Any, b: Any) -> bool:
    """Equal, numbers to a few digits."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) <= 2e-6 + 5e-4 * abs(b)
    return type(a) is type(b) and a == b


def vec(t: Any, *values: float, grad: bool = True) -> Any:
    return t.tensor([float(v) for v in values] or [0.5, 1.5, 2.5], requires_grad=grad)


def mat(t: Any, grad: bool = True) -> Any:
    return t.tensor([[0.5, -1.0, 2.0], [1.5, 0.25, -0.75]], requires_grad=grad)
