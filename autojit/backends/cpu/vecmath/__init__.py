"""Mathematics that vectorises: what ``exp_f32`` and its like mean to the compiler.

In: a name that kernel text uses.  Out: `FUNCTIONS`, which maps it to a compiled function of one or
two scalars, to be inlined in loops.  The functions have no branches (lgamma_f64 and digamma_f64
apart), call no library, and are at most 2 ulp off (pow and the special functions: 4), for every argument: NaN,
Inf, -0, denormals and angles of any size.  Importing this imports Numba; nothing compiles before a
function is used.

>>> import numba, numpy as np
>>> exp = FUNCTIONS["exp_f32"]
>>> @numba.njit
... def fill(x, out):
...     for i in range(x.size):
...         out[i] = exp(x[i])
>>> x = np.array([0, 1, -np.inf], "f4")
>>> out = np.empty_like(x)
>>> fill(x, out)
>>> out
array([1.       , 2.7182817, 0.       ], dtype=float32)
"""

from __future__ import annotations

from typing import Any

from autojit.backends.cpu.vecmath import (
    exp32,
    exp64,
    gamma32,
    gamma64,
    special32,
    special64,
    trig32,
    trig64,
    wide32,
    wide64,
)

_NAMES = {
    (exp32, exp64): "exp exp2 expm1 sigmoid softplus tanh sinh cosh log log2 log10 log1p",
    (trig32, trig64): "sin cos tan asin acos atan atan2",
    (wide32, wide64): "pow rsqrt cbrt hypot asinh acosh atanh",
    (special32, special64): "erf erfc erfinv",
    (gamma32, gamma64): "lgamma digamma",
}

FUNCTIONS: dict[str, Any] = {
    f"{name}_{width}": getattr(module, f"{name}_{width}")
    for modules, names in _NAMES.items()
    for module, width in zip(modules, ("f32", "f64"), strict=True)
    for name in names.split()
}
"""Name -> Numba dispatcher; ``pow``, ``hypot`` and ``atan2(y, x)`` take two arguments."""
