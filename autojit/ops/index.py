"""Primitives whose index is data, and the matrix product.  Indices are int64 and in range: the face checks them before."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dtypes import DType, int64
from ..ir.aval import Aval, aval
from ..ir.graph import Node
from ..ir.primitive import CONTRACT, HOST, INDEX, SCATTER
from .declare import P, cast, primitive, zeros_like


def _ints(i: Aval) -> None:
    if i.dtype is not int64:
        raise TypeError(f"an index must be int64, got {i}")


def _take(a: Aval, i: Aval, axis: int) -> Aval:
    _ints(i)
    return aval(a.shape[:axis] + i.shape + a.shape[axis + 1:], a.dtype, a.device)


def _index_add(a: Aval, i: Aval, v: Aval, axis: int) -> Aval:
    if v is not _take(a, i, axis):
        raise TypeError(f"index_add: {v} at {i} into {a} along {axis}")
    return a


def _index_add_ref(a: Any, i: Any, v: Any, axis: int) -> Any:
    out = a.copy()
    np.add.at(out, (slice(None),) * axis + (i,), v)
    return out


primitive("take", INDEX, _take, lambda a, i, axis: np.take(a, i, axis=axis),
          lambda ct, out, a, i, axis: (P.index_add(zeros_like(a), i, ct, axis), None), linear=True,
          doc="Slices of an axis at the places `i` names; the axis becomes i's axes.")
primitive("index_add", SCATTER, _index_add, _index_add_ref,
          lambda ct, out, a, i, v, axis: (ct, None, P.take(ct, i, axis)), linear=True,
          doc="The first operand with slices added to it at the places `i` names; equal places accumulate.")


def _gather(a: Aval, i: Aval, axis: int) -> Aval:
    _ints(i)
    if len(i.shape) != len(a.shape) or any(m > n for k, (m, n) in enumerate(zip(i.shape, a.shape)) if k != axis):
        raise RuntimeError(f"Size does not match at dimension {axis} expected index {list(i.shape)} to be smaller than self "
                           f"{list(a.shape)} apart from dimension {axis}")
    return aval(i.shape, a.dtype, a.device)


def places(i: Any, axis: int) -> tuple[Any, ...]:
    """NumPy's index for 'i along axis, its own place along the others'."""
    return tuple([i if k == axis else np.arange(n).reshape([-1 if j == k else 1 for j in range(i.ndim)])
                  for k, n in enumerate(i.shape)])


def _scatter_add(a: Aval, i: Aval, v: Aval, axis: int) -> Aval:
    _gather(a, i, axis)
    if v.shape != i.shape or v.dtype is not a.dtype:
        raise TypeError(f"scatter_add: {v} at {i} into {a}")
    return a


def _scatter_add_ref(a: Any, i: Any, v: Any, axis: int) -> Any:
    out = a.copy()
    np.add.at(out, places(i, axis), v)
    return out


primitive("gather", INDEX, _gather, lambda a, i, axis: a[places(i, axis)],
          lambda ct, out, a, i, axis: (P.scatter_add(zeros_like(a), i, ct, axis), None), linear=True,
          doc="Elements along an axis at places of their own: out[.., k, ..] = a[.., i[.., k, ..], ..].")
primitive("scatter_add", SCATTER, _scatter_add, _scatter_add_ref,
          lambda ct, out, a, i, v, axis: (ct, None, P.gather(ct, i, axis)), linear=True,
          doc="The first operand with elements added along an axis at places of their own.")


# ---------------------------------------------------------------- writing instead of adding: the last of equal places wins
def _index_set_ref(a: Any, i: Any, v: Any, axis: int) -> Any:
    out = a.copy()
    out[(slice(None),) * axis + (i,)] = v
    return out


def _scatter_set_ref(a: Any, i: Any, v: Any, axis: int) -> Any:
    out = a.copy()
    out[places(i, axis)] = v
    return out


primitive("index_set", HOST, _index_add, _index_set_ref,
          lambda ct, out, a, i, v, axis: (P.index_set(ct, i, zeros_like(v), axis), None, P.take(ct, i, axis)), linear=True,
          doc="The first operand with slices written over it at the places `i` names.")
primitive("scatter_set", HOST, _scatter_add, _scatter_set_ref,
          lambda ct, out, a, i, v, axis: (P.scatter_set(ct, i, zeros_like(v), axis), None, P.gather(ct, i, axis)), linear=True,
          doc="The first operand with elements written over it along an axis at places of their own.")


# ---------------------------------------------------------------- matrix product
def _matmul(a: Aval, b: Aval, dtype: DType | None = None) -> Aval:
    if len(a.shape) < 2 or a.shape[:-2] != b.shape[:-2] or a.shape[-1] != b.shape[-2] or a.dtype is not b.dtype:
        raise TypeError(f"matmul: {a} @ {b}")
    return aval(a.shape[:-1] + b.shape[-1:], dtype or a.dtype, a.device)


def swap(n: Node) -> Node:
    """The last two axes exchanged."""
    k = len(n.shape)
    return P.permute(n, (*range(k - 2), k - 1, k - 2))


def _vjp_matmul(ct: Node, out: Node, a: Node, b: Node, dtype: DType | None = None) -> tuple[Node, Node]:
    ct = cast(ct, a.dtype)
    return P.matmul(ct, swap(b)), P.matmul(swap(a), ct)


primitive("matmul", CONTRACT, _matmul, np.matmul, _vjp_matmul,
          doc="Matrix product (*B, M, K) @ (*B, K, N) with equal leading axes.  Its param, if it has one, is the result's "
              "dtype: float32 for half operands, whose products are added up in float32 in any case.")
