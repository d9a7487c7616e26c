"""Functions that the user has compiled with Numba, with the face that all kernels have.

In: a `Custom` spec over Numba dispatchers.  Out: its kernel, ``i32 kernel(ret, exc, args, lo, hi, chunk)``, compiled in this
process by the user's own Numba, and the table it reads: addresses, bytes from turn to turn, extents, numbers.  Numba is never
imported here by anybody who has not compiled a function with it.  What is compiled stays: plans hold addresses.
"""

from __future__ import annotations

import sys
from functools import cache
from threading import Lock
from typing import Any

import numpy as np

from ....dtypes import COMPLEX, DType
from ....ops.custom import Custom
from . import Form, Pass

_KERNELS: dict[Any, tuple[int, Any]] = {}                 # (function, kinds of its arguments) -> address, what keeps it there
_lock = Lock()


def dispatcher(function: Any) -> bool:
    """Is it a function that `numba.njit` (or `jit`) has made?"""
    numba = sys.modules.get("numba.core.dispatcher")
    return numba is not None and isinstance(function, numba.Dispatcher)


def parameters(function: Any) -> tuple[str, ...]:
    """The names of a dispatcher's parameters."""
    code = function.py_func.__code__
    return code.co_varnames[:code.co_argcount]  # type: ignore[no-any-return]


def supported(dtype: DType) -> bool:
    """Does Numba see arrays of this dtype as we do?"""
    return not dtype.half and dtype.category < COMPLEX


def custom(form: Form) -> None:
    """The one kernel of a call: in turn over what it is batched over, in one thread."""
    spec, _ = form.params
    reads, writes = [f"in{k}" for k in range(len(spec.operands))], tuple([f"out{k}" for k in range(len(spec.results))])
    form.passes.append(Pass("", (*reads, *writes), _numbers(spec), writes, spec.turns, 1, entry(spec)))


def _numbers(spec: Custom) -> tuple[tuple[Any, ...], ...]:
    """The table after the addresses: of each array bytes from turn to turn and extents; then arguments that are numbers."""
    words: list[int] = []
    for a, moves in [*zip(spec.operands, spec.moving), *[(a, True) for a in spec.results]]:
        words += [a.size * a.dtype.itemsize * moves, *a.shape]
    words += [_word(f[0]) for f in spec.fixed if f is not None and type(f[0]) in _WORDS]
    return tuple([("size", w) for w in words])


def _word(value: Any) -> int:
    return int(np.float64(value).view(np.int64)) if type(value) is float else int(value)


_WORDS = (int, float, bool)                               # arguments that are words of the table; others are part of the code


def entry(spec: Custom) -> int:
    """The address of the kernel.  TypeError, with Numba's words, if the function cannot be compiled for such arguments."""
    kinds = [(type(f[0]),) if type(f[0]) in _WORDS else ("fixed", type(f[0]), f[0]) for f in spec.fixed if f is not None]
    arrays = [(a.dtype, len(a.shape)) for a in (*spec.operands, *spec.results)]
    key = (spec.function, tuple([f is None for f in spec.fixed]), tuple(kinds), tuple(arrays), len(spec.operands))
    found = _KERNELS.get(key)
    if found is None:
        with _lock:
            found = _KERNELS.get(key)
            if found is None:
                found = _KERNELS[key] = _compiled(spec)
    return found[0]


def _compiled(spec: Custom) -> tuple[int, Any]:
    from numba import carray, njit, types
    from numba.core.errors import NumbaError
    pointer, real = _words()
    text, names = _text(spec)
    names |= {"function": spec.function, "carray": carray, "pointer": pointer, "real": real}
    exec(compile(text, f"<kernel of {spec.name}>", "exec"), names)
    kernel = names["kernel"]
    signature = types.void(types.CPointer(types.int64), types.int64, types.int64, types.int64)
    try:
        spec.function.compile(_types(spec))               # errors are about the user's function, not about what is around it
        made = njit(signature, no_cpython_wrapper=True, no_cfunc_wrapper=True)(kernel)
    except NumbaError as e:
        kinds = ", ".join([f"{a!r}" for a in (*spec.operands, *spec.results)])
        raise TypeError(f"{spec.name} cannot be compiled for {kinds}: {e}") from e
    (found,) = made.overloads.values()
    return found.library.get_pointer_to_function(found.fndesc.llvm_func_name), made


def _types(spec: Custom) -> tuple[Any, ...]:
    """The arguments as Numba sees them."""
    from numba import from_dtype, typeof, types
    it = iter(spec.operands)
    read = [(from_dtype(a.dtype.np), len(a.shape)) if a is not None else None
            for a in [next(it) if f is None else None for f in spec.fixed]]
    given = [typeof(f[0]) if f is not None else r[0] if not r[1] else types.Array(r[0], r[1], "C")  # type: ignore[index]
             for f, r in zip(spec.fixed, read)]
    return (*given, *[types.Array(from_dtype(a.dtype.np), len(a.shape), "C") for a in spec.results])


def _text(spec: Custom) -> tuple[str, dict[str, Any]]:
    """The kernel: turn by turn, arguments as numbers (no dimensions) or arrays."""
    names: dict[str, Any] = {}
    arrays = [*spec.operands, *spec.results]
    at, seen = len(arrays), []
    for k, a in enumerate(arrays):
        names[f"t{k}"] = a.dtype.np.type
        where = f"pointer(args[{k}] + turn * args[{at}], t{k})"
        shape = "".join([f"args[{at + 1 + d}], " for d in range(len(a.shape))])
        number = not a.shape and k < len(spec.operands)
        seen.append(f"{where}[0]" if number else f"carray({where}, ({shape}))")
        at += 1 + len(a.shape)
    it, given = iter(seen), []
    for k, f in enumerate(spec.fixed):
        if f is None:
            given.append(next(it))
        elif type(f[0]) in _WORDS:
            given.append({float: f"real(args[{at}])", bool: f"args[{at}] != 0", int: f"args[{at}]"}[type(f[0])])
            at += 1
        else:
            names[f"fixed{k}"] = f[0]
            given.append(f"fixed{k}")
    call = ",\n                 ".join([*given, *it])
    return f"def kernel(args, lo, hi, chunk):\n    for turn in range(lo, hi):\n        function({call})\n", names


@cache
def _words() -> tuple[Any, Any]:
    """An address as a pointer, a word's bits as a float: for kernels."""
    from llvmlite import ir
    from numba import types
    from numba.extending import intrinsic

    @intrinsic
    def pointer(context: Any, address: Any, dtype: Any) -> Any:
        result = types.CPointer(dtype.dtype)

        def code(target: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.inttoptr(args[0], target.get_value_type(result))
        return result(types.int64, dtype), code

    @intrinsic
    def real(context: Any, word: Any) -> Any:
        def code(target: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.bitcast(args[0], ir.DoubleType())
        return types.float64(types.int64), code
    return pointer, real
