"""The types of kernels as Numba-CUDA knows them: indices, half values, buffers, arrays of a block or a thread, ranges.

In: names of the language's types.  Out: Numba types with their models.  None converts to another by itself, but for
literals, which become the indices or integers that they stand beside.  Importing this imports Numba-CUDA.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba.cuda import types as numba_types
from numba.cuda.datamodel import models, register_default

from autojit.backends.cuda.words import GLOBAL, I16, I32, I64, MEMORY, SHARED, value_kind

types: Any = numba_types                                  # a module that fills itself: mypy cannot see its names
SPACES = {"global": GLOBAL, "shared": SHARED, "local": 0}


class Ix(types.Type):  # type: ignore[misc]
    """An index: signed, of 32 or 64 bits."""

    def __init__(self, bits: int) -> None:
        self.bits = bits
        super().__init__(f"ix{bits}")

    def unify(self, typingctx: Any, other: Any) -> Any:
        """``i if c else 0`` is an index."""
        return self if isinstance(other, types.IntegerLiteral) else None


class Half(types.Type):  # type: ignore[misc]
    """A float16 or bfloat16 value, which only casts read."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)


class Array(types.Type):  # type: ignore[misc]
    """A typed pointer: a buffer in global memory (number `k` of `n`, none of which overlap), or an array of a block or
    thread.  `read_only`: nothing in the kernel writes there."""

    def __init__(self, view: str, space: str, k: int = 0, n: int = 0, read_only: bool = False) -> None:
        self.view, self.space, self.k, self.n, self.read_only = view, space, k, n, read_only
        self.value = kinds()[value_kind(view)]
        super().__init__(f"{space}_{view}({k}, {n}, {'const' if read_only else 'var'})")


class Turns(types.SimpleIterableType):  # type: ignore[misc]
    """``range(...)`` over indices, with a positive step."""

    def __init__(self, bits: int) -> None:
        self.bits = bits
        super().__init__(f"turns{bits}", Turn(bits))


class Turn(types.SimpleIteratorType):  # type: ignore[misc]
    def __init__(self, bits: int) -> None:
        self.bits = bits
        super().__init__(f"turn{bits}", index_type(bits))


@cache
def index_type(bits: int) -> Ix:
    return Ix(bits)


@cache
def kinds() -> dict[str, Any]:
    """Name of a type of the language → Numba's type; indices apart (`index_type`)."""
    return {"f32": types.float32, "f64": types.float64, "i64": types.int64, "b1": types.boolean,
            "f16": Half("f16"), "bf16": Half("bf16")}


@register_default(Ix)
class _IxModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, dmm: Any, fe_type: Ix) -> None:
        super().__init__(dmm, fe_type, ir.IntType(fe_type.bits))


@register_default(Half)
class _HalfModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, dmm: Any, fe_type: Half) -> None:
        super().__init__(dmm, fe_type, I16)


@register_default(Array)
class _ArrayModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, dmm: Any, fe_type: Array) -> None:
        super().__init__(dmm, fe_type, ir.PointerType(MEMORY[fe_type.view], SPACES[fe_type.space]))


@register_default(Turns)
class _TurnsModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, dmm: Any, fe_type: Turns) -> None:
        ix = I32 if fe_type.bits == 32 else I64
        super().__init__(dmm, fe_type, ir.LiteralStructType([ix, ix, ix]))


@register_default(Turn)
class _TurnModel(models.PrimitiveModel):  # type: ignore[misc]
    """The place of the next index, then stop and step."""

    def __init__(self, dmm: Any, fe_type: Turn) -> None:
        ix = I32 if fe_type.bits == 32 else I64
        super().__init__(dmm, fe_type, ir.LiteralStructType([ix.as_pointer(), ix, ix]))
