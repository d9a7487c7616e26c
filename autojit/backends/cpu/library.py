"""What each word of kernel text means to Numba: a type rule and a few LLVM instructions.

In: names of words.  Out: `TYPING` and `LOWERING`, two Numba registries that any CPU context can install; keys are
the functions of `interpret.python_namespace()`, so one text has one set of words.  A word enters the registries
when `ensure` is told of it (all of them at once would take 20 ms).  Never runs a kernel, and never lets Numba
convert a type by itself: wrong types do not compile.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any

from llvmlite import ir
from llvmlite.ir import IRBuilder as Builder
from numba.core import types as numba_types
from numba.core.datamodel import models, register_default
from numba.core.errors import TypingError
from numba.core.imputils import Registry as LoweringRegistry
from numba.core.typing import signature
from numba.core.typing.templates import AbstractTemplate
from numba.core.typing.templates import Registry as TypingRegistry

from autojit.backends.cpu import interpret
from autojit.backends.cpu.instructions import (
    F32,
    F64,
    I1,
    I8,
    I32,
    I64,
    declared,
    floordiv_float,
    floordiv_int,
    fmod_int,
    intrinsic,
    pow_int,
    power,
    remainder_float,
    remainder_int,
    shift,
    to_bool,
    to_float,
    to_integer,
)

types: Any = numba_types  # a module that fills itself: mypy cannot see its names
TYPING = TypingRegistry()
LOWERING = LoweringRegistry("autojit kernel words")

TABLE = types.CPointer(types.int64)
TYPES = {"f32": types.float32, "f64": types.float64, "i64": types.int64, "b1": types.boolean}
LLVM = {"f32": F32, "f64": F64, "i64": I64, "b1": I1}
WIDTHS = {"i64": 64, "i32": 32, "i16": 16, "i8": 8, "u8": 8}
FREE_ORDER = ("reassoc", "contract")

Emit = Callable[..., Any]


# -------------------------------------------------------------------------------------- declaring
_waiting: dict[str, tuple[Callable[..., Any], Callable[[Any, Builder, Any, Any], Any]]] = {}


def word(name: str, rule: Callable[..., Any], emit: Callable[[Any, Builder, Any, Any], Any]) -> None:
    """Give `name` a type rule (argument types -> result type, or an error) and its instructions."""
    _waiting[name] = rule, emit


def ensure(names: Iterable[str]) -> bool:
    """Put these words (and no others) into the registries; True when one was not there before."""
    new = [name for name in names if name in _waiting]
    for name in new:
        _register(interpret.python_namespace()[name], *_waiting.pop(name))
    return bool(new)


def _register(function: Any, rule: Callable[..., Any], emit: Callable[[Any, Builder, Any, Any], Any]) -> None:
    class Template(AbstractTemplate):
        key = function

        def generic(self, args: Any, kws: Any) -> Any:
            plain = tuple(types.unliteral(a) for a in args)
            result = rule(*args)
            if isinstance(result, tuple):  # a rule may keep literal argument types
                result, plain = result
            return signature(result, *plain)

    TYPING.register_global(function, types.Function(Template))
    LOWERING.lower(function, types.VarArg(types.Any))(emit)


def simple(name: str, result: str, wanted: str, emit: Emit) -> None:
    """A word of fixed types: ``simple("sqrt_f32", "f32", "f32", emit)``; emit gets builder, values."""
    kinds = wanted.split()

    def rule(*args: Any) -> Any:
        got = [types.unliteral(a) for a in args]
        if got != [TYPES[k] for k in kinds]:
            raise TypingError(f"{name} wants ({', '.join(kinds)}), got ({', '.join(map(str, got))})")
        return TYPES[result]

    word(name, rule, lambda ctx, b, sig, args: emit(b, *args))


# ---------------------------------------------------------------------------------------- buffers
class Buffer(types.Type):
    """A typed pointer that overlaps no other buffer of its kernel: number `k` of `n`."""

    def __init__(self, view: str, k: int, n: int) -> None:
        self.view, self.k, self.n = view, k, n
        self.value = TYPES.get(view, types.int64)
        super().__init__(f"Buffer({view}, {k}, {n})")


def _memory_type(view: str) -> ir.Type:
    if view in ("f32", "f64"):
        return LLVM[view]
    return ir.IntType(WIDTHS.get(view, 8))


@register_default(Buffer)
class BufferModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Buffer) -> None:
        super().__init__(dmm, fe_type, _memory_type(fe_type.view).as_pointer())


def _table_word(b: Builder, table: Any, slot: Any) -> Any:
    return b.gep(table, [slot], inbounds=True)


def _load_word(b: Builder, table: Any, slot: Any) -> Any:
    value = b.load(_table_word(b, table, slot))
    value.set_metadata("invariant.load", b.module.add_metadata([]))
    return value


def _declare_view(view: str) -> None:
    def rule(*args: Any) -> Any:
        if len(args) != 3 or args[0] != TABLE or not all(
                isinstance(a, types.IntegerLiteral) for a in args[1:]):
            raise TypingError(f"{view} wants (args, constant, constant)")
        return Buffer(view, args[1].literal_value, args[2].literal_value), args

    def emit(ctx: Any, b: Builder, sig: Any, args: Any) -> Any:
        address = _load_word(b, args[0], ir.Constant(I64, sig.return_type.k))
        return b.inttoptr(address, ctx.get_value_type(sig.return_type))

    word(view, rule, emit)


def _scoped(module: ir.Module, access: Any, buffer: Buffer) -> Any:
    """Tell LLVM which buffer an access belongs to, and that it meets none of the others."""
    domain = module.add_metadata(["autojit buffers"])
    scopes = [module.add_metadata([f"autojit buffer {i}", domain]) for i in range(buffer.n)]
    access.set_metadata("alias.scope", module.add_metadata([scopes[buffer.k]]))
    if buffer.n > 1:
        others = [s for i, s in enumerate(scopes) if i != buffer.k]
        access.set_metadata("noalias", module.add_metadata(others))
    return access


class _GetItem(AbstractTemplate):
    key = operator.getitem

    def generic(self, args: Any, kws: Any) -> Any:
        buffer, index = args
        if isinstance(buffer, Buffer):
            if types.unliteral(index) != types.int64:
                raise TypingError(f"an index of {buffer} is {index}, not int64")
            return signature(buffer.value, buffer, types.int64)
        return None


class _SetItem(AbstractTemplate):
    key = operator.setitem

    def generic(self, args: Any, kws: Any) -> Any:
        buffer, index, value = args
        if isinstance(buffer, Buffer):
            if types.unliteral(index) != types.int64 or types.unliteral(value) != buffer.value:
                raise TypingError(f"a store of {value} at {index} to {buffer}")
            return signature(types.none, buffer, types.int64, buffer.value)
        return None


TYPING.register_global(operator.getitem, types.Function(_GetItem))
TYPING.register_global(operator.setitem, types.Function(_SetItem))


@LOWERING.lower(operator.getitem, Buffer, types.int64)
def _getitem(ctx: Any, b: Builder, sig: Any, args: Any) -> Any:
    buffer = sig.args[0]
    value = _scoped(b.module, b.load(b.gep(args[0], [args[1]], inbounds=True)), buffer)
    if buffer.view == "b1":
        return b.icmp_unsigned("!=", value, I8(0))
    if buffer.view in ("i32", "i16", "i8"):
        return b.sext(value, I64)
    return b.zext(value, I64) if buffer.view == "u8" else value


@LOWERING.lower(operator.setitem, Buffer, types.int64, types.Any)
def _setitem(ctx: Any, b: Builder, sig: Any, args: Any) -> Any:
    buffer, value = sig.args[0], args[2]
    memory = _memory_type(buffer.view)
    if buffer.view == "b1":
        value = b.zext(value, memory)
    elif value.type != memory:
        value = b.trunc(value, memory)
    _scoped(b.module, b.store(value, b.gep(args[0], [args[1]], inbounds=True)), buffer)
    return ctx.get_dummy_value()


# ------------------------------------------------------------------------------------------ slots
def _declare_slot(name: str, kind: str, emit: Emit) -> None:
    def rule(*args: Any) -> Any:
        if len(args) != 2 or args[0] != TABLE or not isinstance(args[1], types.IntegerLiteral):
            raise TypingError(f"{name} wants (args, constant)")
        return TYPES[kind]

    word(name, rule, lambda ctx, b, sig, args: emit(b, _load_word(b, *args)))


def _set_error_rule(*args: Any) -> Any:
    if len(args) != 3 or args[0] != TABLE or any(types.unliteral(a) != types.int64 for a in args[1:]):
        raise TypingError("set_error wants (args, slot, code)")
    return types.none


def _set_error(ctx: Any, b: Builder, sig: Any, args: Any) -> Any:
    b.store(args[2], _table_word(b, args[0], args[1]))
    return ctx.get_dummy_value()


# ------------------------------------------------------------------------------- casts and choice
def _declare_cast(name: str, kind: str, emit: Emit) -> None:
    def rule(*args: Any) -> Any:
        if len(args) != 1 or types.unliteral(args[0]) not in TYPES.values():
            raise TypingError(f"{name} wants one number, got {args}")
        return TYPES[kind]

    word(name, rule, lambda ctx, b, sig, args: emit(b, *args))


def _select_rule(*args: Any) -> Any:
    cond, a, b = (types.unliteral(x) for x in args)
    if cond != types.boolean or a != b or a not in TYPES.values():
        raise TypingError(f"select wants (b1, T, T), got {args}")
    return a


# --------------------------------------------------------------------------------- float words
def _declare_powi(suffix: str) -> None:
    def rule(*args: Any) -> Any:
        if (len(args) != 2 or types.unliteral(args[0]) != TYPES[suffix]
                or not isinstance(args[1], types.IntegerLiteral)
                or (suffix == "i64" and args[1].literal_value < 0)):
            raise TypingError(f"powi_{suffix} wants ({suffix}, integer constant), got {args}")
        return TYPES[suffix], (TYPES[suffix], args[1])

    def emit(ctx: Any, b: Builder, sig: Any, args: Any) -> Any:
        return power(b, args[0], sig.args[1].literal_value)

    word(f"powi_{suffix}", rule, emit)


def _declare_floats(s: str) -> None:
    """The words with suffix _f32 or _f64 that LLVM itself knows."""
    ty, bits = LLVM[s], I32 if s == "f32" else I64
    for name, llvm in {"sqrt": "sqrt", "floor": "floor", "ceil": "ceil", "trunc": "trunc",
                       "rint": "rint", "abs": "fabs"}.items():
        simple(f"{name}_{s}", s, s, lambda b, x, llvm=llvm: intrinsic(b, llvm, x))
    for name, llvm in {"maximum": "maximum", "minimum": "minimum", "fmax": "maxnum",
                       "fmin": "minnum", "copysign": "copysign"}.items():
        simple(f"{name}_{s}", s, f"{s} {s}", lambda b, x, y, llvm=llvm: intrinsic(b, llvm, x, y))
    simple(f"fma_{s}", s, f"{s} {s} {s}", lambda b, x, y, z: intrinsic(b, "fma", x, y, z))
    simple(f"add_{s}", s, f"{s} {s}", lambda b, x, y: b.fadd(x, y, flags=FREE_ORDER))
    simple(f"mul_{s}", s, f"{s} {s}", lambda b, x, y: b.fmul(x, y, flags=FREE_ORDER))
    simple(f"fmod_{s}", s, f"{s} {s}", lambda b, x, y: b.frem(x, y))
    simple(f"remainder_{s}", s, f"{s} {s}", remainder_float)
    simple(f"floordiv_{s}", s, f"{s} {s}", floordiv_float)
    simple(f"isnan_{s}", "b1", s, lambda b, x: b.fcmp_unordered("uno", x, x))
    simple(f"isinf_{s}", "b1", s, lambda b, x: b.fcmp_ordered(
        "==", intrinsic(b, "fabs", x), ty(float("inf"))))
    simple(f"isfinite_{s}", "b1", s, lambda b, x: b.fcmp_ordered(
        "<", intrinsic(b, "fabs", x), ty(float("inf"))))
    simple(f"signbit_{s}", "b1", s, lambda b, x: b.icmp_signed("<", b.bitcast(x, bits), bits(0)))
    simple(f"bits_{s}", "i64", s, lambda b, x: to_integer(b, b.bitcast(x, bits), bits.width))
    simple(f"from_bits_{s}", s, "i64", lambda b, i: b.bitcast(
        i if bits == I64 else b.trunc(i, bits), ty))
    _declare_powi(s)


# ------------------------------------------------------------------------------- integer words
def _declare_integers() -> None:
    two = "i64 i64"
    simple("add_i64", "i64", two, lambda b, x, y: b.add(x, y))
    simple("sub_i64", "i64", two, lambda b, x, y: b.sub(x, y))
    simple("mul_i64", "i64", two, lambda b, x, y: b.mul(x, y))
    simple("neg_i64", "i64", "i64", lambda b, x: b.neg(x))
    simple("abs_i64", "i64", "i64", lambda b, x: b.select(
        b.icmp_signed("<", x, I64(0)), b.neg(x), x))
    simple("maximum_i64", "i64", two, lambda b, x, y: intrinsic(b, "smax", x, y))
    simple("minimum_i64", "i64", two, lambda b, x, y: intrinsic(b, "smin", x, y))
    simple("floordiv_i64", "i64", two, floordiv_int)
    simple("remainder_i64", "i64", two, remainder_int)
    simple("fmod_i64", "i64", two, fmod_int)
    simple("pow_i64", "i64", two, pow_int)
    simple("shl_i64", "i64", two, lambda b, x, n: shift(b, b.shl, x, n, I64(0)))
    simple("ushr_i64", "i64", two, lambda b, x, n: shift(b, b.lshr, x, n, I64(0)))
    simple("shr_i64", "i64", two, lambda b, x, n: shift(b, b.ashr, x, n, b.ashr(x, I64(63))))
    simple("index_div", "i64", two, lambda b, i, n: b.udiv(i, n))
    simple("index_mod", "i64", two, lambda b, i, n: b.urem(i, n))
    _declare_powi("i64")


# ------------------------------------------------------------------------------------ mathematics
def _declare_math(name: str, suffix: str) -> None:
    """A function whose code is linked in later (`mathcode`): here it is a name and a type."""
    kinds = " ".join([suffix] * (2 if name in interpret.BINARY else 1))

    def emit(b: Builder, *args: Any) -> Any:
        fnty = ir.FunctionType(LLVM[suffix], [a.type for a in args])
        return b.call(declared(b.module, f"autojit_{name}_{suffix}", fnty), args)

    simple(f"{name}_{suffix}", suffix, kinds, emit)


# -------------------------------------------------------------------------------------- operators
def _declare_operator(keys: tuple[Any, ...], emits: dict[str, Emit], result: str | None = None, arity: int = 2) -> None:
    """An operator of Python on equal types: kind -> instructions.  Nothing is promoted, unlike in Numba."""
    for key in keys:
        operator_key = key

        class Template(AbstractTemplate):
            key = operator_key

            def generic(self, args: Any, kws: Any) -> Any:
                plain = [types.unliteral(a) for a in args]
                kinds = [k for k, ty in TYPES.items() if k in emits and plain == [ty] * arity]
                if not kinds:
                    name = getattr(operator_key, "__name__", operator_key)
                    raise TypingError(f"{name} of ({', '.join(map(str, plain))})")
                return signature(TYPES[result or kinds[0]], *plain)

        TYPING.register_global(key, types.Function(Template))
        for kind, emit in emits.items():
            LOWERING.lower(key, *[TYPES[kind]] * arity)(lambda ctx, b, sig, args, emit=emit: emit(b, *args))


def _declare_operators() -> None:
    index = {"add": ir.IRBuilder.add, "sub": ir.IRBuilder.sub, "mul": ir.IRBuilder.mul}
    for name, emit in index.items():  # never overflows: a promise that helps LLVM with addresses
        real = getattr(ir.IRBuilder, f"f{name}")
        _declare_operator((getattr(operator, name), getattr(operator, f"i{name}")), {
            "i64": lambda b, x, y, emit=emit: emit(b, x, y, flags=("nsw",)), "f32": real, "f64": real})
    _declare_operator((operator.truediv, operator.itruediv), {"f32": ir.IRBuilder.fdiv, "f64": ir.IRBuilder.fdiv})
    _declare_operator((operator.floordiv, operator.ifloordiv), {"i64": floordiv_int})
    _declare_operator((operator.mod, operator.imod), {"i64": remainder_int})
    for name in ("and_", "or_", "xor"):
        emit = getattr(ir.IRBuilder, name)
        _declare_operator((getattr(operator, name), getattr(operator, f"i{name.rstrip('_')}")), {"i64": emit, "b1": emit})
    for name, sign in {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}.items():
        whole = lambda b, x, y, sign=sign: b.icmp_signed(sign, x, y)
        compare = ir.IRBuilder.fcmp_unordered if name == "ne" else ir.IRBuilder.fcmp_ordered
        real = lambda b, x, y, sign=sign, compare=compare: compare(b, sign, x, y)
        bits = {"b1": lambda b, x, y, sign=sign: b.icmp_unsigned(sign, x, y)} if name in ("eq", "ne") else {}
        _declare_operator((getattr(operator, name),), {"i64": whole, "f32": real, "f64": real, **bits}, "b1")
    negate = ir.IRBuilder.fneg
    _declare_operator((operator.neg,), {"i64": lambda b, x: b.sub(I64(0), x, flags=("nsw",)),
                                        "f32": negate, "f64": negate}, arity=1)
    _declare_operator((operator.invert,), {"i64": ir.IRBuilder.not_}, arity=1)
    _declare_operator((operator.not_,), {"b1": ir.IRBuilder.not_}, arity=1)
    _declare_operator((bool,), {"b1": lambda b, x: x}, arity=1)  # what `if` asks


def _declare_all() -> None:
    for view in interpret.VIEWS:
        _declare_view(view)
    _declare_slot("size", "i64", lambda b, w: w)
    _declare_slot("c_i64", "i64", lambda b, w: w)
    _declare_slot("c_f64", "f64", lambda b, w: b.bitcast(w, F64))
    _declare_slot("c_f32", "f32", lambda b, w: b.fptrunc(b.bitcast(w, F64), F32))
    word("set_error", _set_error_rule, _set_error)
    word("select", _select_rule, lambda ctx, b, sig, args: b.select(*args))
    for name, bits in WIDTHS.items():
        _declare_cast(f"to_{name}", "i64",
                      lambda b, x, bits=bits, name=name: to_integer(b, x, bits, name != "u8"))
    _declare_cast("to_b1", "b1", to_bool)
    for name, kind in (("to_f32", "f32"), ("f4", "f32"), ("to_f64", "f64"), ("f8", "f64")):
        _declare_cast(name, kind, lambda b, x, ty=LLVM[kind]: to_float(b, x, ty))
    for suffix in interpret.FLOATS:
        _declare_floats(suffix)
        for name in interpret.MATH:
            _declare_math(name, suffix)
    _declare_integers()
    _declare_operators()


_declare_all()
