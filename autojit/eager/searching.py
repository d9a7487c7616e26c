"""Searching and counting on a device, by ops that have kernels there: what NumPy answers for tensors of the CPU.

In: tensors on a device, without a history.  Out: tensors there; only what a shape depends on is copied to the host.
"""

from __future__ import annotations

from ..dtypes import BOOL, FLOAT, int32, int64, uint8
from ..errors import explain
from ..ops.declare import OPS
from .binding import function_of
from .checks import ends_on_device
from .counting import places
from .creation import ones, zeros
from .tensor import Tensor, value

_cat, _where, _isnan = function_of(OPS["cat"]), function_of(OPS["where"]), function_of(OPS["isnan"])


def unique(t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct elements in order; the number of each element's; how often each occurs."""
    flat = t.reshape(-1)  # type: ignore[attr-defined]
    if flat.aval.dtype.category == BOOL:
        values, inverse, counts = unique(flat.to(uint8))
        return values != 0, inverse.reshape(t.aval.shape), counts
    values, order = flat.sort(stable=True)
    found, number, counts = runs(values)
    inverse = zeros(flat.aval.size, dtype=int64, device=t.aval.device).scatter(0, order, number)  # type: ignore[attr-defined]
    return found, inverse.reshape(t.aval.shape), counts


def runs(t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What differs from the element before it; the number of each element's run; how long each run is.  Of a vector."""
    device, n = t.aval.device, t.aval.size
    if not n:
        none = zeros(0, dtype=int64, device=device)
        return t, none, none
    first = _cat((ones(1, dtype="bool", device=device), t[1:] != t[:-1]))
    (starts,) = places(first)
    ends = _cat((starts[1:], zeros(1, dtype=int64, device=device) + n))
    return t[starts], first.to(int64).cumsum(0) - 1, ends - starts


def repeated(counts: Tensor) -> Tensor:
    """The number of each count, so many times.  RuntimeError for a negative count."""
    least = ends_on_device(value(counts), None)
    if least is not None and least[0] < 0:
        raise explain(RuntimeError("repeats can not be negative"))
    ends = counts.to(int64).cumsum(0)  # type: ignore[attr-defined]
    total = int(ends[-1].item()) if counts.aval.size else 0
    marks = zeros(total + 1, dtype=int64, device=counts.aval.device)
    if counts.aval.size:                                  # one more wherever a number ends
        marks = marks.index_add(0, ends, ones(counts.aval.size, dtype=int64, device=counts.aval.device))  # type: ignore
    return marks.cumsum(0)[:total]  # type: ignore[attr-defined, no-any-return]


def searched(a: Tensor, v: Tensor, right: bool, small: bool) -> Tensor:
    """Where each value would be put into sorted rows: how many elements of its row come before it.  NaN comes last."""
    row = a.reshape(-1) if a.ndim == 1 else a.reshape(*a.aval.shape[:-1], 1, a.aval.shape[-1])  # type: ignore[attr-defined]
    each = v.reshape(*v.aval.shape, 1)  # type: ignore[attr-defined]
    before = row <= each if right else row < each
    if a.aval.dtype.category >= FLOAT or v.aval.dtype.category >= FLOAT:
        last = _isnan(each) if right else _isnan(each) & ~_isnan(row)
        before = before | last
    return before.to(int64).sum(-1).to(int32 if small else int64)  # type: ignore[no-any-return]


def occurs(a: Tensor, b: Tensor) -> Tensor:
    """Which elements of the first occur in the second."""
    return (a.reshape(*a.aval.shape, 1) == b.reshape(-1)).any(-1)  # type: ignore[attr-defined, no-any-return]


def histogram(t: Tensor, bins: int, lo: float, hi: float) -> Tensor:
    """How many elements lie in each of `bins` equal intervals from lo to hi."""
    flat = t.reshape(-1)  # type: ignore[attr-defined]
    inside = (flat >= lo) & (flat <= hi)
    at = ((flat - lo) * bins / (hi - lo)).to(int64).clamp(0, bins - 1)
    at = _where(inside, at, bins)                         # the last place takes what is outside
    counts = zeros(bins + 1, dtype=int64, device=t.aval.device).index_add(  # type: ignore[attr-defined]
        0, at, ones(flat.aval.size, dtype=int64, device=t.aval.device))
    return counts[:bins].to(t.aval.dtype)  # type: ignore[no-any-return]


def sampled(rows: Tensor, u: Tensor, count: int, replacement: bool) -> Tensor:
    """Places drawn with probabilities proportional to the elements of each row (float64), by uniform numbers `u`."""
    if replacement:
        total = rows.cumsum(1)  # type: ignore[attr-defined]
        return searched(total, u * total[:, -1:], True, False)  # type: ignore[operator]
    races = -(-u).log1p() / rows  # type: ignore[attr-defined, operator]
    return races.argsort(1, stable=True)[:, :count]  # type: ignore[attr-defined, no-any-return]

