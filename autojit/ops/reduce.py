"""Primitives that make axes vanish, and the cumulative ones.

`axes` is a sorted tuple; reduced axes are dropped, not kept as 1.  Never broadcasts.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dtypes import BOOL, INT, int64
from ..ir.aval import Aval, aval
from ..ir.graph import Node
from ..ir.primitive import HOST, REDUCE
from .declare import P, back, cast, dim_of, full, primitive, zeros_like
from .elementwise import on

Axes = tuple[int, ...]


def _drop(a: Aval, axes: Axes) -> Aval:
    return aval(tuple([n for i, n in enumerate(a.shape) if i not in axes]), a.dtype, a.device)


def _index(a: Aval, axis: int) -> Aval:
    return aval(a.shape[:axis] + a.shape[axis + 1:], int64, a.device)


def _nonempty(a: Aval, axes: Axes) -> Aval:
    if any(a.shape[i] == 0 for i in axes):
        raise RuntimeError("max(): Expected reduction dim to be specified for input.numel() == 0. Specify the reduction dim "
                           "with the 'dim' argument." if len(axes) == len(a.shape) else
                           "max(): Expected reduction dim to have non-zero size.")
    return _drop(a, axes)


def _sum(a: Any, axes: Axes) -> Any:
    if a.dtype == np.float32:                             # NumPy adds naively along all axes but the last: an oracle must not
        return np.sum(a, axis=axes, dtype=np.float64).astype(np.float32)
    if a.dtype == np.complex64:
        return np.sum(a, axis=axes, dtype=np.complex128).astype(np.complex64)
    return np.sum(a, axis=axes, dtype=a.dtype)


def _prod(a: Any, axes: Axes) -> Any:
    return np.prod(a, axis=axes, dtype=a.dtype)


def _vjp_prod(ct: Node, out: Node, a: Node, axes: Axes) -> tuple[Node]:
    """The product of all others.  Zeros are told apart by counting, and yet stay factors, so that the rule can be
    differentiated again: right to second order whatever the number of zeros."""
    one, none = full(1, a.shape, a.dtype), zeros_like(a)
    zero = P.eq(a, none)
    filled = P.where(zero, one, a)
    whole = back(P.prod(filled, axes), axes, a.shape)                        # the product of the non-zero ones
    zeros = P.where(zero, a, none)
    beside = P.sub(back(P.sum(zeros, axes), axes, a.shape), a)               # of two zeros, the other one
    count = back(P.sum(cast(zero, a.dtype), axes), axes, a.shape)
    others = P.where(P.eq(count, one), one, P.where(P.eq(count, full(2, a.shape, a.dtype)), beside, none))
    elsewhere = P.div(back(out, axes, a.shape), filled)
    return (P.mul(back(ct, axes, a.shape), P.where(zero, P.mul(whole, others), elsewhere)),)


def _vjp_extreme(ct: Node, out: Node, a: Node, axes: Axes) -> tuple[Node]:
    """Ties share the gradient evenly, as torch's amax does."""
    top = back(out, axes, a.shape)
    hit = P.eq(a, top)
    if a.dtype.category > INT:
        hit = P.bitwise_or(hit, P.bitwise_and(P.isnan(a), P.isnan(top)))
    count = P.sum(cast(hit, a.dtype), axes)
    return (on(hit, back(P.div(ct, count), axes, a.shape)),)


primitive("sum", REDUCE, _drop, _sum, lambda ct, out, a, axes: (back(ct, axes, a.shape),), linear=True,
          doc="Sum over axes, in the operand's dtype.")
primitive("prod", REDUCE, _drop, _prod, _vjp_prod, domain=(0.5, 1.5), doc="Product over axes.")
primitive("max", REDUCE, _nonempty, lambda a, axes: np.max(a, axis=axes) if axes else a, _vjp_extreme,
          doc="Largest over axes; NaN if any is.  Bools: any.")
primitive("min", REDUCE, _nonempty, lambda a, axes: np.min(a, axis=axes) if axes else a, _vjp_extreme,
          doc="Smallest over axes; NaN if any is.  Bools: all.")
primitive("argmax", REDUCE, _index, lambda a, axis: np.argmax(a, axis=axis).astype(np.int64), None,
          doc="Place of the first largest along one axis; NaN counts as largest.")
primitive("argmin", REDUCE, _index, lambda a, axis: np.argmin(a, axis=axis).astype(np.int64), None,
          doc="Place of the first smallest along one axis; NaN counts as smallest.")


# ---------------------------------------------------------------- cumulative and sorting: one axis, shape stays
def _same(a: Aval, axis: int) -> Aval:
    dim_of(axis, len(a.shape))
    return aval(a.shape, int64, a.device) if a.dtype.category == BOOL else a


def _reverse_cumsum(n: Node, axis: int) -> Node:
    return P.flip(P.cumsum(P.flip(n, (axis,)), axis), (axis,))


def _vjp_cumprod(ct: Node, out: Node, a: Node, axis: int) -> tuple[Node]:
    """Right where no element is zero; with zeros the products are built again without them (torch does likewise)."""
    n = a.shape[axis]
    lead = a.shape[:axis]
    rest = a.shape[axis + 1:]
    square = (*lead, n, n, *rest)                         # [j, k]: the factor a_j, or 1 where j == k
    rows = P.expand(P.reshape(a, (*lead, 1, n, *rest)), square)
    at = (1,) * len(lead) + (n, 1) + (1,) * len(rest)
    here = P.expand(P.reshape(P.iota((n,), 0), at), square)
    there = P.expand(P.reshape(P.iota((n,), 0), (1,) * len(lead) + (1, n) + (1,) * len(rest)), square)
    without = P.cumprod(P.where(P.eq(here, there), full(1, square, a.dtype), rows), axis + 1)
    cts = P.expand(P.reshape(ct, (*lead, 1, n, *rest)), square)
    return (P.sum(on(P.ge(there, here), P.mul(cts, without)), (axis + 1,)),)


primitive("cumsum", HOST, _same, lambda a, axis: np.cumsum(a, axis=axis, dtype=a.dtype),
          lambda ct, out, a, axis: (_reverse_cumsum(ct, axis),), linear=True, doc="Running sum along an axis.")
primitive("cumprod", HOST, _same, lambda a, axis: np.cumprod(a, axis=axis, dtype=a.dtype), _vjp_cumprod, domain=(0.5, 1.5),
          doc="Running product along an axis.")


def _log_accumulate(a: Any, axis: int) -> Any:
    with np.errstate(all="ignore"):
        return np.logaddexp.accumulate(a, axis=axis)


def _vjp_logcumsumexp(ct: Node, out: Node, a: Node, axis: int) -> tuple[Node]:
    """sum over k >= i of ct_k * exp(a_i - out_k), in logarithms, so that nothing overflows: ct's two signs apart."""
    def part(keep: Node, sign: Node) -> Node:
        low = full(-np.inf, a.shape, a.dtype)
        weight = P.where(keep, P.sub(P.log(P.where(keep, sign, full(1, a.shape, a.dtype))), out), low)
        return P.exp(P.add(P.flip(P.logcumsumexp(P.flip(weight, (axis,)), axis), (axis,)), a))

    zero = zeros_like(ct)
    return (P.sub(part(P.gt(ct, zero), ct), part(P.lt(ct, zero), P.neg(ct))),)


primitive("logcumsumexp", HOST, lambda a, axis: a, _log_accumulate, _vjp_logcumsumexp,
          doc="Logarithm of the running sum of exponentials along an axis.")


def _cumarg_ref(a: Any, axis: int, largest: bool) -> Any:
    best = (np.maximum if largest else np.minimum).accumulate(a, axis=axis)
    at = np.arange(a.shape[axis]).reshape([-1 if i == axis else 1 for i in range(a.ndim)])
    hit = (a == best) | ((a != a) & (best != best))
    return np.maximum.accumulate(np.where(hit, at, 0), axis=axis).astype(np.int64)


primitive("cumarg", HOST, lambda a, axis, largest: aval(a.shape, int64, a.device), _cumarg_ref, None,
          doc="Place of the last largest (or smallest) so far along an axis; NaN stays.")


def _sort_ref(a: Any, axis: int, descending: bool) -> Any:
    order = _argsort_ref(a, axis, descending)
    return np.take_along_axis(a, order, axis)


def _argsort_ref(a: Any, axis: int, descending: bool) -> Any:
    if not descending:
        return np.argsort(a, axis=axis, kind="stable").astype(np.int64)
    last = a.shape[axis] - 1
    back_order = np.argsort(np.flip(a, axis), axis=axis, kind="stable")      # stable also among equals
    return (last - np.flip(back_order, axis)).astype(np.int64)


def _vjp_sort(ct: Node, out: Node, a: Node, axis: int, descending: bool) -> tuple[Node]:
    return (P.scatter_add(zeros_like(a), P.argsort(a, axis, descending), ct, axis),)


primitive("sort", HOST, lambda a, axis, descending: a, _sort_ref, _vjp_sort, doc="Sorted along an axis, stable, NaN last.")
primitive("argsort", HOST, lambda a, axis, descending: aval(a.shape, int64, a.device), _argsort_ref, None,
          doc="The order that sorts an axis, stable.")
