"""What each word and operator of kernel text is to LLVM: types of its arguments, type of its result, instructions.

In: names of words.  Out: `WORDS` and `OPERATORS`, which both readers of kernel text share: `direct`, which needs nothing
else, and `library`, which tells them to Numba.  Types are the language's four: f32, f64, i64, b1; nothing is promoted.
Never imports Numba.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from llvmlite.ir import IRBuilder as Builder

from autojit.backends.cpu import interpret
from autojit.backends.cpu.instructions import (
    F16,
    F32,
    F64,
    I1,
    I16,
    I32,
    I64,
    declared,
    floordiv_float,
    floordiv_int,
    fmod_int,
    intrinsic,
    philox,
    pow_int,
    remainder_float,
    remainder_int,
    shift,
    to_bfloat,
    to_bool,
    to_float,
    to_half,
    to_integer,
    wide,
)

Emit = Callable[..., Any]
LLVM = {"f32": F32, "f64": F64, "i64": I64, "b1": I1, "f16": F16, "bf16": I16}    # nothing else is an i16: see `loaded`
WIDTHS = {"i64": 64, "i32": 32, "i16": 16, "i8": 8, "u8": 8}
FREE_ORDER = ("reassoc", "contract")


class Word:
    """`kinds`: types of the arguments; `result`: type of the value; `emit`: builder and LLVM values to an LLVM value."""

    __slots__ = ("kinds", "result", "emit")

    def __init__(self, kinds: tuple[str, ...], result: str, emit: Emit) -> None:
        self.kinds, self.result, self.emit = kinds, result, emit


WORDS: dict[str, Word] = {}
"""Words of fixed types."""

CASTS: dict[str, tuple[str, Emit]] = {}
"""Words of one argument of any type: type of the value, instructions."""

OPERATORS: dict[str, dict[str, Emit]] = {}
"""Operators on equal types: name (as in `operator`) → type → instructions."""

COMPARISONS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}


def word(name: str, result: str, wanted: str, emit: Emit) -> None:
    WORDS[name] = Word(tuple(wanted.split()), result, emit)


# ---------------------------------------------------------------------------------------- memory
def memory_type(view: str) -> ir.Type:
    """The type of a view's elements in memory."""
    return LLVM[view] if view in ("f32", "f64", "f16", "bf16") else ir.IntType(WIDTHS.get(view, 8))


def table_word(b: Builder, table: Any, slot: Any) -> Any:
    """The address of a word of the argument table."""
    return b.gep(table, [slot], inbounds=True)


def load_word(b: Builder, table: Any, slot: Any) -> Any:
    """A word of the argument table, which no kernel changes."""
    value = b.load(table_word(b, table, slot))
    value.set_metadata("invariant.load", b.module.add_metadata([]))
    return value


SLOTS: dict[str, tuple[str, Emit]] = {
    "size": ("i64", lambda b, w: w),
    "c_i64": ("i64", lambda b, w: w),
    "c_f64": ("f64", lambda b, w: b.bitcast(w, F64)),
    "c_f32": ("f32", lambda b, w: b.fptrunc(b.bitcast(w, F64), F32)),
}
"""Words that read a slot of the table: type, and instructions over the slot's 64 bits."""


def scopes(module: ir.Module, k: int, n: int) -> tuple[Any, Any]:
    """What tells LLVM that an access to buffer k of n meets none of the others: ``alias.scope`` and ``noalias``."""
    domain = module.add_metadata(["autojit buffers"])
    all_of_them = [module.add_metadata([f"autojit buffer {i}", domain]) for i in range(n)]
    others = [s for i, s in enumerate(all_of_them) if i != k]
    return module.add_metadata([all_of_them[k]]), module.add_metadata(others) if others else None


# --------------------------------------------------------------------------------------- declaring
def _declare_floats(s: str) -> None:
    """The words with suffix _f32 or _f64 that LLVM itself knows."""
    ty, bits = LLVM[s], I32 if s == "f32" else I64
    for name, llvm in {"sqrt": "sqrt", "floor": "floor", "ceil": "ceil", "trunc": "trunc",
                       "rint": "rint", "abs": "fabs"}.items():
        word(f"{name}_{s}", s, s, lambda b, x, llvm=llvm: intrinsic(b, llvm, x))
    for name, llvm in {"maximum": "maximum", "minimum": "minimum", "fmax": "maxnum",
                       "fmin": "minnum", "copysign": "copysign"}.items():
        word(f"{name}_{s}", s, f"{s} {s}", lambda b, x, y, llvm=llvm: intrinsic(b, llvm, x, y))
    word(f"fma_{s}", s, f"{s} {s} {s}", lambda b, x, y, z: intrinsic(b, "fma", x, y, z))
    word(f"add_{s}", s, f"{s} {s}", lambda b, x, y: b.fadd(x, y, flags=FREE_ORDER))
    word(f"mul_{s}", s, f"{s} {s}", lambda b, x, y: b.fmul(x, y, flags=FREE_ORDER))
    word(f"fmod_{s}", s, f"{s} {s}", lambda b, x, y: b.frem(x, y))
    word(f"remainder_{s}", s, f"{s} {s}", remainder_float)
    word(f"floordiv_{s}", s, f"{s} {s}", floordiv_float)
    word(f"isnan_{s}", "b1", s, lambda b, x: b.fcmp_unordered("uno", x, x))
    word(f"isinf_{s}", "b1", s, lambda b, x: b.fcmp_ordered(
        "==", intrinsic(b, "fabs", x), ty(float("inf"))))
    word(f"isfinite_{s}", "b1", s, lambda b, x: b.fcmp_ordered(
        "<", intrinsic(b, "fabs", x), ty(float("inf"))))
    word(f"signbit_{s}", "b1", s, lambda b, x: b.icmp_signed("<", b.bitcast(x, bits), bits(0)))
    word(f"bits_{s}", "i64", s, lambda b, x: to_integer(b, b.bitcast(x, bits), bits.width))
    word(f"from_bits_{s}", s, "i64", lambda b, i: b.bitcast(
        i if bits == I64 else b.trunc(i, bits), ty))


def _declare_integers() -> None:
    two = "i64 i64"
    word("add_i64", "i64", two, lambda b, x, y: b.add(x, y))
    word("sub_i64", "i64", two, lambda b, x, y: b.sub(x, y))
    word("mul_i64", "i64", two, lambda b, x, y: b.mul(x, y))
    word("neg_i64", "i64", "i64", lambda b, x: b.neg(x))
    word("abs_i64", "i64", "i64", lambda b, x: b.select(
        b.icmp_signed("<", x, I64(0)), b.neg(x), x))
    word("maximum_i64", "i64", two, lambda b, x, y: intrinsic(b, "smax", x, y))
    word("minimum_i64", "i64", two, lambda b, x, y: intrinsic(b, "smin", x, y))
    word("floordiv_i64", "i64", two, floordiv_int)
    word("remainder_i64", "i64", two, remainder_int)
    word("fmod_i64", "i64", two, fmod_int)
    word("pow_i64", "i64", two, pow_int)
    word("shl_i64", "i64", two, lambda b, x, n: shift(b, b.shl, x, n, I64(0)))
    word("ushr_i64", "i64", two, lambda b, x, n: shift(b, b.lshr, x, n, I64(0)))
    word("shr_i64", "i64", two, lambda b, x, n: shift(b, b.ashr, x, n, b.ashr(x, I64(63))))
    for s in ("i64", "f32", "f64"):
        word(f"philox_{s}", s, "i64 i64 i64", lambda b, place, seed, draw, ty=LLVM[s]: philox(b, place, seed, draw, ty))
    word("index_div", "i64", two, lambda b, i, n: b.udiv(i, n))
    word("index_mod", "i64", two, lambda b, i, n: b.urem(i, n))


def _declare_math(name: str, suffix: str) -> None:
    """A function whose code is linked in later (`mathcode`): here it is a name and a type."""
    def emit(b: Builder, *args: Any) -> Any:
        fnty = ir.FunctionType(LLVM[suffix], [a.type for a in args])
        return b.call(declared(b.module, f"autojit_{name}_{suffix}", fnty), args)

    word(f"{name}_{suffix}", suffix, " ".join([suffix] * (2 if name in interpret.BINARY else 1)), emit)


def _declare_casts() -> None:
    for name, bits in WIDTHS.items():
        CASTS[f"to_{name}"] = "i64", lambda b, x, bits=bits, name=name: to_integer(b, x, bits, name != "u8")
    CASTS["to_b1"] = "b1", to_bool
    for name, kind in (("to_f32", "f32"), ("f4", "f32"), ("to_f64", "f64"), ("f8", "f64")):
        CASTS[name] = kind, lambda b, x, ty=LLVM[kind]: to_float(b, x, ty)
    CASTS["to_f32"] = "f32", lambda b, x: wide(b, x) if x.type in (F16, I16) else to_float(b, x, F32)
    word("to_f16", "f16", "f32", to_half)
    word("to_bf16", "bf16", "f32", to_bfloat)


def _declare_operators() -> None:
    for name in ("add", "sub", "mul"):  # indices never overflow: a promise that helps LLVM with addresses
        emit, real = getattr(Builder, name), getattr(Builder, f"f{name}")
        OPERATORS[name] = {"i64": lambda b, x, y, emit=emit: emit(b, x, y, flags=("nsw",)), "f32": real, "f64": real}
    OPERATORS["truediv"] = {"f32": Builder.fdiv, "f64": Builder.fdiv}
    OPERATORS["floordiv"], OPERATORS["mod"] = {"i64": floordiv_int}, {"i64": remainder_int}
    for name in ("and_", "or_", "xor"):
        emit = getattr(Builder, name)
        OPERATORS[name] = {"i64": emit, "b1": emit}
    for name, sign in COMPARISONS.items():
        compare = Builder.fcmp_unordered if name == "ne" else Builder.fcmp_ordered
        real = lambda b, x, y, sign=sign, compare=compare: compare(b, sign, x, y)  # noqa: E731
        whole = lambda b, x, y, sign=sign: b.icmp_signed(sign, x, y)  # noqa: E731
        bits = {"b1": lambda b, x, y, sign=sign: b.icmp_unsigned(sign, x, y)} if name in ("eq", "ne") else {}
        OPERATORS[name] = {"i64": whole, "f32": real, "f64": real, **bits}
    OPERATORS["neg"] = {"i64": lambda b, x: b.sub(I64(0), x, flags=("nsw",)), "f32": Builder.fneg, "f64": Builder.fneg}
    OPERATORS["invert"] = {"i64": Builder.not_}
    OPERATORS["not_"] = {"b1": Builder.not_}


def _declare_all() -> None:
    for suffix in interpret.FLOATS:
        _declare_floats(suffix)
        for name in interpret.MATH:
            _declare_math(name, suffix)
    _declare_integers()
    _declare_casts()
    _declare_operators()


_declare_all()
