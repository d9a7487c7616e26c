"""LLVM instructions of the words that take more than one: casts, divisions, powers, shifts.

In: a builder and LLVM values of kernel types (float, double, i64, i1).  Out: an LLVM value.  Written without branches, so
that loops around them vectorise; never undefined, whatever the arguments.  Never imports Numba.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from llvmlite.ir import IRBuilder as Builder
from llvmlite.ir.instructions import Instruction

from autojit.backends.cpu import target

I1, I8, I16, I32, I64 = (ir.IntType(n) for n in (1, 8, 16, 32, 64))
F16, F32, F64 = ir.HalfType(), ir.FloatType(), ir.DoubleType()


def intrinsic(b: Builder, name: str, *args: Any) -> Any:
    """Call ``llvm.<name>.<type>``, all types those of the first argument."""
    ty = args[0].type
    suffix = {F32: "f32", F64: "f64"}.get(ty) or f"i{ty.width}"
    fnty = ir.FunctionType(ty, [ty] * len(args))
    return b.call(declared(b.module, f"llvm.{name}.{suffix}", fnty), args)


def declared(module: ir.Module, name: str, fnty: ir.FunctionType) -> Any:
    return module.globals.get(name) or ir.Function(module, fnty, name)


# ----------------------------------------------------------------------------------------- memory
def loaded(b: Builder, value: Any, view: str) -> Any:
    """What a load gives: narrow integers are widened."""
    if view == "b1":
        return b.icmp_unsigned("!=", value, I8(0))
    if view in ("i32", "i16", "i8"):
        return b.sext(value, I64)
    return b.zext(value, I64) if view == "u8" else value


def stored(b: Builder, value: Any, memory: Any) -> Any:
    """What is stored as elements of a type: the low bits of integers; a bool as a byte."""
    if value.type == I1:
        return b.zext(value, memory)
    return value if value.type == memory else b.trunc(value, memory)


# ------------------------------------------------------------------------------------------ casts
def _freeze(b: Builder, value: Any) -> Any:
    """Some fixed value where `value` is undefined (llvmlite has no word for it)."""
    frozen = Instruction(b.block, value.type, "freeze", [value])
    b._insert(frozen)
    return frozen


def to_integer(b: Builder, x: Any, bits: int, signed: bool = True) -> Any:
    """Any kernel value as int64 holding an integer of that width."""
    if x.type in (F32, F64):
        x = _freeze(b, b.fptosi(x, I64 if bits == 64 else I32))
    elif x.type == I1:
        x = b.zext(x, I64)
    if bits < x.type.width:
        x = b.trunc(x, ir.IntType(bits))
    if x.type.width < 64:
        x = b.sext(x, I64) if signed else b.zext(x, I64)
    return x


def to_float(b: Builder, x: Any, ty: Any) -> Any:
    if x.type == ty:
        return x
    if x.type == I64:
        return b.sitofp(x, ty)
    if x.type == I1:
        return b.uitofp(x, ty)
    return b.fpext(x, ty) if ty == F64 else b.fptrunc(x, ty)


def wide(b: Builder, x: Any) -> Any:
    """A float16, or the bits of a bfloat16, as float32."""
    if x.type == F16:
        return b.fpext(x, F32) if target.has_half() else _wide_by_bits(b, x)
    return b.bitcast(b.shl(b.zext(x, I32), I32(16)), F32)


def to_half(b: Builder, x: Any) -> Any:
    """A float32 rounded to float16.  One that was a double just before by integers: LLVM may make one rounding of the two, by
    a function that we lack."""
    twice = getattr(x, "opname", "") == "fptrunc"
    return b.fptrunc(x, F16) if target.has_half() and not twice else _half_by_bits(b, x)


def _wide_by_bits(b: Builder, x: Any) -> Any:
    """float16 to float32 where the processor has no instruction: the exponent moved by a product, which is exact."""
    word = b.zext(b.bitcast(x, I16), I32)
    size = b.shl(b.and_(word, I32(0x7FFF)), I32(13))
    finite = b.bitcast(b.fmul(b.bitcast(size, F32), F32(2.0 ** 112)), I32)
    endless = b.icmp_unsigned(">=", size, I32(0x7C00 << 13))
    sign = b.shl(b.and_(word, I32(0x8000)), I32(16))
    return b.bitcast(b.or_(b.select(endless, b.or_(size, I32(0x7F800000)), finite), sign), F32)


def _half_by_bits(b: Builder, x: Any) -> Any:
    """The other way, to nearest even; denormals are rounded by adding a number whose last place is theirs."""
    word = b.bitcast(x, I32)
    size = b.and_(word, I32(0x7FFFFFFF))
    odd = b.and_(b.lshr(size, I32(13)), I32(1))
    normal = b.lshr(b.add(size, b.add(odd, I32(0xFFF - (112 << 23)))), I32(13))
    small = b.sub(b.bitcast(b.fadd(b.bitcast(size, F32), F32(0.5)), I32), I32(0x3F000000))
    out = b.select(b.icmp_unsigned("<", size, I32(0x38800000)), small, normal)
    out = b.select(b.icmp_unsigned(">=", size, I32(0x477FF000)), I32(0x7C00), out)
    nan = b.or_(I32(0x7E00), b.and_(b.lshr(size, I32(13)), I32(0x1FF)))
    out = b.select(b.icmp_unsigned(">", size, I32(0x7F800000)), nan, out)
    return b.bitcast(b.trunc(b.or_(out, b.and_(b.lshr(word, I32(16)), I32(0x8000))), I16), F16)


def to_bfloat(b: Builder, x: Any) -> Any:
    """The bits of a float32 as those of the nearest bfloat16, ties to even; a NaN stays one.  (Processors that can do it
    themselves flush denormals.)"""
    word = b.bitcast(x, I32)
    high = b.lshr(word, I32(16))
    near = b.lshr(b.add(word, b.add(b.and_(high, I32(1)), I32(0x7FFF))), I32(16))
    return b.trunc(b.select(b.fcmp_unordered("uno", x, x), b.or_(high, I32(0x40)), near), I16)


def to_bool(b: Builder, x: Any) -> Any:
    if x.type == I1:
        return x
    return b.icmp_signed("!=", x, I64(0)) if x.type == I64 else b.fcmp_unordered("!=", x, x.type(0))


# ----------------------------------------------------------------------------------------- floats
def _is_zero(b: Builder, x: Any) -> Any:
    return b.fcmp_ordered("==", x, x.type(0))


def _negative(b: Builder, x: Any) -> Any:
    return b.fcmp_ordered("<", x, x.type(0))


def _wrong_sign(b: Builder, mod: Any, by: Any) -> Any:
    """Does C's remainder differ in sign from the divisor, as Python's never does?"""
    other = b.xor(_negative(b, by), _negative(b, mod))
    return b.and_(b.fcmp_unordered("!=", mod, mod.type(0)), other)


def remainder_float(b: Builder, x: Any, by: Any) -> Any:
    mod = b.frem(x, by)
    return b.select(_wrong_sign(b, mod, by), b.fadd(mod, by), mod)


def floordiv_float(b: Builder, x: Any, by: Any) -> Any:
    """`interpret.floordiv_float` with selects in place of branches."""
    ty = x.type
    mod, quotient = b.frem(x, by), b.fdiv(x, by)
    div = b.fdiv(b.fsub(x, mod), by)
    div = b.select(_wrong_sign(b, mod, by), b.fsub(div, ty(1)), div)
    whole = intrinsic(b, "floor", div)
    late = b.fcmp_ordered(">", b.fsub(div, whole), ty(0.5))
    whole = b.select(late, b.fadd(whole, ty(1)), whole)
    whole = b.select(_is_zero(b, div), intrinsic(b, "copysign", ty(0), quotient), whole)
    return b.select(_is_zero(b, by), quotient, whole)


def power(b: Builder, x: Any, n: int) -> Any:
    """x**n for a constant n, multiplying in the order of `interpret.powi`."""
    times = b.mul if x.type == I64 else b.fmul
    if n < 0:
        return b.fdiv(x.type(1), power(b, x, -n))
    result, square = None, x
    while n:
        if n & 1:
            result = square if result is None else times(result, square)
        n >>= 1
        square = times(square, square) if n else square
    return x.type(1) if result is None else result


# --------------------------------------------------------------------------------------- integers
def _divide(b: Builder, x: Any, by: Any) -> tuple[Any, Any, Any, Any]:
    """C quotient and rest that never trap, and whether `by` is 0 or -1."""
    ty = by.type
    zero, minus = b.icmp_signed("==", by, ty(0)), b.icmp_signed("==", by, ty(-1))
    safe = b.select(b.or_(zero, minus), ty(1), by)
    quotient = b.sdiv(x, safe)
    # x86's division gives both, and LLVM sees it; a GPU's does not.
    return quotient, b.sub(x, b.mul(quotient, safe)), zero, minus


def _rounds_up(b: Builder, rest: Any, by: Any) -> Any:
    other = b.icmp_signed("<", b.xor(rest, by), by.type(0))
    return b.and_(b.icmp_signed("!=", rest, by.type(0)), other)


def floordiv_int(b: Builder, x: Any, by: Any) -> Any:
    quotient, rest, zero, minus = _divide(b, x, by)
    quotient = b.select(_rounds_up(b, rest, by), b.sub(quotient, by.type(1)), quotient)
    return b.select(zero, by.type(0), b.select(minus, b.neg(x), quotient))


def remainder_int(b: Builder, x: Any, by: Any) -> Any:
    _, rest, zero, minus = _divide(b, x, by)
    rest = b.select(_rounds_up(b, rest, by), b.add(rest, by), rest)
    return b.select(b.or_(zero, minus), by.type(0), rest)


def fmod_int(b: Builder, x: Any, by: Any) -> Any:
    _, rest, zero, minus = _divide(b, x, by)
    return b.select(b.or_(zero, minus), by.type(0), rest)


def shift(b: Builder, op: Callable[..., Any], x: Any, n: Any, beyond: Any) -> Any:
    inside = b.icmp_unsigned("<", n, I64(64))
    return b.select(inside, op(x, b.and_(n, I64(63))), beyond)


def pow_int(b: Builder, x: Any, y: Any) -> Any:
    """Call the module's own integer power, writing it at the first call."""
    name = "autojit_pow_i64"
    function = declared(b.module, name, ir.FunctionType(I64, [I64, I64]))
    if function.is_declaration:
        function.linkage = "internal"
        _write_pow_int(function)
    return b.call(function, [x, y])


# ---------------------------------------------------------------------------------- random numbers
def _times(b: Builder, x: Any, y: int) -> Any:
    """The whole product of a number's low 32 bits and another 32-bit word."""
    return b.mul(b.and_(x, I64(0xFFFFFFFF)), I64(y))


def philox(b: Builder, place: Any, seed: Any, draw: Any, kind: Any, times: Callable[..., Any] = _times) -> Any:
    """The number at a place of a draw (`ops/philox.py`): 64 bits as int64, or uniform in [0, 1) as float or double.

    Ten rounds give four words, of which one or two are taken: neighbours compute the same ones.  In lanes that is still 1.5 ns
    a number, and whatever reads it can be in the same loop, in any order.  Of what stands for a word only the low half counts:
    products take no more, and lanes need not be packed."""
    c0 = b.lshr(place, I64(2 if kind == F32 else 1))
    c1, c2, c3, k0, k1 = b.lshr(c0, I64(32)), draw, b.lshr(draw, I64(32)), seed, b.lshr(seed, I64(32))
    for _ in range(10):
        x, y = times(b, c0, 0xD2511F53), times(b, c2, 0xCD9E8D57)
        c0, c1 = b.xor(b.xor(b.lshr(y, I64(32)), c1), k0), y
        c2, c3 = b.xor(b.xor(b.lshr(x, I64(32)), c3), k1), x
        k0, k1 = b.add(k0, I64(0x9E3779B9)), b.add(k1, I64(0xBB67AE85))
    odd = b.trunc(place, I1)
    if kind == F32:
        two = b.trunc(b.lshr(place, I64(1)), I1)
        w = b.trunc(b.select(two, b.select(odd, c3, c2), b.select(odd, c1, c0)), I32)
        return b.fmul(b.sitofp(b.lshr(w, I32(8)), F32), F32(2.0 ** -24))
    low, high = b.select(odd, c2, c0), b.select(odd, c3, c1)
    if kind == I64:
        return b.or_(b.and_(low, I64(0xFFFFFFFF)), b.shl(high, I64(32)))
    low, high = b.uitofp(b.and_(b.trunc(low, I32), I32(0xFFFFF800)), F64), b.uitofp(b.trunc(high, I32), F64)
    return b.fadd(b.fmul(high, F64(2.0 ** -32)), b.fmul(low, F64(2.0 ** -64)))         # 53 bits in all: the sum is exact


def _write_pow_int(function: ir.Function) -> None:
    base, exponent = function.args
    entry, loop, done, negative = (function.append_basic_block(n)
                                   for n in ("entry", "loop", "done", "negative"))
    b = Builder(entry)
    b.cbranch(b.icmp_signed("<", exponent, I64(0)), negative, loop)
    b.position_at_end(loop)
    result, square, left = (b.phi(I64) for _ in range(3))
    for phi, start in ((result, I64(1)), (square, base), (left, exponent)):
        phi.add_incoming(start, entry)
    odd = b.icmp_signed("!=", b.and_(left, I64(1)), I64(0))
    more = b.lshr(left, I64(1))
    product = b.select(odd, b.mul(result, square), result)
    for phi, value in ((result, product), (square, b.mul(square, square)), (left, more)):
        phi.add_incoming(value, loop)
    b.cbranch(b.icmp_signed("!=", more, I64(0)), loop, done)
    b.position_at_end(done)
    b.ret(product)
    b.position_at_end(negative)
    odd = b.icmp_signed("!=", b.and_(exponent, I64(1)), I64(0))
    minus_one = b.select(odd, I64(-1), I64(1))
    value = b.select(b.icmp_signed("==", base, I64(-1)), minus_one, I64(0))
    b.ret(b.select(b.icmp_signed("==", base, I64(1)), I64(1), value))
