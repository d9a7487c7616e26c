"""Functions at the top level that look at values, or only combine others: combinations, histogram, poisson, windows.

In: tensors.  Out: tensors.  Imported when somebody asks for one of them.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from .dtypes import FLOAT, INT, as_dtype, default_float, int64
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


def unravel_index(indices: Any, shape: Any) -> Any:
    """Places of the flattened shape as one index for each dim.

    >>> import autojit as aj
    >>> aj.unravel_index(aj.tensor([5, 7]), (3, 4))
    (tensor([1, 1]), tensor([1, 3]))
    """
    expect("unravel_index", indices)
    if indices.dtype.category != INT:
        raise explain(ValueError(f"expected 'indices' to be integer dtype, but got {indices.dtype}"))
    found, rest = [], indices
    for n in reversed((shape,) if isinstance(shape, int) else tuple(shape)):
        found.append(rest % n)
        rest = rest // n
    return tuple(found[::-1])


# ---------------------------------------------------------------- windows
def _window(name: str, formula: Any, places: int = 0) -> Any:
    """A window by `formula(k, last, *numbers)`; `places`: how many numbers it takes."""
    def f(window_length: int, periodic: bool = True, *numbers: float, dtype: Any = None, device: Any = None,
          requires_grad: bool = False, **words: float) -> Any:
        if window_length < 0:
            raise explain(RuntimeError(f"{name} requires non-negative window_length, got window_length={window_length}"))
        if len(numbers) + len(words) > places:
            raise explain(TypeError(f"{name}() takes {2 + places} positional arguments"))
        d = default_float() if dtype is None else as_dtype(dtype)
        if d.category < FLOAT:
            raise explain(RuntimeError(f"{name} expects floating point dtypes, got: {d}"))
        count = window_length + int(periodic)
        values = np.ones(1) if window_length == 1 else np.asarray(
            formula(np.arange(window_length, dtype=np.float64), max(count - 1, 1), *numbers, **words))
        return tensor(values.tolist(), dtype=d, device=device, requires_grad=requires_grad)

    f.__name__ = f.__qualname__ = name
    f.__doc__ = f"torch's {name}: a window of so many places, periodic or (periodic=False) symmetric."
    return f


def _cosines(k: Any, last: int, *weights: float) -> Any:
    return sum([(-1) ** j * w * np.cos(2 * np.pi * j * k / last) for j, w in enumerate(weights)])


hann_window = _window("hann_window", lambda k, n: _cosines(k, n, 0.5, 0.5))
hamming_window = _window("hamming_window", lambda k, n, alpha=0.54, beta=0.46: _cosines(k, n, alpha, beta), 2)
blackman_window = _window("blackman_window", lambda k, n: _cosines(k, n, 0.42, 0.5, 0.08))
bartlett_window = _window("bartlett_window", lambda k, n: 1 - np.abs(2 * k / n - 1))
kaiser_window = _window("kaiser_window", lambda k, n, beta=12.0: np.i0(
    beta * np.sqrt(1 - (2 * k / n - 1) ** 2)) / np.i0(beta), 1)
