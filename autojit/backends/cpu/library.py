"""What each word of kernel text means to Numba: a type rule and a few LLVM instructions.

In: names of words (their instructions are in `words`).  Out: `TYPING` and `LOWERING`, two Numba registries that any CPU
context can install; keys are the functions of `interpret.python_namespace()`, so one text has one set of words.  A word
enters the registries when `ensure` is told of it (all of them at once would take 20 ms).  Never runs a kernel, and never
lets Numba convert a type by itself: wrong types do not compile.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any

from llvmlite.ir import IRBuilder as Builder
from numba.core import types as numba_types
from numba.core.datamodel import models, register_default
from numba.core.errors import TypingError
from numba.core.imputils import Registry as LoweringRegistry
from numba.core.typing import signature
from numba.core.typing.templates import AbstractTemplate
from numba.core.typing.templates import Registry as TypingRegistry

from autojit.backends.cpu import interpret
from autojit.backends.cpu.instructions import I64, loaded, power, stored
from autojit.backends.cpu.words import (
    CASTS,
    COMPARISONS,
    OPERATORS,
    SLOTS,
    WORDS,
    load_word,
    memory_type,
    scopes,
    table_word,
)

types: Any = numba_types  # a module that fills itself: mypy cannot see its names
TYPING = TypingRegistry()
LOWERING = LoweringRegistry("autojit kernel words")

TABLE = types.CPointer(types.int64)


class Half(types.Type):
    """A float of two bytes that is only carried about: f16 or bf16."""


TYPES = {"f32": types.float32, "f64": types.float64, "i64": types.int64, "b1": types.boolean,
         "f16": Half("f16"), "bf16": Half("bf16")}
NUMBERS = [ty for ty in TYPES.values() if not isinstance(ty, Half)]

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


@register_default(Half)
class HalfModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Half) -> None:
        super().__init__(dmm, fe_type, memory_type(fe_type.name))


@register_default(Buffer)
class BufferModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Buffer) -> None:
        super().__init__(dmm, fe_type, memory_type(fe_type.view).as_pointer())


def _declare_view(view: str) -> None:
    def rule(*args: Any) -> Any:
        if len(args) != 3 or args[0] != TABLE or not all(
                isinstance(a, types.IntegerLiteral) for a in args[1:]):
            raise TypingError(f"{view} wants (args, constant, constant)")
        return Buffer(view, args[1].literal_value, args[2].literal_value), args

    def emit(ctx: Any, b: Builder, sig: Any, args: Any) -> Any:
        address = load_word(b, args[0], I64(sig.return_type.k))
        return b.inttoptr(address, ctx.get_value_type(sig.return_type))

    word(view, rule, emit)


def _scoped(module: Any, access: Any, buffer: Buffer) -> Any:
    """Tell LLVM which buffer an access belongs to, and that it meets none of the others."""
    own, others = scopes(module, buffer.k, buffer.n)
    access.set_metadata("alias.scope", own)
    if others is not None:
        access.set_metadata("noalias", others)
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
    return loaded(b, _scoped(b.module, b.load(b.gep(args[0], [args[1]], inbounds=True)), buffer), buffer.view)


@LOWERING.lower(operator.setitem, Buffer, types.int64, types.Any)
def _setitem(ctx: Any, b: Builder, sig: Any, args: Any) -> Any:
    buffer = sig.args[0]
    place = b.gep(args[0], [args[1]], inbounds=True)
    _scoped(b.module, b.store(stored(b, args[2], memory_type(buffer.view)), place), buffer)
    return ctx.get_dummy_value()


# ------------------------------------------------------------------------------------------ slots
def _declare_slot(name: str, kind: str, emit: Emit) -> None:
    def rule(*args: Any) -> Any:
        if len(args) != 2 or args[0] != TABLE or not isinstance(args[1], types.IntegerLiteral):
            raise TypingError(f"{name} wants (args, constant)")
        return TYPES[kind]

    word(name, rule, lambda ctx, b, sig, args: emit(b, load_word(b, *args)))


def _set_error_rule(*args: Any) -> Any:
    if len(args) != 3 or args[0] != TABLE or any(types.unliteral(a) != types.int64 for a in args[1:]):
        raise TypingError("set_error wants (args, slot, code)")
    return types.none


def _set_error(ctx: Any, b: Builder, sig: Any, args: Any) -> Any:
    b.store(args[2], table_word(b, args[0], args[1]))
    return ctx.get_dummy_value()


# ------------------------------------------------------------------------------- casts and choice
def _declare_cast(name: str, kind: str, emit: Emit) -> None:
    def rule(*args: Any) -> Any:
        if len(args) != 1 or types.unliteral(args[0]) not in (TYPES.values() if name == "to_f32" else NUMBERS):
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
    for name, emits in OPERATORS.items():
        keys = [getattr(operator, name)]
        inplace = f"i{name.rstrip('_')}"
        if name not in COMPARISONS and hasattr(operator, inplace):
            keys.append(getattr(operator, inplace))
        unary = name in ("neg", "invert", "not_")
        _declare_operator(tuple(keys), emits, "b1" if name in COMPARISONS else None, 1 if unary else 2)
    _declare_operator((bool,), {"b1": lambda b, x: x}, arity=1)  # what `if` asks


def _declare_all() -> None:
    for view in interpret.VIEWS:
        _declare_view(view)
    for name, (kind, emit) in SLOTS.items():
        _declare_slot(name, kind, emit)
    word("set_error", _set_error_rule, _set_error)
    word("select", _select_rule, lambda ctx, b, sig, args: b.select(*args))
    for name, (kind, emit) in CASTS.items():
        _declare_cast(name, kind, emit)
    for name, known in WORDS.items():
        simple(name, known.result, " ".join(known.kinds), known.emit)
    for suffix in ("f32", "f64", "i64"):
        _declare_powi(suffix)
    _declare_operators()


_declare_all()
