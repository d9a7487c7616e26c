"""Rare arguments that need a slow path, without giving up vectors: rescues, and huge angles.

In: a branch-free result that is wrong for rare arguments, and a scalar function that is right for
them.  Out: an operation that loops vectorise: it tests a whole vector at once, and the lanes that
need it, if any, go through the scalar function one by one.  Never calls libm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from llvmlite import binding, ir

from autojit.backends.cpu.vecmath.core import TYPES, Value, declared
from autojit.backends.cpu.vecmath.variants import announce, pure

_I32, _I64, _I128, _I192, _I256 = (ir.IntType(n) for n in (32, 64, 128, 192, 256))
STRUCTS = binding.llvm_version_info[0] >= 21  # does the vectoriser know functions of several results?
_LANES = {"f32": (4, 8, 16), "f64": (2, 4, 8)}


# ------------------------------------------------------------------------------------- rescues
def rescue(name: str, slow: Callable[[Value], Sequence[Value]], limit: float) -> Callable[..., list[Value]]:
    """The operation ``fix(x, *ys)``: ys where |x| <= limit or x is not finite, else slow(x).

    Equal calls are one call to LLVM: what several functions of x begin with is best rescued there.
    """

    def fix(x: Value, *ys: Value) -> list[Value]:
        if STRUCTS:
            return _fixed(name, slow, limit, x, ys)
        return [_fixed(f"{name}_{k}", _one_of(slow, k), limit, x, [y])[0] for k, y in enumerate(ys)]

    return fix


def _one_of(slow: Callable[[Value], Sequence[Value]], k: int) -> Callable[[Value], Sequence[Value]]:
    return lambda x: [slow(x)[k]]


def _fixed(name: str, slow: Callable[[Value], Sequence[Value]], limit: float, x: Value, ys: Sequence[Value]) -> list[Value]:
    b = x.builder
    lanes = (x.lanes,) if x.lanes else _LANES[x.kind]
    fn = b.module.globals.get(name) or _define(b.module, name, slow, x.kind, limit, len(ys), lanes)
    if x.lanes:
        fn = b.module.globals[f"{name}_v{x.lanes}"]
    found = b.call(fn, [x.llvm, *[y.llvm for y in ys]])
    return [Value(b, x.kind, part) for part in _parts(b, found, len(ys))]


def _define(module: ir.Module, name: str, slow: Callable[[Value], Sequence[Value]], kind: str, limit: float, count: int,
            lanes: Sequence[int]) -> ir.Function:
    """The scalar function and its vector variants, all in `module`."""
    ty = TYPES[kind]
    fn = pure(module, name, ty, 1 + count, "noinline", results=count)
    fn.linkage = "weak_odr"
    builder = ir.IRBuilder(fn.append_basic_block("entry"))
    x, *ys = fn.args
    size = _fabs(builder, x)
    finite = builder.fcmp_ordered("<", size, ir.Constant(ty, float("inf")))
    huge = builder.and_(builder.fcmp_ordered(">", size, ir.Constant(ty, limit)), finite)
    with builder.if_then(huge, likely=False):
        _return(builder, [v.llvm for v in slow(Value(builder, kind, x))])
    _return(builder, ys)
    announce(fn, [_define_vector(module, fn, n, limit) for n in lanes])
    return fn


def _define_vector(module: ir.Module, fn: ir.Function, lanes: int, limit: float) -> ir.Function:
    """The test of a whole vector, small enough to inline behind the vectoriser, and its slow side."""
    ty, count = ir.VectorType(fn.args[0].type, lanes), len(fn.args) - 1
    slow = pure(module, f"{fn.name}_v{lanes}_slow", ty, 1 + count, "noinline", "cold", results=count)
    slow.linkage = "weak_odr"
    builder = ir.IRBuilder(slow.append_basic_block("entry"))
    results = list(slow.args[1:])
    for lane in map(_I32, range(lanes)):
        found = builder.call(fn, [builder.extract_element(v, lane) for v in slow.args])
        parts = _parts(builder, found, count)
        results = [builder.insert_element(r, part, lane) for r, part in zip(results, parts, strict=True)]
    _return(builder, results)

    variant = pure(module, f"{fn.name}_v{lanes}", ty, 1 + count, "alwaysinline", results=count)
    variant.linkage = "weak_odr"
    builder = ir.IRBuilder(variant.append_basic_block("entry"))
    x, *ys = variant.args
    huge = builder.fcmp_ordered(">", _fabs(builder, x), ir.Constant(ty, [limit] * lanes))
    mask = builder.bitcast(huge, ir.IntType(lanes))
    with builder.if_then(builder.icmp_unsigned("!=", mask, mask.type(0)), likely=False):
        builder.ret(builder.call(slow, variant.args))
    _return(builder, ys)
    return variant


def _parts(builder: ir.IRBuilder, found: Any, count: int) -> list[Any]:
    """The results of a call."""
    return [builder.extract_value(found, k) for k in range(count)] if count > 1 else [found]


def _return(builder: ir.IRBuilder, values: Sequence[Any]) -> None:
    if len(values) == 1:
        builder.ret(values[0])
        return
    result: Any = ir.Constant(builder.function.ftype.return_type, ir.Undefined)
    for k, value in enumerate(values):
        result = builder.insert_value(result, value, k)
    builder.ret(result)


def _fabs(builder: ir.IRBuilder, x: Any) -> Any:
    ty = x.type
    vector = isinstance(ty, ir.VectorType)
    suffix = f"v{ty.count}{ty.element.intrinsic_name}" if vector else ty.intrinsic_name
    fnty = ir.FunctionType(ty, [ty])
    fn = declared(builder.module, f"llvm.fabs.{suffix}", fnty)
    return builder.call(fn, [x])


# --------------------------------------------------------------------------------- huge angles
@cache
def two_over_pi(count: int) -> int:
    """The first `count` binary digits of 2/pi, as an integer (Machin's formula)."""
    one = 1 << (count + 64)

    def arctan_inverse(n: int) -> int:
        power, total, k = one // n, 0, 1
        while power:
            total += power // k if k % 4 == 1 else -(power // k)
            power, k = power // (n * n), k + 2
        return total

    pi = 4 * (4 * arctan_inverse(5) - arctan_inverse(239))
    return ((2 * one << count) // pi) & ((1 << count) - 1)


_PAD, _DIGITS = 64, 1216
_WORDS = (_PAD + _DIGITS) // 64  # of a table of digits, the highest first
_HALF_PI, _HALF_PI_TAIL = 1.5707963267948966, 6.123233995736766e-17


def huge_angle(x: Value) -> tuple[Value, Value, Value]:
    """Payne and Hanek: (r, rest, n), x = r + rest + n pi/2 modulo 2 pi, |r| <= pi/4, 2**16 < x < inf.

    With x = m * 2**e only the digits of 2/pi from place e-1 on matter, the others give whole turns;
    192 of them leave 128 digits of the fraction, and no double comes nearer than 2**-62 to a
    multiple of pi/2.
    """
    b = x.builder
    fraction, quadrant = _turns(b, x.llvm)
    angle, rest = _times_half_pi(b, fraction)
    return Value(b, "f64", angle), Value(b, "f64", rest), Value(b, "i64", b.trunc(quadrant, _I64))


def _turns(b: ir.IRBuilder, x: Any) -> tuple[Any, Any]:
    """x * 2/pi = quadrant + fraction * 2**-126, the fraction signed, both int128."""
    pattern = b.bitcast(x, _I64)
    mantissa = b.or_(b.and_(pattern, _I64((1 << 52) - 1)), _I64(1 << 52))
    exponent = b.sub(b.lshr(pattern, _I64(52)), _I64(1075))
    first = b.add(exponent, _I64(_PAD - 2))
    digits = _digits(b, first)
    product = b.mul(b.zext(mantissa, _I192), digits)
    turns = b.trunc(b.lshr(product, _I192(64)), _I128)
    quadrant = b.lshr(b.add(turns, _I128(1 << 125)), _I128(126))
    return b.sub(turns, b.shl(quadrant, _I128(126))), quadrant


def _digits(b: ir.IRBuilder, first: Any) -> Any:
    """192 digits of 2/pi from place `first` of the table on, by four words of it."""
    table = b.module.globals.get("autojit_two_over_pi")
    if table is None:
        digits = two_over_pi(_DIGITS)
        words = [digits >> 64 * k & (1 << 64) - 1 for k in reversed(range(_WORDS))]
        table = ir.GlobalVariable(b.module, ir.ArrayType(_I64, _WORDS), "autojit_two_over_pi")
        table.initializer, table.global_constant, table.linkage = ir.Constant(table.value_type, words), True, "internal"
    place, window = b.lshr(first, _I64(6)), _I256(0)
    for k in range(4):
        word = b.load(b.gep(table, [_I64(0), b.add(place, _I64(k))], inbounds=True))
        window = b.or_(b.shl(window, _I256(64)), b.zext(word, _I256))
    shift = b.sub(_I64(64), b.and_(first, _I64(63)))
    return b.trunc(b.lshr(window, b.zext(shift, _I256)), _I192)


def _times_half_pi(b: ir.IRBuilder, fraction: Any) -> list[Any]:
    """fraction * 2**-126 * pi/2 as a double and a rest, from its 64 leading digits."""
    double = ir.DoubleType()
    negative = b.icmp_signed("<", fraction, _I128(0))
    size = b.select(negative, b.neg(fraction), fraction)
    zeros = b.ctlz(size, ir.Constant(ir.IntType(1), 1))
    top = b.trunc(b.lshr(b.shl(size, zeros), _I128(64)), _I64)
    high = b.uitofp(b.and_(top, _I64(~0x7FF)), double)
    low = b.uitofp(b.and_(top, _I64(0x7FF)), double)
    half_pi, tail = double(_HALF_PI), double(_HALF_PI_TAIL)
    small = b.fadd(b.fmul(high, tail), b.fmul(low, half_pi))
    angle = b.fma(high, half_pi, small)
    rest = b.fadd(b.fma(high, half_pi, b.fneg(angle)), small)
    # 2**(64 - 126 - zeros), written as a bit pattern; zeros < 128
    exponent = b.sub(_I64(1023 - 62), b.trunc(zeros, _I64))
    scale = b.bitcast(b.shl(exponent, _I64(52)), double)
    scale = b.select(negative, b.fneg(scale), scale)
    return [b.fmul(part, scale) for part in (angle, rest)]
