"""Mathematical words on the GPU: which function each of them is.

In: names such as ``exp_f32`` and LLVM values.  Out: an LLVM value: a call of libdevice's function where its greatest error
(as NVIDIA tells it) is 2 ulp at most (erf, pow, gamma: 4) and float32 ones stay in float32; of our own elsewhere: those of
the CPU's `vecmath` that need no other type, and what `angles`, `inverses` and `gammas` have.  Our own are written as one
function of the module a word, for NVVM to inline; nothing in them is fused but by name.  Never imports Numba.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from llvmlite import ir

from autojit.backends.cpu import interpret

_BOTH = ("exp exp2 expm1 log log2 log10 log1p asin acos atan cosh tanh cbrt erf pow rsqrt").split()
_ONLY = {"f32": "erfc erfinv".split(),                    # float64: 5 ulp
         "f64": "sinh atan2 hypot atanh".split()}           # float32: 3 ulp

LIBDEVICE: dict[str, str] = {f"{name}_{kind}": f"__nv_{name}{'f' if kind == 'f32' else ''}"
                             for kind in ("f32", "f64") for name in (*_BOTH, *_ONLY[kind])}
"""Word → the function of libdevice that it is."""

ARITY: dict[str, int] = {f"{name}_{kind}": 2 if name in interpret.BINARY else 1
                         for kind in ("f32", "f64") for name in interpret.MATH}

_ONE_TYPE = {"llvm.fabs": "fabs", "llvm.sqrt": "sqrt", "llvm.floor": "floor", "llvm.trunc": "trunc", "llvm.rint": "rint",
             "llvm.copysign": "copysign", "llvm.fma": "fma", "llvm.fmuladd": "fma"}
_ARGUMENTS = {"copysign": 2, "fma": 3}


@cache
def functions() -> dict[str, Callable[..., Any]]:
    """Word → what writes it, over the values of `vecmath.core`: all that libdevice does not give."""
    from autojit.backends.cpu.vecmath import FUNCTIONS
    from autojit.backends.cuda import angles, gammas, inverses

    ours = {**FUNCTIONS, **angles.FUNCTIONS, **gammas.FUNCTIONS, **inverses.FUNCTIONS}
    return {name: ours[name] for name in ARITY if name not in LIBDEVICE}


class _Names:
    """The functions of a module, by the names that `vecmath.core` asks for: where NVVM has none, libdevice's."""

    def __init__(self, module: ir.Module) -> None:
        self.module = module

    def get(self, name: str) -> Any:
        base, _, kind = name.rpartition(".")
        ty = {"f32": ir.FloatType(), "f64": ir.DoubleType()}[kind]
        known = _ONE_TYPE[base]
        full = f"__nv_{known}{'f' if kind == 'f32' else ''}"
        found = self.module.globals.get(full)
        return found or ir.Function(self.module, ir.FunctionType(ty, [ty] * _ARGUMENTS.get(known, 1)), full)


class _Module:
    """The module that `Portable` writes in, as it shows it."""

    def __init__(self, module: ir.Module) -> None:
        self.globals, self.whole = _Names(module), module
        self.declare_intrinsic = module.declare_intrinsic


class Portable(ir.IRBuilder):
    """Writes what NVVM reads, for functions that were written for a newer LLVM; never lets products be fused."""

    native = False                                        # no instructions of the host's processor (`vecmath.powers`)

    @property
    def module(self) -> Any:
        return _Module(self._block.parent.module)

    def fneg(self, arg: Any, name: str = "", flags: Any = ()) -> Any:
        return self.fsub(arg.type(-0.0), arg, name)

    def fmul(self, lhs: Any, rhs: Any, name: str = "", flags: Any = ()) -> Any:
        ty = lhs.type
        full = "llvm.nvvm.mul.rn." + ("f" if ty == ir.FloatType() else "d")
        module = self._block.parent.module
        function = module.globals.get(full) or ir.Function(module, ir.FunctionType(ty, [ty, ty]), full)
        return self.call(function, [lhs, rhs], name)


def called(b: ir.IRBuilder, name: str, args: Any) -> Any:
    """A mathematical word of these arguments."""
    module, ty = b.module, args[0].type
    symbol = LIBDEVICE.get(name) or f"autojit_{name}"
    function = module.globals.get(symbol)
    if function is None:
        function = ir.Function(module, ir.FunctionType(ty, [a.type for a in args]), symbol)
        if name not in LIBDEVICE:
            define(function, name, Portable)
    return b.call(function, args)


def define(function: Any, name: str, builder: Callable[[Any], Any] = ir.IRBuilder) -> None:
    """Write the body of one of our own functions."""
    from autojit.backends.cpu.vecmath.core import Value

    function.linkage = "internal"
    set.update(function.attributes, ("alwaysinline", "nounwind"))
    b = builder(function.append_basic_block("entry"))
    b.ret(functions()[name](*[Value(b, name.rsplit("_", 1)[1], x) for x in function.args]).llvm)
