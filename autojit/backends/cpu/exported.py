"""The words of kernel text as Numba alone knows them: the source of what exported modules begin with.

In: nothing.  Out: text; `export` copies the definitions that a program needs from this file, from `instructions` and from
`vecmath` into the module it writes.  So everything here must stand at the top level and use nothing of autojit but those.
Nothing imports this file.

A buffer is a typed pointer that overlaps no other buffer of its kernel, as in `library`: LLVM makes vectors of loops without
asking at run time, and no index counts from the end.  A kernel is never inlined, since what does not overlap in one call may
in the next.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np  # noqa: F401
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.core.typing import signature
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import intrinsic, lower_builtin, models, register_model
from numba.np.arrayobj import make_array
from numba.np.linalg import ensure_blas

from autojit.backends.cpu.instructions import (  # noqa: F401  (`words` uses them)
    F32,
    F64,
    I8,
    I32,
    I64,
    floordiv_float,
    floordiv_int,
    fmod_int,
    philox,
    pow_int,
    power,
    remainder_float,
    remainder_int,
    shift,
    to_bool,
    to_float,
    to_integer,
)
from autojit.backends.cpu.instructions import intrinsic as llvm  # noqa: F401
from autojit.backends.cpu.vecmath.core import Value

FREE_ORDER = ("reassoc", "contract")  # the flags of an accumulating add: the order of its terms is free
KINDS = {"f32": types.float32, "f64": types.float64, "i64": types.int64, "b1": types.boolean}
VIEWS = {**KINDS, "i32": types.int32, "i16": types.int16, "i8": types.int8, "u8": types.uint8}
MEMORY = {"f32": F32, "f64": F64, "i64": I64, "b1": I8, "i32": I32, "i16": ir.IntType(16), "i8": I8, "u8": I8}


# ---------------------------------------------------------------- words of fixed types
def word(result: str, wanted: str, emit: Any) -> Any:
    """A function of numbers: `emit(builder, *values)` writes its instructions."""
    kinds = tuple([KINDS[k] for k in wanted.split()])

    def typed(*args: Any) -> Any:
        if tuple([types.unliteral(a) for a in args]) != kinds:
            raise TypingError(f"a word wants ({wanted}), and got ({', '.join(map(str, args))})")
        return KINDS[result](*kinds), lambda context, b, sig, values: emit(b, *values)
    if len(kinds) == 1:
        return intrinsic(lambda context, x: typed(x))
    if len(kinds) == 2:
        return intrinsic(lambda context, x, y: typed(x, y))
    return intrinsic(lambda context, x, y, z: typed(x, y, z))


def cast(result: str, emit: Any) -> Any:
    """A conversion of any number: `emit(builder, value)`."""
    def typed(context: Any, x: Any) -> Any:
        if types.unliteral(x) not in KINDS.values():
            raise TypingError(f"a number is converted, not {x}")
        return KINDS[result](types.unliteral(x)), lambda context, b, sig, values: emit(b, *values)
    return intrinsic(typed)


def choice() -> Any:
    """select(condition, a, b): both sides are computed, nothing jumps."""
    def typed(context: Any, c: Any, a: Any, b: Any) -> Any:
        kind = types.unliteral(a)
        if types.unliteral(c) != types.boolean or types.unliteral(b) != kind:
            raise TypingError(f"select wants (b1, T, T), and got ({c}, {a}, {b})")
        return kind(types.boolean, kind, kind), lambda context, b, sig, values: b.select(*values)
    return intrinsic(typed)


def powers(kind: str, emit: Any) -> Any:
    """powi(x, n) for a constant n: `emit(builder, x, n)`."""
    def typed(context: Any, x: Any, n: Any) -> Any:
        if types.unliteral(x) != KINDS[kind] or not isinstance(n, types.IntegerLiteral):
            raise TypingError(f"powi wants ({kind}, a constant), and got ({x}, {n})")
        return KINDS[kind](KINDS[kind], n), lambda context, b, sig, values: emit(b, values[0], n.literal_value)
    return intrinsic(prefer_literal=True)(typed)


def mathematics(kind: str, arity: int, function: Any) -> Any:
    """A function of vecmath.  Compiled apart, so that no flag of the kernel's reaches its instructions; then inlined."""
    inner = word(kind, " ".join([kind] * arity), lambda b, *xs: function(*[Value(b, kind, x) for x in xs]).llvm)
    if arity == 1:
        return njit(lambda x: inner(x), forceinline=True)
    return njit(lambda x, y: inner(x, y), forceinline=True)


# ---------------------------------------------------------------- what a kernel is given
def slot(kind: str) -> Any:
    """A number among a kernel's arguments: `size(args, k)` and its like."""
    def typed(context: Any, args: Any, k: Any) -> Any:
        if not isinstance(k, types.IntegerLiteral):
            return None
        at = k.literal_value
        if args[at] != KINDS[kind]:
            raise TypingError(f"argument {at} of a kernel is {args[at]}, not {kind}")
        return KINDS[kind](args, k), lambda context, b, sig, values: b.extract_value(values[0], at)
    return intrinsic(prefer_literal=True)(typed)


class Buffer(types.Type):
    """Number `k` of the `n` buffers of a kernel."""

    def __init__(self, view: str, k: int, n: int) -> None:
        self.view, self.k, self.n = view, k, n
        self.value = KINDS.get(view, types.int64)
        super().__init__(f"Buffer({view}, {k}, {n})")


@register_model(Buffer)
class BufferModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Buffer) -> None:
        super().__init__(dmm, fe_type, MEMORY[fe_type.view].as_pointer())


def buffer(view: str) -> Any:
    """`f32(args, k, n)` and its like: an array among a kernel's arguments as a buffer."""
    def typed(context: Any, args: Any, k: Any, n: Any) -> Any:
        if not isinstance(k, types.IntegerLiteral) or not isinstance(n, types.IntegerLiteral):
            return None
        at, array = k.literal_value, args[k.literal_value]
        if not isinstance(array, types.Array) or array.layout != "C" or array.dtype != VIEWS[view]:
            raise TypingError(f"argument {at} of a kernel is {array}, not a contiguous array of {VIEWS[view]}")

        def emit(context: Any, b: Any, sig: Any, values: Any) -> Any:
            set.update(b.function.attributes, ("noinline", '"prefer-vector-width"="512"'))
            data = make_array(array)(context, b, value=b.extract_value(values[0], at)).data
            return b.bitcast(data, MEMORY[view].as_pointer())
        return Buffer(view, at, n.literal_value)(args, k, n), emit
    return intrinsic(prefer_literal=True)(typed)


def place(b: Any, buffer: Buffer, pointer: Any, index: Any) -> Any:
    """Where an element is, and what tells LLVM that it meets no element of another buffer."""
    domain = b.module.add_metadata([f"buffers of {b.function.name}"])
    scopes = [b.module.add_metadata([f"buffer {i} of {b.function.name}", domain]) for i in range(buffer.n)]
    own, others = b.module.add_metadata([scopes[buffer.k]]), [s for i, s in enumerate(scopes) if i != buffer.k]

    def mark(access: Any) -> Any:
        access.set_metadata("alias.scope", own)
        if others:
            access.set_metadata("noalias", b.module.add_metadata(others))
        return access
    return b.gep(pointer, [index], inbounds=True), mark


@infer_global(operator.getitem)
class Load(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        x, index = args
        return signature(x.value, x, types.int64) if isinstance(x, Buffer) and types.unliteral(index) == types.int64 else None


@lower_builtin(operator.getitem, Buffer, types.int64)
def load(context: Any, b: Any, sig: Any, args: Any) -> Any:
    x = sig.args[0]
    at, mark = place(b, x, *args)
    found = mark(b.load(at))
    if x.view == "b1":
        return b.icmp_unsigned("!=", found, I8(0))
    return b.sext(found, I64) if x.view in ("i32", "i16", "i8") else b.zext(found, I64) if x.view == "u8" else found


@infer_global(operator.setitem)
class Store(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        x, index, v = args
        if isinstance(x, Buffer) and types.unliteral(index) == types.int64 and types.unliteral(v) == x.value:
            return signature(types.none, x, types.int64, x.value)
        return None


@lower_builtin(operator.setitem, Buffer, types.int64, types.Any)
def store(context: Any, b: Any, sig: Any, args: Any) -> Any:
    x, v = sig.args[0], args[2]
    at, mark = place(b, x, args[0], args[1])
    memory = MEMORY[x.view]
    if x.view == "b1":
        v = b.zext(v, memory)
    elif v.type != memory:
        v = b.trunc(v, memory)
    mark(b.store(v, at))
    return context.get_dummy_value()


# ---------------------------------------------------------------- functions of other libraries
@intrinsic
def place_of(context: Any, x: Any, index: Any) -> Any:
    """Where an element of a buffer stands, as an integer."""
    if not isinstance(x, Buffer):
        raise TypingError(f"a place in {x}")
    return types.int64(x, types.int64), lambda context, b, sig, args: b.ptrtoint(b.gep(args[0], [args[1]]), I64)


def called(*words: Any) -> None:
    """C's function at the address words[0], with integers as arguments; what it returns is not looked at."""


class Called(AbstractTemplate):
    key = called

    def generic(self, args: Any, kws: Any) -> Any:
        return signature(types.none, *[types.int64] * len(args))


CALL_TYPED = infer_global(called, types.Function(Called))  # as a decorator it wants a module that is imported by name


@lower_builtin(called, types.VarArg(types.int64))
def call_outside(context: Any, b: Any, sig: Any, args: Any) -> Any:
    kind = ir.FunctionType(ir.VoidType(), [I64] * (len(args) - 1))
    b.call(b.inttoptr(args[0], kind.as_pointer()), args[1:])
    return context.get_dummy_value()


def called_f64(*words: Any) -> None:
    """C's function at the address words[0] of doubles."""


class CalledNumber(AbstractTemplate):
    key = called_f64

    def generic(self, args: Any, kws: Any) -> Any:
        return signature(types.float64, types.int64, *[types.float64] * (len(args) - 1))


NUMBER_TYPED = infer_global(called_f64, types.Function(CalledNumber))


@lower_builtin(called_f64, types.int64, types.VarArg(types.float64))
def number_outside(context: Any, b: Any, sig: Any, args: Any) -> Any:
    kind = ir.FunctionType(F64, [F64] * (len(args) - 1))
    return b.call(b.inttoptr(args[0], kind.as_pointer()), args[1:])


@njit
def refused() -> None:
    raise np.linalg.LinAlgError("no result: a matrix is singular, not positive-definite, or not finite")


# ---------------------------------------------------------------- products
@intrinsic
def gemm(context: Any, trans_a: Any, trans_b: Any, m: Any, n: Any, k: Any, alpha: Any, a: Any, at_a: Any, row_a: Any, b: Any,
         at_b: Any, row_b: Any, beta: Any, c: Any, at_c: Any, row_c: Any) -> Any:
    """Row-major c := alpha * op(a) @ op(b) + beta * c by the BLAS that Numba knows (SciPy's): matrices from element `at` of
    contiguous arrays, their rows `row` elements apart as stored, transposed where `trans`."""
    ensure_blas()
    i, d = types.int64, c.dtype
    if any([x.layout != "C" or x.dtype != d for x in (a, b, c)]) or d not in (types.float32, types.float64):
        raise TypingError(f"a product of {a} and {b} into {c}")

    def emit(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        ta, tb, m, n, k, alpha, a, at_a, row_a, b, at_b, row_b, beta, c, at_c, row_c = values
        pointer, letter = I8.as_pointer(), lambda t: builder.select(t, I8(ord("t")), I8(ord("n")))

        def place(x: int, value: Any, at: Any) -> Any:
            return builder.bitcast(builder.gep(make_array(sig.args[x])(context, builder, value=value).data, [at]), pointer)

        def number(v: Any) -> Any:
            return builder.bitcast(cgutils.alloca_once_value(builder, v), pointer)
        given = [I8(ord("s" if d == types.float32 else "d")), letter(tb), letter(ta), n, m, k, number(alpha),
                 place(9, b, at_b), row_b, place(6, a, at_a), row_a, number(beta), place(13, c, at_c), row_c]
        fn = cgutils.get_or_insert_function(builder.module, ir.FunctionType(I32, [v.type for v in given]), "numba_xxgemm")
        builder.call(fn, given)                           # columns first: c.T = op(b).T @ op(a).T
        return context.get_dummy_value()
    flag = types.boolean
    return types.none(flag, flag, i, i, i, d, a, i, i, b, i, i, d, c, i, i), emit
