"""What each word and operator of a CUDA kernel's text is to LLVM: types of its arguments, type of its result, instructions.

In: names of words.  Out: `WORDS` (fixed types), `CASTS` (one argument of any type), `OPERATORS` (equal types), and what
memory is made of.  Types are f32, f64, i64, b1, ix (an index: 32 bits, 64 where `setting.wide`), f16 and bf16 (which only
casts read); nothing is promoted.  The instructions are those that NVVM reads, whose LLVM is older than llvmlite's: no
`fneg`, no `freeze`, few `llvm.*` functions.  Never imports Numba.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from llvmlite.ir import IRBuilder as Builder

from autojit.backends.cpu.instructions import floordiv_int, fmod_int, loaded, philox, pow_int, remainder_int, shift, stored
from autojit.backends.cuda import mathematics

Emit = Callable[..., Any]

I1, I8, I16, I32, I64 = (ir.IntType(n) for n in (1, 8, 16, 32, 64))
F32, F64 = ir.FloatType(), ir.DoubleType()
GLOBAL, SHARED = 1, 3                                      # address spaces

FLOATS = {"f32": F32, "f64": F64}
VALUES = {"f32": F32, "f64": F64, "i64": I64, "b1": I1, "f16": I16, "bf16": I16}
MEMORY = {"f32": F32, "f64": F64, "i64": I64, "i32": I32, "i16": I16, "i8": I8, "u8": I8, "b1": I8, "f16": I16, "bf16": I16}
"""Name of a view → the type of its elements in memory."""

BYTES = {"f32": 4, "f64": 8, "i64": 8, "i32": 4, "i16": 2, "i8": 1, "u8": 1, "b1": 1, "f16": 2, "bf16": 2}
LANES = {view: 16 // size for view, size in BYTES.items()}
"""Elements of 16 bytes: what ``load<n>_<view>`` takes."""

COMPARISONS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}


class Setting:
    """What the kernel in the making is compiled for; set by `front`, under its lock.

    `compares`: it looks for a value among values; what is computed in two places must then be the same bits in both, and
    products are not fused with sums.
    """

    __slots__ = ("wide", "threads", "compares")

    def __init__(self) -> None:
        self.wide, self.threads, self.compares = False, 256, False

    @property
    def ix(self) -> Any:
        return I64 if self.wide else I32


setting = Setting()


class Word:
    """`kinds`: types of the arguments; `result`: type of the value, "" for none; `emit`: builder and LLVM values to one."""

    __slots__ = ("kinds", "result", "emit")

    def __init__(self, kinds: tuple[str, ...], result: str, emit: Emit) -> None:
        self.kinds, self.result, self.emit = kinds, result, emit


WORDS: dict[str, Word] = {}
CASTS: dict[str, tuple[str, dict[str, Emit]]] = {}
"""Name → (type of the value, {type of the argument: instructions})."""

OPERATORS: dict[str, dict[str, Emit]] = {}
"""Name (as in `operator`) → {type: instructions}."""


def value_kind(view: str) -> str:
    """The type of what a load of this view gives."""
    return view if view in VALUES else "i64"


def word(name: str, result: str, wanted: str, emit: Emit) -> None:
    WORDS[name] = Word(tuple(wanted.split()), result, emit)


def declared(module: ir.Module, name: str, result: Any, *args: Any) -> Any:
    return module.globals.get(name) or ir.Function(module, ir.FunctionType(result, args), name)


def call(b: Builder, name: str, result: Any, *args: Any) -> Any:
    return b.call(declared(b.module, name, result, *[a.type for a in args]), args)


def device(b: Builder, name: str, *args: Any) -> Any:
    """A function of libdevice: ``__nv_<name>f`` for floats, all types those of the first argument."""
    ty = args[0].type
    return call(b, f"__nv_{name}{'f' if ty == F32 else ''}", ty, *args)


def assembly(b: Builder, text: str, result: Any, constraint: str, *args: Any) -> Any:
    """One instruction of PTX that depends on its operands alone."""
    return b.asm(ir.FunctionType(result, [a.type for a in args]), text, constraint, args, side_effect=False)


# ---------------------------------------------------------------------------------------- memory
def load_vector(b: Builder, place: Any, view: str) -> tuple[list[Any], Any]:
    """16 bytes as values, and the load itself (for its marks)."""
    lanes = LANES[view]
    vector = ir.VectorType(MEMORY[view], lanes)
    load = b.load(b.bitcast(place, ir.PointerType(vector, place.type.addrspace)), align=16)
    return [loaded(b, b.extract_element(load, I32(k)), view) for k in range(lanes)], load


def store_vector(b: Builder, place: Any, view: str, values: Any) -> Any:
    vector = ir.VectorType(MEMORY[view], LANES[view])
    whole = ir.Constant(vector, ir.Undefined)
    for k, value in enumerate(values):
        whole = b.insert_element(whole, stored(b, value, MEMORY[view]), I32(k))
    return b.store(whole, b.bitcast(place, ir.PointerType(vector, place.type.addrspace)), align=16)


def shared_array(b: Builder, view: str, size: int) -> Any:
    """A new static array in shared memory: the address of its first element."""
    module = b.module
    array = ir.GlobalVariable(module, ir.ArrayType(MEMORY[view], size), module.get_unique_name("autojit_shared"), SHARED)
    array.linkage, array.align, array.initializer = "internal", 16, ir.Constant(array.value_type, ir.Undefined)
    return b.gep(array, [I32(0), I32(0)], inbounds=True)


def local_array(b: Builder, view: str, size: int) -> Any:
    """A new array of one thread: registers, if all its indices are known once loops are unrolled."""
    with b.goto_entry_block():
        array = b.alloca(ir.ArrayType(MEMORY[view], size))
    return b.gep(array, [I32(0), I32(0)], inbounds=True)


# ----------------------------------------------------------------------------------- coordinates
def _register(name: str) -> Emit:
    def emit(b: Builder) -> Any:
        value = call(b, f"llvm.nvvm.read.ptx.sreg.{name}", I32)
        return b.zext(value, I64) if setting.wide else value
    return emit


def _barrier(b: Builder) -> Any:
    return call(b, "llvm.nvvm.barrier0", ir.VoidType())


def _declare_coordinates() -> None:
    word("thread", "ix", "", _register("tid.x"))
    word("block", "ix", "", _register("ctaid.x"))
    word("blocks", "ix", "", _register("nctaid.x"))
    word("sync", "", "", _barrier)
    word("index_div", "ix", "ix ix", lambda b, i, n: b.udiv(i, n))
    word("index_mod", "ix", "ix ix", lambda b, i, n: b.urem(i, n))
    word("index_clamp", "ix", "ix", lambda b, i: b.select(b.icmp_signed("<", i, i.type(0)), i.type(0), i))
    word("part_lo", "ix", "ix ix ix", _part)
    word("part_hi", "ix", "ix ix ix", lambda b, n, c, parts: _part(b, n, b.add(c, c.type(1)), parts))


def _part(b: Builder, n: Any, c: Any, parts: Any) -> Any:
    """n * c // parts, the product in 64 bits."""
    if n.type == I64:
        return b.udiv(b.mul(n, c), parts)
    n, c, parts = b.zext(n, I64), b.zext(c, I64), b.zext(parts, I64)
    return b.trunc(b.udiv(b.mul(n, c), parts), I32)


# ------------------------------------------------------------------------------------- floats
def negated(b: Builder, x: Any) -> Any:
    return b.fsub(x.type(-0.0), x)


def absolute(b: Builder, x: Any) -> Any:
    return device(b, "fabs", x)


def _isnan(b: Builder, x: Any) -> Any:
    return b.fcmp_unordered("uno", x, x)


def maximum(b: Builder, x: Any, y: Any) -> Any:
    """NaN wins, and 0 is more than -0."""
    return _extreme(b, "max", x, y)


def minimum(b: Builder, x: Any, y: Any) -> Any:
    return _extreme(b, "min", x, y)


def _extreme(b: Builder, what: str, x: Any, y: Any) -> Any:
    if x.type == F32:
        return assembly(b, f"{what}.NaN.f32 $0, $1, $2;", F32, "=f,f,f", x, y)
    either = assembly(b, f"{what}.f64 $0, $1, $2;", F64, "=d,d,d", x, y)  # of a NaN and a number it is the number
    return b.select(b.fcmp_unordered("uno", x, y), b.fadd(x, y), either)


def _remainder(b: Builder, x: Any, by: Any) -> Any:
    mod = device(b, "fmod", x, by)
    return b.select(_wrong_sign(b, mod, by), b.fadd(mod, by), mod)


def _wrong_sign(b: Builder, mod: Any, by: Any) -> Any:
    """Does C's remainder differ in sign from the divisor, as Python's never does?"""
    zero = mod.type(0)
    other = b.xor(b.fcmp_ordered("<", by, zero), b.fcmp_ordered("<", mod, zero))
    return b.and_(b.fcmp_unordered("!=", mod, zero), other)


def _floordiv(b: Builder, x: Any, by: Any) -> Any:
    """torch's floor division: exact where x / by is near a whole number."""
    ty = x.type
    mod, quotient = device(b, "fmod", x, by), b.fdiv(x, by)
    div = b.fdiv(b.fsub(x, mod), by)
    div = b.select(_wrong_sign(b, mod, by), b.fsub(div, ty(1)), div)
    whole = device(b, "floor", div)
    late = b.fcmp_ordered(">", b.fsub(div, whole), ty(0.5))
    whole = b.select(late, b.fadd(whole, ty(1)), whole)
    zero = b.fcmp_ordered("==", div, ty(0))
    whole = b.select(zero, device(b, "copysign", ty(0), quotient), whole)
    return b.select(b.fcmp_ordered("==", by, ty(0)), quotient, whole)


def _bits(b: Builder, x: Any) -> Any:
    return b.bitcast(x, I64) if x.type == F64 else b.sext(b.bitcast(x, I32), I64)


def _declare_floats(s: str) -> None:
    ty = FLOATS[s]
    for name in ("sqrt", "floor", "ceil", "trunc", "rint"):
        word(f"{name}_{s}", s, s, lambda b, x, name=name: device(b, name, x))
    word(f"abs_{s}", s, s, absolute)
    word(f"copysign_{s}", s, f"{s} {s}", lambda b, x, y: device(b, "copysign", x, y))
    word(f"fmax_{s}", s, f"{s} {s}", lambda b, x, y: device(b, "fmax", x, y))
    word(f"fmin_{s}", s, f"{s} {s}", lambda b, x, y: device(b, "fmin", x, y))
    word(f"maximum_{s}", s, f"{s} {s}", maximum)
    word(f"minimum_{s}", s, f"{s} {s}", minimum)
    word(f"fma_{s}", s, f"{s} {s} {s}", lambda b, x, y, z: device(b, "fma", x, y, z))
    word(f"add_{s}", s, f"{s} {s}", Builder.fadd)
    word(f"mul_{s}", s, f"{s} {s}", Builder.fmul)
    word(f"fmod_{s}", s, f"{s} {s}", lambda b, x, y: device(b, "fmod", x, y))
    word(f"remainder_{s}", s, f"{s} {s}", _remainder)
    word(f"floordiv_{s}", s, f"{s} {s}", _floordiv)
    inf = ty(float("inf"))
    word(f"isnan_{s}", "b1", s, _isnan)
    word(f"isinf_{s}", "b1", s, lambda b, x: b.fcmp_ordered("==", absolute(b, x), inf))
    word(f"isfinite_{s}", "b1", s, lambda b, x: b.fcmp_ordered("<", absolute(b, x), inf))
    word(f"signbit_{s}", "b1", s, lambda b, x: b.icmp_signed("<", _bits(b, x), I64(0)))
    word(f"bits_{s}", "i64", s, _bits)
    word(f"from_bits_{s}", s, "i64", lambda b, i: b.bitcast(i if ty == F64 else b.trunc(i, I32), ty))


# --------------------------------------------------------------------------------------- integers
def larger(b: Builder, x: Any, y: Any) -> Any:
    return b.select(b.icmp_signed(">", x, y), x, y)


def smaller(b: Builder, x: Any, y: Any) -> Any:
    return b.select(b.icmp_signed("<", x, y), x, y)


def _mul_wide(b: Builder, x: Any, y: Any) -> Any:
    """The product of two 32-bit words; LLVM would make a product of 64 bits of it, which takes four instructions."""
    return assembly(b, "mul.wide.u32 $0, $1, $2;", I64, "=l,r,r", b.trunc(x, I32), b.trunc(y, I32))


def _philox(kind: Any) -> Emit:
    return lambda b, place, seed, draw: philox(b, place, seed, draw, kind, lambda b, x, y: _mul_wide(b, x, I64(y)))


def _declare_integers() -> None:
    two = "i64 i64"
    word("add_i64", "i64", two, lambda b, x, y: b.add(x, y))
    word("sub_i64", "i64", two, lambda b, x, y: b.sub(x, y))
    word("mul_i64", "i64", two, lambda b, x, y: b.mul(x, y))
    word("mul_wide_u32", "i64", two, _mul_wide)
    for s, ty in (("i64", I64), ("f32", F32), ("f64", F64)):
        word(f"philox_{s}", s, "i64 i64 i64", _philox(ty))
    word("neg_i64", "i64", "i64", lambda b, x: b.sub(I64(0), x))
    word("abs_i64", "i64", "i64", lambda b, x: b.select(b.icmp_signed("<", x, I64(0)), b.sub(I64(0), x), x))
    word("maximum_i64", "i64", two, larger)
    word("minimum_i64", "i64", two, smaller)
    word("floordiv_i64", "i64", two, floordiv_int)
    word("remainder_i64", "i64", two, remainder_int)
    word("fmod_i64", "i64", two, fmod_int)
    word("pow_i64", "i64", two, pow_int)
    word("int_pow_i64", "i64", two, pow_int)
    word("shl_i64", "i64", two, lambda b, x, n: shift(b, b.shl, x, n, I64(0)))
    word("ushr_i64", "i64", two, lambda b, x, n: shift(b, b.lshr, x, n, I64(0)))
    word("shr_i64", "i64", two, lambda b, x, n: shift(b, b.ashr, x, n, b.ashr(x, I64(63))))


# ------------------------------------------------------------------------------------------ casts
def _narrowed(b: Builder, x: Any, bits: int, signed: bool) -> Any:
    """An int64 that holds an integer of that width."""
    if bits == 64:
        return x
    return (b.sext if signed else b.zext)(b.trunc(x, ir.IntType(bits)), I64)


def _float_to_int(b: Builder, x: Any, bits: int, signed: bool) -> Any:
    """Towards zero; NaN and what does not fit give the least int64 (int32 below 64 bits, then cut)."""
    wide = bits == 64
    letter, ty = ("f", "float") if x.type == F32 else ("d", "double")
    ty_int = I64 if wide else I32
    limit = float(2 ** 63 if wide else 2 ** 31)
    whole = call(b, f"__nv_{ty}2{'ll' if wide else 'int'}_rz", ty_int, x)  # defined for every argument, unlike `fptosi`
    low = -limit if letter == "f" or wide else -limit - 1  # doubles reach below the least int32 by a fraction
    fits = b.fcmp_ordered(">=" if low == -limit else ">", x, x.type(low))
    fits = b.and_(fits, b.fcmp_ordered("<", x, x.type(limit)))
    whole = b.select(fits, whole, ty_int(-(2 ** (ty_int.width - 1))))
    return _narrowed(b, whole if wide else b.sext(whole, I64), bits, signed)


def _half_to_float(b: Builder, h: Any) -> Any:
    return assembly(b, "cvt.f32.f16 $0, $1;", F32, "=f,h", h)


def _bfloat_to_float(b: Builder, h: Any) -> Any:
    return b.bitcast(b.shl(b.zext(h, I32), I32(16)), F32)


def _double_to_odd(b: Builder, x: Any) -> Any:
    """float32 of a float64, rounded to odd: rounding that once more is rounding once."""
    near = call(b, "__nv_double2float_rz", F32, x)
    bits = b.bitcast(near, I32)
    exact = b.fcmp_unordered("ueq", b.fpext(near, F64), x)
    return b.bitcast(b.select(exact, bits, b.or_(bits, I32(1))), F32)


def _to_bfloat(b: Builder, x: Any) -> Any:
    return assembly(b, "cvt.rn.bf16.f32 $0, $1;", I16, "=h,f", x)


def _declare_casts() -> None:
    def boolean(ty: Any, one: Any, zero: Any) -> Emit:
        return lambda b, x: b.select(x, ty(one), ty(zero))

    same = lambda b, x: x  # noqa: E731
    index = lambda b, x: x if x.type == I64 else b.sext(x, I64)  # noqa: E731
    for name, bits, signed in (("i64", 64, True), ("i32", 32, True), ("i16", 16, True), ("i8", 8, True), ("u8", 8, False)):
        real = lambda b, x, bits=bits, signed=signed: _float_to_int(b, x, bits, signed)  # noqa: E731
        whole = lambda b, x, bits=bits, signed=signed: _narrowed(b, x, bits, signed)  # noqa: E731
        CASTS[f"to_{name}"] = "i64", {"f32": real, "f64": real, "i64": whole, "b1": boolean(I64, 1, 0),
                                      "ix": lambda b, x, whole=whole: whole(b, index(b, x))}
    CASTS["to_ix"] = "ix", {"i64": lambda b, x: x if setting.wide else b.trunc(x, I32), "ix": same}
    to_f32 = {"f32": same, "f64": lambda b, x: b.fptrunc(x, F32), "i64": lambda b, x: b.sitofp(x, F32),
              "b1": boolean(F32, 1.0, 0.0), "ix": lambda b, x: b.sitofp(x, F32),
              "f16": _half_to_float, "bf16": _bfloat_to_float}
    to_f64 = {"f32": lambda b, x: b.fpext(x, F64), "f64": same, "i64": lambda b, x: b.sitofp(x, F64),
              "b1": boolean(F64, 1.0, 0.0), "ix": lambda b, x: b.sitofp(x, F64),
              "f16": lambda b, h: b.fpext(_half_to_float(b, h), F64),
              "bf16": lambda b, h: b.fpext(_bfloat_to_float(b, h), F64)}
    for name, kind, table in (("to_f32", "f32", to_f32), ("f4", "f32", to_f32), ("to_f64", "f64", to_f64),
                              ("f8", "f64", to_f64)):
        CASTS[name] = kind, table
    zero = lambda b, x: b.fcmp_unordered("!=", x, x.type(0))  # noqa: E731
    CASTS["to_b1"] = "b1", {"f32": zero, "f64": zero, "i64": lambda b, x: b.icmp_signed("!=", x, I64(0)), "b1": same}
    CASTS["to_f16"] = "f16", {
        "f32": lambda b, x: assembly(b, "cvt.rn.f16.f32 $0, $1;", I16, "=h,f", x),
        "f64": lambda b, x: assembly(b, "cvt.rn.f16.f64 $0, $1;", I16, "=h,d", x), "f16": same}
    CASTS["to_bf16"] = "bf16", {
        "f32": _to_bfloat, "f64": lambda b, x: _to_bfloat(b, _double_to_odd(b, x)), "bf16": same}


# -------------------------------------------------------------------------------------- operators
def _compared(b: Builder, compare: Emit, sign: str, x: Any, y: Any) -> Any:
    if sign == "==":
        setting.compares = True
    return compare(b, sign, x, y)


def _declare_operators() -> None:
    for name in ("add", "sub", "mul"):  # indices never overflow: a promise that helps with addresses
        emit, real = getattr(Builder, name), getattr(Builder, f"f{name}")
        index = lambda b, x, y, emit=emit: emit(b, x, y, flags=("nsw",))  # noqa: E731
        OPERATORS[name] = {"ix": index, "i64": emit, "f32": real, "f64": real}
    OPERATORS["truediv"] = {"f32": Builder.fdiv, "f64": Builder.fdiv}
    OPERATORS["floordiv"] = {"ix": floordiv_int, "i64": floordiv_int}
    OPERATORS["mod"] = {"ix": remainder_int, "i64": remainder_int}
    for name in ("and_", "or_", "xor"):
        emit = getattr(Builder, name)
        OPERATORS[name] = {"ix": emit, "i64": emit, "b1": emit}
    for name, sign in COMPARISONS.items():
        compare = Builder.fcmp_unordered if name == "ne" else Builder.fcmp_ordered
        real = lambda b, x, y, sign=sign, compare=compare: _compared(b, compare, sign, x, y)  # noqa: E731
        whole = lambda b, x, y, sign=sign: b.icmp_signed(sign, x, y)  # noqa: E731
        bits = {"b1": lambda b, x, y, sign=sign: b.icmp_unsigned(sign, x, y)} if name in ("eq", "ne") else {}
        OPERATORS[name] = {"ix": whole, "i64": whole, "f32": real, "f64": real, **bits}
    minus = lambda b, x: b.sub(x.type(0), x)  # noqa: E731
    OPERATORS["neg"] = {"ix": minus, "i64": minus, "f32": negated, "f64": negated}
    OPERATORS["invert"] = {"i64": Builder.not_}
    OPERATORS["not_"] = {"b1": Builder.not_}


def _declare_all() -> None:
    _declare_coordinates()
    for suffix in FLOATS:
        _declare_floats(suffix)
    for name, arity in mathematics.ARITY.items():
        kind = name.rsplit("_", 1)[1]
        word(name, kind, " ".join([kind] * arity), lambda b, *args, name=name: mathematics.called(b, name, args))
    _declare_integers()
    _declare_casts()
    _declare_operators()


_declare_all()
