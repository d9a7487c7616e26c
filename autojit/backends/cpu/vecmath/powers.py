"""Powers of two: multiplying by them with denormals rounded as they should be, and taking them out of a number.

In: a float and an exponent, a float too; or a float.  Out: single instructions for vectors where the processor has them
(AVX-512), integer work on exponent fields elsewhere.  Never branches.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

from llvmlite import ir

from autojit.backends.cpu.vecmath.core import (
    TYPES,
    Value,
    bits,
    declared,
    f4,
    from_bits,
    i4,
    select,
    shift_right,
    type_of,
)
from autojit.backends.cpu.vecmath.variants import announce, pure

_LANES = {"f32": (4, 8, 16), "f64": (2, 4, 8, 16)}  # sixteen doubles: in functions of floats
_MANTISSA = {"f32": 23, "f64": 52}
_BIAS = {"f32": 127, "f64": 1023}
_ALL_LANES, _CURRENT_ROUNDING = -1, 4
_THREE_QUARTERS_OR_NAN = 15  # mantissas in [3/4, 3/2); of a negative number NaN
_ARITY = {"scale": 2, "mantissa": 1, "exponent": 1}


@cache
def native() -> bool:
    """Has the processor these instructions, for vectors of every width?"""
    from autojit.backends.cpu import target

    found = target.features().split(",")
    return "+avx512f" in found and "+avx512vl" in found and target.inlines_late()


def _native(x: Value) -> bool:
    """Is this code for a processor that has them?  (Other devices take vecmath's functions too.)"""
    return getattr(x.builder, "native", True) and native()


def scale(p: Value, t: Value, k: Value) -> Value:
    """p * 2**k for 1/2 < p < 2; t is k plus 1.5 times the power of two that leaves k in the low bits of t's pattern."""
    return _call("scale", p, k) if _native(p) else _scale_by_bits(p, bits(t), k)


def split(x: Value) -> tuple[Value, Value]:
    """(m, n): x = m * 2**n, 3/4 <= m < 3/2, n a float.

    n is -Inf for 0 and Inf for Inf, with m = 1; m is NaN where x is negative or NaN.
    """
    if not _native(x):
        return _split_by_bits(x)
    m = _call("mantissa", x)
    return m, _call("exponent", x) - _call("exponent", m)


# ------------------------------------------------------------------------------- by exponent fields
def _number(kind: str, x: float) -> Any:
    """A constant."""
    return f4(x) if kind == "f32" else x


def _fields(kind: str) -> Any:
    """n -> the bit pattern of 2**n, a constant."""
    return lambda n: i4((_BIAS[kind] + n) << 23) if kind == "f32" else (_BIAS[kind] + n) << 52


def _scale_by_bits(p: Value, pattern: Value, k: Value) -> Value:
    """In two factors where the result is small, so that denormals are rounded once; k may be one too large."""
    field = _fields(p.kind)
    small, lift = (-124.0, 64) if p.kind == "f32" else (-1018.0, 128)
    low = k < small
    first = from_bits((pattern << _MANTISSA[p.kind]) + select(low, field(lift - 1), field(-1)))  # finite for the largest k
    return (p * 2.0) * first * select(low, _number(p.kind, 2.0**-lift), _number(p.kind, 1.0))


def _split_by_bits(x: Value) -> tuple[Value, Value]:
    kind = x.kind
    field, mantissa = _fields(kind), _MANTISSA[kind]
    zero, one, inf, nan, digits = (_number(kind, v) for v in (0.0, 1.0, float("inf"), float("nan"), float(mantissa)))
    three_quarters = field(-1) + (1 << mantissa - 1)
    tiny = x < 2.0 ** (1 - _BIAS[kind])
    i = bits(select(tiny, x * 2.0**mantissa, x)) - three_quarters
    if kind == "f32":
        n = f4(i >> mantissa)
    else:  # processors without AVX-512 cannot convert vectors of int64: 2**52's low bits hold an integer
        n = from_bits(shift_right(i + field(0), mantissa) | field(mantissa)) - (2.0**mantissa + _BIAS[kind])
    n = n - select(tiny, digits, zero)
    m = from_bits((i & ((1 << mantissa) - 1)) + three_quarters)
    m = select((x > 0.0) & (x < inf), m, select((x == 0.0) | (x == inf), one, nan))
    return m, select(x < inf, select(x == 0.0, -inf, n), inf)


# ---------------------------------------------------------------------- instructions linked in late
def _call(what: str, *args: Value) -> Value:
    """By name alone: what is inlined before loops are vectorised has no form for vectors."""
    x = args[0]
    module, name = x.builder.module, f"autojit_{what}_{x.kind}"
    if x.lanes:
        name = f"{name}_v{x.lanes}"
    fn = module.globals.get(name)
    if fn is None and x.lanes:  # of these, only the number at hand
        fn = pure(module, name, x.llvm.type, len(args))
    elif fn is None:
        fn = pure(module, name, TYPES[x.kind], len(args))
        announce(fn, [pure(module, f"{name}_v{n}", ir.VectorType(TYPES[x.kind], n), len(args)) for n in _LANES[x.kind]])
    return Value(x.builder, x.kind, x.builder.call(fn, [a.llvm for a in args]))


def late_names(undefined: Iterable[str]) -> list[tuple[str, str]]:
    """What of these names `late_module` defines, as its arguments."""
    names = {name.partition("_v")[0] for name in undefined}
    return [(what, kind) for what in _ARITY for kind in _LANES if f"autojit_{what}_{kind}" in names]


def late_module(what: str, kind: str) -> ir.Module:
    """The functions that `_call` names, to be linked and inlined when loops are vectors."""
    module = ir.Module(f"{what}_{kind}")
    fn = pure(module, f"autojit_{what}_{kind}", TYPES[kind], _ARITY[what], "alwaysinline")
    builder = ir.IRBuilder(fn.append_basic_block("entry"))
    nothing, first = ir.Constant(type_of(kind, _LANES[kind][0]), ir.Undefined), ir.IntType(32)(0)
    args = [builder.insert_element(nothing, a, first) for a in fn.args]  # one element is the first of the least register
    builder.ret(builder.extract_element(_instruction(builder, what, kind, args), first))
    for lanes in _LANES[kind]:
        _define_vector(module, what, kind, lanes)
    return module


def _define_vector(module: ir.Module, what: str, kind: str, lanes: int) -> None:
    ty = type_of(kind, lanes)
    variant = pure(module, f"autojit_{what}_{kind}_v{lanes}", ty, _ARITY[what], "alwaysinline")
    builder = ir.IRBuilder(variant.append_basic_block("entry"))
    if lanes * (32 if kind == "f32" else 64) <= 512:
        builder.ret(_instruction(builder, what, kind, list(variant.args)))
        return
    half = lanes // 2
    parts = []
    for first in (0, half):
        places = ir.Constant(type_of("i32", half), list(range(first, first + half)))
        parts.append(_instruction(builder, what, kind, [builder.shuffle_vector(a, a, places) for a in variant.args]))
    builder.ret(builder.shuffle_vector(*parts, ir.Constant(type_of("i32", lanes), list(range(lanes)))))


def _instruction(b: ir.IRBuilder, what: str, kind: str, args: list[Any]) -> Any:
    """The processor's instruction on registers."""
    ty = args[0].type
    width = ty.count * (32 if kind == "f32" else 64)
    if what == "mantissa":
        args.append(ir.IntType(32)(_THREE_QUARTERS_OR_NAN))
    args += [ir.Constant(ty, [0.0] * ty.count), ir.IntType(max(ty.count, 8))(_ALL_LANES)]
    if width == 512:
        args.append(ir.IntType(32)(_CURRENT_ROUNDING))
    short = {"scale": "scalef", "mantissa": "getmant", "exponent": "getexp"}[what]
    name = f"llvm.x86.avx512.mask.{short}.p{'s' if kind == 'f32' else 'd'}.{width}"
    return b.call(declared(b.module, name, ir.FunctionType(ty, [a.type for a in args])), args)
