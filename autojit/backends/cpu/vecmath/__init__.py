"""Mathematics that vectorises: what ``exp_f32`` and its like mean to the compiler.

In: a name that kernel text uses.  Out: `FUNCTIONS`, which maps it to a function of one or two scalars that writes LLVM
instructions (see `core`), to be inlined in loops; `module` makes a module of one.  The functions have no branches, call no
library, and are at most 2 ulp off (pow and the special functions: 4), for every argument: NaN, Inf, -0, denormals and angles
of any size.  Never imports Numba.

>>> print(module("rsqrt_f32", 1))  # doctest: +ELLIPSIS
; ModuleID = "rsqrt_f32"
...
define float @"autojit_rsqrt_f32"(float %".1") alwaysinline nounwind
{
entry:
  %".3" = call float @"llvm.sqrt.f32"(float %".1")
  %".4" = fdiv float 0x3ff0000000000000, %".3"
  ret float %".4"
}
...
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from autojit.backends.cpu.vecmath import (
    core,
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

FUNCTIONS: dict[str, Callable[..., Any]] = {
    f"{name}_{width}": getattr(module, f"{name}_{width}")
    for modules, names in _NAMES.items()
    for module, width in zip(modules, ("f32", "f64"), strict=True)
    for name in names.split()
}
"""Name -> what writes it; ``pow``, ``hypot`` and ``atan2(y, x)`` take two arguments."""


def module(name: str, arity: int, lanes: int = 0) -> ir.Module:
    """A module that defines ``autojit_<name>``, to be inlined; or ``autojit_<name>_v<lanes>``, of vectors, to be called."""
    made = ir.Module(name)
    kind = name.rsplit("_", 1)[1]
    ty = core.type_of(kind, lanes)
    fn = ir.Function(made, ir.FunctionType(ty, [ty] * arity), f"autojit_{name}_v{lanes}" if lanes else f"autojit_{name}")
    set.update(fn.attributes, ("noinline" if lanes else "alwaysinline", "nounwind"))
    builder = ir.IRBuilder(fn.append_basic_block("entry"))
    builder.ret(FUNCTIONS[name](*[core.Value(builder, kind, x) for x in fn.args]).llvm)
    return made
