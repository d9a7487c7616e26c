"""What each word of a CUDA kernel's text means to Numba-CUDA: a type rule, and the instructions of `words` and `groups`.

In: names of words.  Out: two registries of Numba-CUDA, `TYPING` and `LOWERING`, and `namespace()`: an object for every name,
which the registries are keyed by.  A rule looks at types only, and takes literals as they come, so that a statement costs Numba
one try.  Never lets Numba convert a type: wrong types do not compile.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from typing import Any

from llvmlite import ir
from llvmlite.ir import IRBuilder as Builder
from numba.cuda.core.errors import TypingError
from numba.cuda.core.imputils import RefType, iternext_impl
from numba.cuda.core.imputils import Registry as LoweringRegistry
from numba.cuda.typing.templates import AbstractTemplate, signature
from numba.cuda.typing.templates import Registry as TypingRegistry

from autojit.backends.cpu.instructions import loaded, power, stored
from autojit.backends.cuda import groups
from autojit.backends.cuda.branches import GUARDED, RANGE
from autojit.backends.cuda.types import Array, Ix, Turn, Turns, index_type, kinds, types
from autojit.backends.cuda.words import (
    BYTES,
    CASTS,
    COMPARISONS,
    I1,
    I32,
    MEMORY,
    OPERATORS,
    WORDS,
    load_vector,
    local_array,
    setting,
    shared_array,
    store_vector,
)

ENVIRONMENT = re.compile(r"^.*NumbaEnv.*$\n?", re.M)     # a global of Numba's that nothing reads; its name counts compiles
TYPING = TypingRegistry()
LOWERING = LoweringRegistry("autojit cuda words")

Rule = Callable[..., Any]
Lower = Callable[[Any, Builder, Any, Any], Any]
_waiting: dict[str, tuple[Rule, Lower]] = {}
_names: dict[str, Any] = {"inf": float("inf"), "nan": float("nan")}


class Stub:
    """A word as the kernel's text names it."""

    __slots__ = ("__name__",)

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __repr__(self) -> str:
        return f"autojit.{self.__name__}"


def namespace() -> dict[str, Any]:
    """Every name of the language."""
    return dict(_names)


def word(name: str, rule: Rule, lower: Lower) -> None:
    """Give `name` a rule (argument types → result type, or (result, types of the arguments)) and its instructions."""
    _names[name] = Stub(name)
    _waiting[name] = rule, lower


def ensure(names: Iterable[str]) -> bool:
    """Put these words (and no others) into the registries; True when one was not there before."""
    new = [name for name in names if name in _waiting]
    for name in new:
        rule, lower = _waiting.pop(name)
        _register(_names[name], rule)
        LOWERING.lower(_names[name], types.VarArg(types.Any))(lower)
    return bool(new)


def _register(key_of_word: Any, rule: Rule) -> None:
    class Template(AbstractTemplate):  # type: ignore[misc]
        key = key_of_word
        prefer_literal = True

        def generic(self, args: Any, kws: Any) -> Any:
            found = rule(*args)
            result, wanted = found if type(found) is tuple else (found, args)
            return signature(result, *wanted)

    TYPING.register_global(key_of_word, types.Function(Template))


# ------------------------------------------------------------------------------------------ rules
def ix() -> Any:
    """The type of indices in this kernel."""
    return index_type(64 if setting.wide else 32)


def _type(kind: str) -> Any:
    return ix() if kind == "ix" else kinds()[kind] if kind else types.none


def _is_literal(ty: Any) -> bool:
    return isinstance(ty, types.IntegerLiteral) and not isinstance(ty, types.BooleanLiteral)


def _plain(ty: Any) -> Any:
    """The type less its value."""
    return types.unliteral(ty)


def _fitted(args: Any, wanted: Any, what: str) -> Any:
    """`wanted`, if the arguments have these types or are literals that become them."""
    if len(args) != len(wanted) or not all([_plain(a) == w or _is_literal(a) and (w is ix() or w is types.int64)
                                            for a, w in zip(args, wanted)]):
        raise TypingError(f"{what} wants ({', '.join(map(str, wanted))}), got ({', '.join(map(str, args))})")
    return tuple(wanted)


def _constant(ty: Any, what: str) -> int:
    if not isinstance(ty, types.Literal) or not isinstance(ty.literal_value, int):
        raise TypingError(f"{what} wants a constant, got {ty}")
    return int(ty.literal_value)


def _alike(args: Any) -> Any:
    """The type that these arguments have together: literals are indices beside nothing or an index, integers else."""
    found = [_plain(a) for a in args if not _is_literal(a)]
    return found[0] if found else ix()


def _kind(ty: Any) -> str:
    if isinstance(ty, Ix):
        return "ix"
    for kind, known in kinds().items():
        if ty == known:
            return kind
    raise TypingError(f"kernels know no {ty}")


def _finish(ctx: Any, value: Any, sig: Any) -> Any:
    return ctx.get_dummy_value() if sig.return_type == types.none else value


# ------------------------------------------------------------------------------------- plain words
def _declare_word(name: str) -> None:
    known = WORDS[name]

    def rule(*args: Any) -> Any:
        return _type(known.result), _fitted(args, [_type(k) for k in known.kinds], name)

    word(name, rule, lambda ctx, b, sig, args: _finish(ctx, known.emit(b, *args), sig))


def _declare_cast(name: str) -> None:
    result, emits = CASTS[name]

    def rule(*args: Any) -> Any:
        if len(args) != 1:
            raise TypingError(f"{name} wants one argument")
        if isinstance(args[0], types.BooleanLiteral):
            return _type(result), (types.boolean,)
        ty = types.int64 if _is_literal(args[0]) else _plain(args[0])
        if _kind(ty) not in emits:
            raise TypingError(f"{name} of {ty}")
        return _type(result), (ty,)

    def lower(ctx: Any, b: Builder, sig: Any, args: Any) -> Any:
        return emits[_kind(sig.args[0])](b, args[0])

    word(name, rule, lower)


def _select_rule(*args: Any) -> Any:
    ty = _alike(args[1:])
    return ty, _fitted(args, (types.boolean, ty, ty), "select")


def _declare_powi(suffix: str) -> None:
    def rule(*args: Any) -> Any:
        n = _constant(args[1], f"powi_{suffix}")
        if suffix == "i64" and n < 0:
            raise TypingError("powi_i64 wants a constant >= 0")
        ty = _fitted(args[:1], (_type(suffix),), f"powi_{suffix}")[0]
        return ty, (ty, args[1])

    word(f"powi_{suffix}", rule, lambda ctx, b, sig, args: power(b, args[0], _constant(sig.args[1], "")))


def _declare_shift(view: str) -> None:
    """``shift_u8(a, b, left)``: shifts in a narrow integer; by less than 0 or its width, all bits leave."""
    def rule(*args: Any) -> Any:
        _constant(args[2], f"shift_{view}")
        return types.int64, (*_fitted(args[:2], (types.int64, types.int64), f"shift_{view}"), args[2])

    def lower(ctx: Any, b: Builder, sig: Any, args: Any) -> Any:
        return groups.shifted(b, view, args[0], args[1], bool(_constant(sig.args[2], "")))

    word(f"shift_{view}", rule, lower)


def _declare_polygamma(suffix: str) -> None:
    def rule(*args: Any) -> Any:
        _constant(args[1], f"polygamma_{suffix}")
        ty = _fitted(args[:1], (_type(suffix),), f"polygamma_{suffix}")[0]
        return ty, (ty, args[1])

    def lower(ctx: Any, b: Builder, sig: Any, args: Any) -> Any:
        from autojit.backends.cuda import polygamma

        return polygamma.called(b, args[0], _constant(sig.args[1], ""))

    word(f"polygamma_{suffix}", rule, lower)


# ----------------------------------------------------------------------------------------- arrays
def _declare_array(view: str, space: str, make: Callable[..., Any]) -> None:
    def rule(*args: Any) -> Any:
        _constant(args[0], f"{space}_{view}")
        return Array(view, space), args

    word(f"{space}_{view}", rule, lambda ctx, b, sig, args: make(b, view, _constant(sig.args[0], "")))


def _array(ty: Any, view: str, what: str) -> Any:
    if not isinstance(ty, Array) or ty.view != view:
        raise TypingError(f"{what} of {ty}")
    return ty


def _marked(b: Builder, access: Any, array: Array, constant: bool = False) -> Any:
    """Tell LLVM that an access to a buffer meets none of the others, and whether what it reads ever changes."""
    if array.space != "global":
        return access
    module = b.module
    domain = module.add_metadata(["autojit buffers"])
    scopes = [module.add_metadata([f"autojit buffer {i}", domain]) for i in range(array.n)]
    others = [s for i, s in enumerate(scopes) if i != array.k]
    access.set_metadata("alias.scope", module.add_metadata([scopes[array.k]]))
    if others:
        access.set_metadata("noalias", module.add_metadata(others))
    if constant or array.read_only:
        access.set_metadata("invariant.load", module.add_metadata([]))
    return access


def _place(b: Builder, pointer: Any, index: Any) -> Any:
    return b.gep(pointer, [index], inbounds=True)


class _GetItem(AbstractTemplate):  # type: ignore[misc]
    key = operator.getitem
    prefer_literal = True

    def generic(self, args: Any, kws: Any) -> Any:
        array, index = args
        if not isinstance(array, Array):
            return None
        return signature(array.value, array, *_fitted((index,), (ix(),), f"an index of {array}"))


class _SetItem(AbstractTemplate):  # type: ignore[misc]
    key = operator.setitem
    prefer_literal = True

    def generic(self, args: Any, kws: Any) -> Any:
        array = args[0]
        if not isinstance(array, Array):
            return None
        return signature(types.none, array, *_fitted(args[1:], (ix(), array.value), f"a store to {array}"))


TYPING.register_global(operator.getitem, types.Function(_GetItem))
TYPING.register_global(operator.setitem, types.Function(_SetItem))


@LOWERING.lower(operator.getitem, Array, Ix)  # type: ignore[untyped-decorator]
def _getitem(ctx: Any, b: Builder, sig: Any, args: Any) -> Any:
    array = sig.args[0]
    return loaded(b, _marked(b, b.load(_place(b, *args), align=BYTES[array.view]), array), array.view)


@LOWERING.lower(operator.setitem, Array, Ix, types.Any)  # type: ignore[untyped-decorator]
def _setitem(ctx: Any, b: Builder, sig: Any, args: Any) -> Any:
    array = sig.args[0]
    _marked(b, b.store(stored(b, args[2], MEMORY[array.view]), _place(b, *args[:2]), align=BYTES[array.view]), array)
    return ctx.get_dummy_value()


def _guarded_rule(*args: Any) -> Any:
    array = args[1]
    if not isinstance(array, Array):
        raise TypingError(f"a load from {array}")
    return array.value, _fitted(args, (types.boolean, array, ix(), array.value), f"a guarded load of {array}")


def _guarded(ctx: Any, b: Builder, sig: Any, args: Any) -> Any:
    """``x[i] if c else other``, which loads only where it may."""
    array, before = sig.args[1], b.block
    with b.if_then(args[0]):
        value = loaded(b, _marked(b, b.load(_place(b, args[1], args[2]), align=BYTES[array.view]), array), array.view)
        inside = b.block
    phi = b.phi(value.type)
    phi.add_incoming(args[3], before)
    phi.add_incoming(value, inside)
    return phi


def _declare_vector(name: str, do: str, view: str, lanes: int) -> None:
    def rule(*args: Any) -> Any:
        array = _array(args[0], view, name)
        if do == "load":
            return types.UniTuple(array.value, lanes), (array, *_fitted(args[1:], (ix(),), name))
        return types.none, (array, *_fitted(args[1:], (ix(), *[array.value] * lanes), name))

    def lower(ctx: Any, b: Builder, sig: Any, args: Any) -> Any:
        place = _place(b, args[0], args[1])
        if do == "store":
            _marked(b, store_vector(b, place, view, args[2:]), sig.args[0])
            return ctx.get_dummy_value()
        values, load = load_vector(b, place, view)
        _marked(b, load, sig.args[0], name.endswith("_nc"))
        return ctx.make_tuple(b, sig.return_type, values)

    word(name, rule, lower)


def _declare_atomic(name: str, what: str, view: str) -> None:
    def rule(*args: Any) -> Any:
        array = _array(args[0], view, name)
        return array.value, (array, *_fitted(args[1:], (ix(), array.value), name))

    word(name, rule, lambda ctx, b, sig, args: groups.atomic(b, what, _place(b, *args[:2]), args[2], view))


# ---------------------------------------------------------------------------------------- groups
def _declare_reduction(name: str, scope: str, what: str, suffix: str) -> None:
    kind = "i64" if suffix == "i32" else suffix

    def rule(*args: Any) -> Any:
        value = _fitted(args[:1], (_type(kind),), name)[0]
        if scope == "warp":
            width = _constant(args[1], name)
            if width not in (2, 4, 8, 16, 32):
                raise TypingError(f"{name} over {width} lanes")
            return value, (value, args[1])
        pad = _array(args[1], suffix, name)
        if pad.space != "shared":
            raise TypingError(f"{name} by way of {pad}")
        return value, (value, pad)

    def lower(ctx: Any, b: Builder, sig: Any, args: Any) -> Any:
        value = b.trunc(args[0], I32) if suffix == "i32" else args[0]
        if scope == "warp":
            value = groups.warp_reduce(b, what, value, _constant(sig.args[1], ""))
        else:
            value = groups.block_reduce(b, what, value, args[1])
        return b.sext(value, ir.IntType(64)) if suffix == "i32" else value

    word(name, rule, lower)


def _warp_sync_rule(*args: Any) -> Any:
    _constant(args[0], "warp_sync")
    return types.none, args


def _warp_sync(ctx: Any, b: Builder, sig: Any, args: Any) -> Any:
    groups.warp_sync(b, _constant(sig.args[0], ""))
    return ctx.get_dummy_value()


# ------------------------------------------------------------------------------------------ loops
def _range_rule(*args: Any) -> Any:
    if len(args) == 3 and _is_literal(args[2]) and args[2].literal_value <= 0:
        raise TypingError("a step that is not positive")
    return Turns(ix().bits), _fitted(args, [ix()] * len(args), "range")


def _range(ctx: Any, b: Builder, sig: Any, args: Any) -> Any:
    one = args[0].type
    start, stop, step = (one(0), args[0], one(1)) if len(args) == 1 else (*args, one(1))[:3]
    turns = ir.Constant(ir.LiteralStructType([one] * 3), ir.Undefined)
    for k, value in enumerate((start, stop, step)):
        turns = b.insert_value(turns, value, k)
    return turns


@LOWERING.lower("getiter", Turns)  # type: ignore[untyped-decorator]
def _getiter(ctx: Any, b: Builder, sig: Any, args: Any) -> Any:
    start, stop, step = (b.extract_value(args[0], k) for k in range(3))
    with b.goto_entry_block():
        place = b.alloca(start.type)
    b.store(start, place)
    turn = ir.Constant(ctx.get_value_type(sig.return_type), ir.Undefined)
    for k, value in enumerate((place, stop, step)):
        turn = b.insert_value(turn, value, k)
    return turn


@LOWERING.lower("iternext", Turn)  # type: ignore[untyped-decorator]
@iternext_impl(RefType.UNTRACKED)  # type: ignore[untyped-decorator]
def _iternext(ctx: Any, b: Builder, sig: Any, args: Any, result: Any) -> None:
    place, stop, step = (b.extract_value(args[0], k) for k in range(3))
    i = b.load(place)
    result.set_valid(b.icmp_signed("<", i, stop))
    result.yield_(i)
    b.store(b.add(i, step, flags=("nsw",)), place)        # sizes end so far below the width that this does not wrap


@LOWERING.lower_cast(types.IntegerLiteral, Ix)  # type: ignore[untyped-decorator]
def _literal_index(ctx: Any, b: Builder, from_type: Any, to_type: Any, value: Any) -> Any:
    return ir.IntType(to_type.bits)(from_type.literal_value)


# -------------------------------------------------------------------------------------- operators
def _declare_operator(operator_key: Any, emits: dict[str, Any], compares: bool, arity: int) -> None:
    class Template(AbstractTemplate):  # type: ignore[misc]
        key = operator_key
        prefer_literal = True

        def generic(self, args: Any, kws: Any) -> Any:
            if len(args) != arity:
                return None
            ty = _alike(args)
            if _kind(ty) not in emits:
                raise TypingError(f"{operator_key.__name__} of ({', '.join(map(str, args))})")
            return signature(types.boolean if compares else ty, *_fitted(args, [ty] * arity, operator_key.__name__))

    TYPING.register_global(operator_key, types.Function(Template))
    for kind, emit in emits.items():
        ty = Ix if kind == "ix" else kinds()[kind]
        LOWERING.lower(operator_key, *[ty] * arity)(lambda ctx, b, sig, args, emit=emit: emit(b, *args))


def _declare_operators() -> None:
    for name, emits in OPERATORS.items():
        keys, arity = [getattr(operator, name)], 1 if name in ("neg", "invert", "not_") else 2
        inplace = f"i{name.rstrip('_')}"
        if name not in COMPARISONS and hasattr(operator, inplace):
            keys.append(getattr(operator, inplace))
        for key in keys:
            _declare_operator(key, emits, name in COMPARISONS, arity)
    _declare_operator(bool, {"b1": lambda b, x: b.icmp_unsigned("!=", x, I1(0))}, True, 1)  # what `if` asks


def _declare_all() -> None:
    for name in WORDS:
        _declare_word(name)
    for name in CASTS:
        _declare_cast(name)
    for suffix in ("f32", "f64", "i64"):
        _declare_powi(suffix)
    for view in BYTES:
        _declare_array(view, "shared", shared_array)
        _declare_array(view, "local", local_array)
    for view in ("i64", "i32", "i16", "i8", "u8"):
        _declare_shift(view)
    for suffix in ("f32", "f64"):
        _declare_polygamma(suffix)
    for name, parts in groups.VECTORS.items():
        _declare_vector(name, *parts)
    for name, (what, view) in groups.ATOMICS.items():
        _declare_atomic(name, what, view)
    for name, reduction in groups.REDUCTIONS.items():
        _declare_reduction(name, *reduction)
    word("select", _select_rule, lambda ctx, b, sig, args: b.select(*args))
    word("warp_sync", _warp_sync_rule, _warp_sync)
    word(RANGE, _range_rule, _range)
    word(GUARDED, _guarded_rule, _guarded)
    _declare_operators()


_declare_all()
