"""What can only be refused by looking at values: division of integers by zero, indices out of range.

In: the arguments of a call.  Out: nothing, or torch's error at the call.  Inside a trace the check is noted, and made by
each run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ..dtypes import BOOL, FLOAT, int64
from ..errors import explain
from ..ir.graph import Node, placeholder
from ..ir.primitive import BUFFER
from ..ops.declare import P, cast, full, zeros_like
from .evaluate import PENDING, realise, realise_all
from .placing import host
from .state import state
from .tensor import Tensor, value

_RANGES: WeakKeyDictionary[Node, dict[Any, tuple[int, int] | None]] = WeakKeyDictionary()


def check_divisor(divisor: Any, dividend: Any) -> None:
    """Integers do not divide by zero.  RuntimeError in torch's words."""
    kinds = () if divisor is None else (divisor.aval.dtype.category, dividend.aval.dtype.category)
    if not kinds or max(kinds) >= FLOAT or max(kinds) == BOOL:     # bools are refused by the op
        return
    if state.trace is not None:
        n = value(divisor) if isinstance(divisor, Tensor) else divisor
        zero = cast(P.eq(n, zeros_like(n)), int64)
        state.trace.check(zero, 0, 1, RuntimeError, "ZeroDivisionError", None)
        return
    n = value(divisor) if isinstance(divisor, Tensor) else divisor
    if not (np.all(realise(n)) if n.aval.device == "cpu" else everywhere(P.ne(n, zeros_like(n)))):
        raise explain(RuntimeError("ZeroDivisionError"), hint="mask the zeros first, or divide in floating point: x / y")


SHARES = {"binary_cross_entropy": ("all elements of input should be between 0 and 1",
                                   "all elements of target should be between 0 and 1"),
          **dict.fromkeys(("quantile", "nanquantile"), ("", "quantile() q values must be in the range [0, 1]"))}


def check_shares(name: str, tensors: Sequence[Any]) -> None:
    """Arguments that lie between 0 and 1 (those for which SHARES has words).  RuntimeError in torch's words."""
    for t, words in zip(tensors, SHARES[name]):
        n = value(t) if isinstance(t, Tensor) else t
        if not words:
            continue
        if n.dtype.category < FLOAT:
            continue
        if state.trace is not None:
            inside = P.bitwise_and(P.ge(n, zeros_like(n)), P.le(n, full(1, n.shape, n.dtype)))
            state.trace.check(cast(P.bitwise_not(inside), int64), 0, 1, RuntimeError, words, None)
            continue
        if not _inside(n):
            raise explain(RuntimeError(words), hint="use binary_cross_entropy_with_logits for what is no probability"
                          if name == "binary_cross_entropy" else None)


def _inside(n: Node) -> bool:
    if n.aval.device != "cpu":
        return everywhere(P.bitwise_and(P.ge(n, zeros_like(n)), P.le(n, full(1, n.shape, n.dtype))))
    array = realise(n)
    return bool(np.all((array >= 0) & (array <= 1)))


def everywhere(mask: Node) -> bool:
    """Does a mask hold everywhere?  Of a device's only the answer is copied."""
    if not mask.aval.size:
        return True
    if mask.aval.device != "cpu":
        mask = P.min(cast(mask, int64), tuple(range(mask.ndim)))
    return bool(np.all(host(mask)))


def remember(n: Node, least: int, greatest: int) -> None:
    """Integers of a buffer are known to lie between these."""
    _RANGES[n] = {None: (least, greatest)}


def extent(n: Node, ignore: int | None = None) -> tuple[int, int] | None:
    """(least, greatest) of an integer node, `ignore` left out; None if there is nothing.  Remembered for each buffer."""
    known = _RANGES.get(n.real or n)
    if known is not None and ignore in known:
        return known[ignore]
    found = _extent(n, ignore)
    _RANGES.setdefault(n.real or n, {})[ignore] = found
    return found


def _extent(n: Node, ignore: int | None) -> tuple[int, int] | None:
    if n.aval.device != "cpu":
        return ends_on_device(n, ignore)
    array = realise(n)
    if ignore is not None:
        array = array[array != ignore]
    return (int(array.min()), int(array.max())) if array.size else None


def ends_on_device(n: Node, ignore: int | None) -> tuple[int, int] | None:
    """(least, greatest) of integers on a device, `ignore` left out: these two are all that is copied."""
    if not n.aval.size:
        return None
    low, high, axes = n, n, tuple(range(n.ndim))
    if ignore is not None:
        left_out = P.eq(n, full(ignore, n.shape, n.dtype))
        info = np.iinfo(n.dtype.np)
        low = P.where(left_out, full(int(info.max), n.shape, n.dtype), n)
        high = P.where(left_out, full(int(info.min), n.shape, n.dtype), n)
    both = [P.reshape(cast(end, int64), (1,)) for end in (P.min(low, axes), P.max(high, axes))]
    least, greatest = host(P.concat(both, 0)).tolist()
    return (least, greatest) if least <= greatest else None


def _within_leaves(op: Any, tensors: Sequence[Any], fixed: Sequence[Any]) -> bool:
    """Can it be told without making a path real?  An index that is a view of a leaf lies where all of the leaf does."""
    wider: dict[Node, Node] = {}
    nodes: list[Any] = []
    for t in tensors:
        path = t.path if isinstance(t, Tensor) else None
        if path is None or path.layout(t.at) is None:
            nodes.append(value(t) if isinstance(t, Tensor) else t)
            continue
        leaf = path.leaf(t.at)
        nodes.append(placeholder(t.aval))
        if leaf is not None and t.aval.dtype.category < FLOAT:
            wider[nodes[-1]] = value(leaf)
    for index, lowest, end, _, *more in op.bounds(*op.arrange(nodes, fixed)):
        index = wider.get(index, index)
        if index.prim is not BUFFER:
            return False
        found = extent(index, more[1] if more else None)
        if found is not None and not (lowest <= found[0] and found[1] < end):
            return False
    return True


def check_bounds(op: Any, tensors: Sequence[Any], fixed: Sequence[Any]) -> None:
    """Indices of an op must lie where it says (see Op.bounds)."""
    if state.path is not None and _within_leaves(op, tensors, fixed):
        return
    nodes = [value(t) if isinstance(t, Tensor) else t for t in tensors]
    for index, lowest, end, words, *more in op.bounds(*op.arrange(nodes, fixed)):
        error, ignore = more if more else (IndexError, None)
        if state.trace is not None:
            state.trace.check(index, lowest, end, error, words, ignore)
            continue
        found = extent(index, ignore)
        if found is not None and not (lowest <= found[0] and found[1] < end):
            bad = found[0] if found[0] < lowest else found[1]
            raise explain(error(words.replace("{value}", str(bad))))


def compute_now(op: Any, fixed: Sequence[Any], result: Any) -> None:
    """What an op that refuses by value gave, computed: so that it refuses at the call.  A traced one does when it runs."""
    if state.trace is not None or op.raises is not True and not op.raises(*fixed):
        return
    made = [t for t in (result if type(result) is tuple else (result,)) if t.aval.device == "cpu"]
    try:
        realise_all([value(t) for t in made])
    except Exception as e:
        for t in made:
            PENDING.pop(t.storage, None)                  # nobody has it, and it cannot be computed
        explain(e)
        raise
