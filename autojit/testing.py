"""Is a gradient right?  Analytical derivatives held against finite differences.

In: a function of tensors and float64 inputs.  Out: True, or GradcheckError that says which input, which element, and both
numbers.  Defaults are torch's.  Never trusts float32: finite differences need float64.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .dtypes import COMPLEX, FLOAT, float64
from .eager.autograd import grad
from .eager.creation import from_numpy
from .eager.tensor import Tensor
from .errors import explain

Inputs = Tensor | Sequence[Any]


class GradcheckError(RuntimeError):
    """An analytical derivative that finite differences contradict."""


def _tuple(v: Any) -> tuple[Any, ...]:
    return (v,) if isinstance(v, Tensor) else tuple(v)


def _floating(outs: Any) -> list[Tensor]:
    return [o for o in _tuple(outs) if isinstance(o, Tensor) and o.aval.dtype.category >= FLOAT]


def _array(t: Tensor) -> np.ndarray:
    """A tensor's values on the host."""
    return t.detach().cpu().numpy()  # type: ignore[attr-defined, no-any-return]


def _flat(array: np.ndarray) -> np.ndarray:
    """The elements in a row; a complex one is two, its real and its imaginary part, in the same memory."""
    flat = array.reshape(-1)
    return flat.view(flat.real.dtype) if flat.dtype.kind == "c" else flat


def _beside(array: np.ndarray, t: Tensor) -> Tensor:
    """A tensor over an array, on the device of another."""
    return from_numpy(array).to(t.device)  # type: ignore[attr-defined, no-any-return]


def _numerical(fn: Callable[..., Any], inputs: tuple[Any, ...], k: int, eps: float) -> list[np.ndarray]:
    """For each output the Jacobian (input elements, output elements), by central differences in memory that fn sees."""
    base = np.array(_array(inputs[k]), copy=True, order="C")
    rows: list[list[np.ndarray]] = []
    for i in range(_flat(base).size):
        ends = []
        for sign in (1, -1):
            moved = base.copy()
            _flat(moved)[i] += sign * eps
            args = [_beside(moved, x).requires_grad_() if j == k else x for j, x in enumerate(inputs)]
            ends.append([_flat(_array(o).copy()) for o in _floating(fn(*args))])
        rows.append([(a - b) / (2 * eps) for a, b in zip(*ends)])
    if not rows:
        return [np.zeros((0, _flat(_array(o)).size)) for o in _floating(fn(*inputs))]
    return [np.stack(column) for column in zip(*rows)]


def _analytical(outs: list[Tensor], x: Tensor) -> list[np.ndarray]:
    """For each output the Jacobian (input elements, output elements), by one vector-Jacobian product an element."""
    found = []
    for o in outs:
        pick = np.zeros(o.aval.shape, o.aval.dtype.np)
        columns = np.zeros((_flat(_array(x)).size, _flat(pick).size))
        for i in range(columns.shape[1] if o.requires_grad else 0):
            pick = np.zeros(o.aval.shape, o.aval.dtype.np)
            _flat(pick)[i] = 1
            g, = grad(o, x, _beside(pick, o), retain_graph=True, allow_unused=True)
            if g is not None:
                columns[:, i] = _flat(_array(g))
        found.append(columns)
    return found


def gradcheck(func: Callable[..., Any], inputs: Inputs, *, eps: float = 1e-6, atol: float = 1e-5, rtol: float = 1e-3,
              raise_exception: bool = True) -> bool:
    """Compare the gradients of `func` (tensors in, a tensor or several out) with central differences of step `eps`.

    Inputs that require grad are checked; they must be float64, or complex128, where each part counts.
    |analytical - numerical| <= atol + rtol * |numerical| for every element.  Raises GradcheckError, or returns False if
    `raise_exception` is false.  ValueError without such inputs.

    >>> import autojit as aj
    >>> gradcheck(lambda x: x.sin() * x, aj.tensor([0.3, 2.0], dtype=aj.float64, requires_grad=True))
    True
    """
    given = _tuple(inputs)
    checked = [k for k, x in enumerate(given) if isinstance(x, Tensor) and x.requires_grad]
    if not checked:
        raise explain(ValueError("gradcheck expects at least one input tensor to require gradient, but none of the them have "
                                 "requires_grad=True."))
    for k in checked:
        if given[k].aval.dtype.part is not float64:
            warnings.warn(f"Input #{k} requires gradient and is not a double precision floating point or complex. This check "
                          "will likely fail if all the inputs are not of double precision floating point or complex.",
                          stacklevel=2)
    outs = _floating(func(*given))
    for k in checked:
        pairs = zip(_analytical(outs, given[k]), _numerical(func, given, k, eps))
        for j, (analytical, numerical) in enumerate(pairs):
            wrong = ~(np.abs(analytical - numerical) <= atol + rtol * np.abs(numerical))
            if wrong.any():
                if not raise_exception:
                    return False
                i, o = np.argwhere(wrong)[0]
                both = f"\nnumerical:{numerical}\nanalytical:{analytical}\n"
                raise explain(GradcheckError(f"Jacobian mismatch for output {j} with respect to input {k},{both}"),
                              hint=f"first at input element {i}, output element {o}: {analytical[i, o]:.6g} should be "
                                   f"{numerical[i, o]:.6g}")
    return True


def _made_up(rng: np.random.Generator, o: Tensor) -> np.ndarray:
    """A random cotangent of an output."""
    made = np.zeros(o.aval.shape, o.aval.dtype.np if o.aval.dtype.category == COMPLEX else np.float64)
    flat = _flat(made)
    flat[...] = rng.standard_normal(flat.shape)
    return made


def gradgradcheck(func: Callable[..., Any], inputs: Inputs, grad_outputs: Inputs | None = None, *, eps: float = 1e-6,
                  atol: float = 1e-5, rtol: float = 1e-3, raise_exception: bool = True) -> bool:
    """`gradcheck` of the gradient of `func`: second derivatives, with respect to the inputs and to the cotangents.

    >>> import autojit as aj
    >>> gradgradcheck(lambda x: x.exp() * x, aj.tensor([0.3, 2.0], dtype=aj.float64, requires_grad=True))
    True
    """
    given = _tuple(inputs)
    outs = _floating(func(*given))
    rng = np.random.default_rng(0)
    cts = _tuple(grad_outputs) if grad_outputs is not None else tuple(
        [_beside(_made_up(rng, o), o).requires_grad_() for o in outs])
    count = len(given)

    def first(*args: Any) -> tuple[Tensor, ...]:
        wanted = [x for x in args[:count] if isinstance(x, Tensor) and x.requires_grad]
        found = grad(_floating(func(*args[:count])), wanted, args[count:], create_graph=True, allow_unused=True)
        return tuple([g for g in found if g is not None])

    return gradcheck(first, (*given, *cts), eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception)


if __name__ == "__main__":
    import sys

    from .comparing import main
    sys.exit(main(sys.argv[1:]))
