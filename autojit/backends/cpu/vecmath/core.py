"""Building blocks of the vectorisable math: selects, bit casts, fused multiply-adds, polynomials.

In: `Value`s, which stand for scalars of LLVM (float32, float64, int32, int64, bool) or for vectors of them, and constants:
an int or float beside a value takes its type.  Out: LLVM instructions.  A function of this folder is ordinary Python that
runs once, on values that write down what happens to them, so calls are inlined, and a loop around the result vectorises.
Nothing here carries fast-math flags: what is fused is fused by name, so results do not depend on what LLVM makes of
the loop.  Never imports Numba, never calls libm (except for `fma` on processors that have no such instruction).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir

TYPES: dict[str, Any] = {"f32": ir.FloatType(), "f64": ir.DoubleType(), "i32": ir.IntType(32), "i64": ir.IntType(64),
                         "b1": ir.IntType(1)}
_KINDS = {np.float32: "f32", np.float64: "f64", float: "f64", np.int32: "i32", np.int64: "i64", int: "i64", bool: "b1"}
_BITS = {"f32": "i32", "f64": "i64"}
_FLOAT = {"i32": "f32", "i64": "f64"}


class Value:
    """A scalar or vector in a function in the making: `llvm`, the name of its scalar type `kind`, the `builder` that writes."""

    __slots__ = ("builder", "kind", "llvm")
    __array_ufunc__ = None  # NumPy's scalars leave ``ONE - value`` to us
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, builder: ir.IRBuilder, kind: str, llvm: Any) -> None:
        self.builder, self.kind, self.llvm = builder, kind, llvm

    @property
    def lanes(self) -> int:
        """How many scalars it is; 0: one, and no vector."""
        ty = self.llvm.type
        return ty.count if isinstance(ty, ir.VectorType) else 0

    def __bool__(self) -> bool:
        raise TypeError("the value is not known while code is made: use select")

    def __add__(self, other: Any) -> Value:
        return _arithmetic("add", self, other)

    def __radd__(self, other: Any) -> Value:
        return _arithmetic("add", other, self)

    def __sub__(self, other: Any) -> Value:
        return _arithmetic("sub", self, other)

    def __rsub__(self, other: Any) -> Value:
        return _arithmetic("sub", other, self)

    def __mul__(self, other: Any) -> Value:
        return _arithmetic("mul", self, other)

    def __rmul__(self, other: Any) -> Value:
        return _arithmetic("mul", other, self)

    def __truediv__(self, other: Any) -> Value:
        return _binary("fdiv", self, other)

    def __rtruediv__(self, other: Any) -> Value:
        return _binary("fdiv", other, self)

    def __neg__(self) -> Value:
        return Value(self.builder, self.kind, self.builder.fneg(self.llvm))

    def __abs__(self) -> Value:
        return fabs(self)

    def __and__(self, other: Any) -> Value:
        return _binary("and_", self, other)

    def __or__(self, other: Any) -> Value:
        return _binary("or_", self, other)

    def __xor__(self, other: Any) -> Value:
        return _binary("xor", self, other)

    def __lshift__(self, count: int) -> Value:
        return _binary("shl", self, count)

    def __rshift__(self, count: int) -> Value:
        return _binary("ashr", self, count)

    def __invert__(self) -> Value:
        return Value(self.builder, self.kind, self.builder.not_(self.llvm))

    def __lt__(self, other: Any) -> Value:
        return _compare("<", self, other)

    def __le__(self, other: Any) -> Value:
        return _compare("<=", self, other)

    def __gt__(self, other: Any) -> Value:
        return _compare(">", self, other)

    def __ge__(self, other: Any) -> Value:
        return _compare(">=", self, other)

    def __eq__(self, other: Any) -> Value:  # type: ignore[override]
        return _compare("==", self, other)

    def __ne__(self, other: Any) -> Value:  # type: ignore[override]
        return _compare("!=", self, other)


def type_of(kind: str, lanes: int = 0) -> Any:
    """LLVM's type of a scalar, or of a vector of them."""
    return ir.VectorType(TYPES[kind], lanes) if lanes else TYPES[kind]


def constant(builder: ir.IRBuilder, kind: str, x: Any, lanes: int = 0) -> Value:
    """A number as a value.  TypeError if it is not a number of this kind."""
    exact = float(x) if kind in _BITS else int(x)
    if kind == "f32" and float(np.float32(exact)) != exact and exact == exact or type(x) is np.float32 and kind == "f64":
        raise TypeError(f"{x!r} is no {kind}")
    return Value(builder, kind, ir.Constant(type_of(kind, lanes), [exact] * lanes if lanes else exact))


def _alike(*args: Any) -> list[Value]:
    """Values of one kind: constants take that of the first value."""
    like = next(a for a in args if isinstance(a, Value))
    found = [a if isinstance(a, Value) else constant(like.builder, like.kind, a, like.lanes) for a in args]
    if any(v.kind != like.kind for v in found):
        raise TypeError(f"kinds differ: {', '.join(v.kind for v in found)}")
    return found


def _binary(method: str, x: Any, y: Any) -> Value:
    a, b = _alike(x, y)
    return Value(a.builder, a.kind, getattr(a.builder, method)(a.llvm, b.llvm))


def _arithmetic(name: str, x: Any, y: Any) -> Value:
    kind = (x if isinstance(x, Value) else y).kind
    return _binary(f"f{name}" if kind in _BITS else name, x, y)


def _compare(sign: str, x: Any, y: Any) -> Value:
    a, b = _alike(x, y)
    builder = a.builder
    compare = (builder.icmp_signed if a.kind not in _BITS else builder.fcmp_unordered if sign == "!=" else builder.fcmp_ordered)
    return Value(builder, "b1", compare(sign, a.llvm, b.llvm))


# ------------------------------------------------------------------------------------- conversions
def f4(x: Any) -> Any:
    """float32 of a number or value, rounded."""
    return _to_float("f32", x) if isinstance(x, Value) else np.float32(x)


def f8(x: Any) -> Any:
    """float64 of a number or value."""
    return _to_float("f64", x) if isinstance(x, Value) else float(x)


def i4(x: Any) -> Any:
    """int32 of a number or an integer value: its low bits."""
    return _to_integer("i32", x) if isinstance(x, Value) else np.int32(x)


def _to_float(kind: str, x: Value) -> Value:
    b, ty = x.builder, type_of(kind, x.lanes)
    if x.kind == kind:
        return x
    if x.kind in ("i32", "i64"):
        return Value(b, kind, b.sitofp(x.llvm, ty))
    return Value(b, kind, b.fpext(x.llvm, ty) if kind == "f64" else b.fptrunc(x.llvm, ty))


def _to_integer(kind: str, x: Value) -> Value:
    if x.kind == kind:
        return x
    if x.kind != "i64":
        raise TypeError(f"no way from {x.kind} to {kind}")
    return Value(x.builder, kind, x.builder.trunc(x.llvm, type_of(kind, x.lanes)))


# ------------------------------------------------------------------------------ choice and bits
def select(condition: Value, yes: Any, no: Any) -> Value:
    """`yes if condition else no` with both sides evaluated: never a branch."""
    if not isinstance(yes, Value) and not isinstance(no, Value):
        yes = constant(condition.builder, _KINDS[type(yes)], yes, condition.lanes)
    a, b = _alike(yes, no)
    return Value(a.builder, a.kind, a.builder.select(condition.llvm, a.llvm, b.llvm))


def bits(x: Value) -> Value:
    """The bit pattern of a float, as a signed integer of its width."""
    kind = _BITS[x.kind]
    return Value(x.builder, kind, x.builder.bitcast(x.llvm, type_of(kind, x.lanes)))


def from_bits(i: Value) -> Value:
    """The float that has this bit pattern."""
    kind = _FLOAT[i.kind]
    return Value(i.builder, kind, i.builder.bitcast(i.llvm, type_of(kind, i.lanes)))


def shift_right(i: Value, count: int) -> Value:
    """Shift an integer right and fill with zeros (`>>` fills with the sign)."""
    return _binary("lshr", i, count)


# ---------------------------------------------------------------------- instructions LLVM names
def declared(module: ir.Module, name: str, ty: ir.FunctionType) -> Any:
    """The function of this name in a module, declared if it is not there."""
    return module.globals.get(name) or ir.Function(module, ty, name)


def _call(name: str, *args: Any) -> Value:
    """``llvm.<name>.<type>`` on arguments of one float type."""
    values = _alike(*args)
    x = values[0]
    ty = type_of(x.kind, x.lanes)
    full = f"llvm.{name}.v{x.lanes}{x.kind}" if x.lanes else f"llvm.{name}.{x.kind}"
    fn = declared(x.builder.module, full, ir.FunctionType(ty, [ty] * len(args)))
    return Value(x.builder, x.kind, x.builder.call(fn, [v.llvm for v in values]))


def fabs(x: Value) -> Value:
    return _call("fabs", x)


def sqrt(x: Value) -> Value:
    return _call("sqrt", x)


def floor(x: Value) -> Value:
    return _call("floor", x)


def trunc(x: Value) -> Value:
    return _call("trunc", x)


def rint(x: Value) -> Value:
    return _call("rint", x)


def copysign(magnitude: Any, sign: Value) -> Value:
    """`magnitude` with the sign bit of `sign`."""
    return _call("copysign", magnitude, sign)


def fma(a: Any, b: Any, c: Any) -> Value:
    """a*b + c, rounded once.  Argument reductions rely on it."""
    return _call("fma", a, b, c)


def horner(x: Value, coefficients: Sequence[Any]) -> Value:
    """The polynomial with these coefficients, highest power first, constants of x's type."""
    result, *rest = coefficients
    for coefficient in rest:
        result = _call("fmuladd", result, x, coefficient)
    return result  # type: ignore[no-any-return]


def by_pairs(x: Value, coefficients: Sequence[Any]) -> Value:
    """The same polynomial by pairs of terms (Estrin): more products, a shorter chain of them."""
    terms = list(reversed(coefficients))
    while len(terms) > 1:
        pairs = [_call("fmuladd", high, x, low) for low, high in zip(terms[::2], terms[1::2], strict=False)]
        terms = pairs + terms[2 * len(pairs) :]
        if len(terms) > 1:
            x = x * x
    return terms[0]  # type: ignore[no-any-return]
