"""Functions at the top level that look at values, or only combine others: combinations, histogram, poisson, chain_matmul.

In: tensors.  Out: tensors.  Imported when somebody asks for one of them.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from .dtypes import FLOAT, int64
from .eager import functions
from .eager.binding import Named, function_of
from .eager.creation import finish, tensor
from .eager.random import Generator, default_generator
from .eager.state import state
from .eager.template import scalar_type
from .eager.tensor import Tensor, expect, of_array
from .errors import explain
from .ops.declare import OPS

_matmul = functions()["matmul"]


def polygamma(n: int, input: Any) -> Any:
    """The n-th derivative of digamma.

    >>> import autojit as aj
    >>> aj.polygamma(1, aj.tensor([1.0]))
    tensor([1.6449])
    """
    return function_of(OPS["polygamma"])(input, n)


def chain_matmul(*matrices: Any) -> Any:
    """The product of two or more matrices, from left to right.

    >>> import autojit as aj
    >>> aj.chain_matmul(aj.ones(1, 2), aj.ones(2, 3), aj.ones(3, 1))
    tensor([[6.]])
    """
    if not matrices:
        raise explain(RuntimeError("chain_matmul(): Expected one or more matrices"))
    out = matrices[0]
    for m in matrices:
        expect("chain_matmul", m)
        if m.ndim != 2:
            raise explain(RuntimeError(f"Tensor dimension is {m.ndim}, expected 2 instead."))
    for m in matrices[1:]:
        out = _matmul(out, m)
    return out


def combinations(input: Any, r: int = 2, with_replacement: bool = False) -> Any:
    """All choices of r elements of a vector, one a row.

    >>> import autojit as aj
    >>> aj.combinations(aj.tensor([1, 2, 3]))
    tensor([[1, 2],
            [1, 3],
            [2, 3]])
    """
    expect("combinations", input)
    if input.ndim != 1:
        raise explain(RuntimeError(f"Expect a 1D vector, but got shape {list(input.shape)}"))
    if r < 0:
        raise explain(RuntimeError(f"Expect a non-negative number, but got {r}"))
    if r == 0:
        return input.new_empty((0,))
    choose: Any = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    rows = list(choose(range(input.shape[0]), r))
    if not rows:
        return input.new_empty((0, r))
    return input[tensor(rows, dtype=int64, device=input.device)]


def _array(what: str, t: Any) -> Any:
    if state.trace is not None:
        raise explain(RuntimeError(f"{what} depends on values: it cannot be traced"), hint="take it out of the traced function")
    return t.detach().cpu().numpy()


class _Histogram(Named):
    __slots__ = ()
    _fields, _title = ("hist", "bin_edges"), "histogram"
    hist, bin_edges = property(lambda self: self[0]), property(lambda self: self[1])


def histogram(input: Any, bins: Any, *, range: Any = None, weight: Any = None, density: bool = False) -> Any:
    """How many elements (or how much weight) lie in each bin, and the bins' edges: a number of equal ones, or edges.

    >>> import autojit as aj
    >>> aj.histogram(aj.tensor([1.0, 2.0, 1.0]), 2)[0]
    tensor([2., 1.])
    """
    expect("histogram", input)
    if input.dtype.category < FLOAT:
        raise explain(NotImplementedError(f"\"histogramdd\" not implemented for '{scalar_type(input.dtype)}'"))
    a = _array("histogram()", input)
    w = None if weight is None else _array("histogram()", weight).reshape(-1)
    if isinstance(bins, Tensor):
        edges = _array("histogram()", bins)
    else:
        if bins <= 0:
            raise explain(RuntimeError(f"torch.histogram(): bins must be > 0, but got {bins} for dimension 0"))
        ends = range if range is not None else (a.min(), a.max()) if a.size else (0, 1)
        low, high = float(ends[0]), float(ends[1])
        if low == high:
            low, high = low - 0.5, high + 0.5
        edges = np.linspace(low, high, bins + 1).astype(a.dtype)
    counts = np.histogram(a.reshape(-1), edges, weights=w, density=density)[0]
    return _Histogram((finish(of_array(counts.astype(a.dtype)), False), finish(of_array(edges.astype(a.dtype)), False)))


def poisson(input: Any, generator: Generator | None = None) -> Any:
    """Poisson numbers of the rates that the elements give.

    >>> import autojit as aj
    >>> aj.poisson(aj.zeros(2))
    tensor([0., 0.])
    """
    expect("poisson", input)
    if input.dtype.category < FLOAT:
        raise explain(NotImplementedError(f"\"poisson_cpu\" not implemented for '{scalar_type(input.dtype)}'"))
    rates = _array("poisson()", input)
    if not (rates >= 0).all():
        raise explain(RuntimeError("invalid Poisson rate, expected rate to be non-negative"))
    seed, draw = (generator or default_generator).next()
    drawn = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, draw, 0])).poisson(rates.astype(np.float64))
    return finish(of_array(np.asarray(drawn).astype(rates.dtype)), False).to(input.device)  # type: ignore[attr-defined]
