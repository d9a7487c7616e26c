"""What users ask of the tape: `backward`, `grad`, and what stands in `autojit.autograd`.

In: tensors.  Out: gradients.  Checks arguments, in torch's words; the walk itself is `backward.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..dtypes import COMPLEX
from ..errors import explain
from ..ir.aval import Aval
from .ahead import begin, lesson_of, ran_ahead
from .backward import backward, gradients
from .placing import carried
from .state import state
from .tensor import Tensor


def _tuple(x: Any) -> tuple[Any, ...]:
    return tuple(x) if isinstance(x, (tuple, list)) else (x,)


def check_seeds(outputs: Sequence[Tensor], given: Sequence[Any], batched: bool = False) -> list[Tensor | None]:
    """Cotangents of outputs: None only for one element, else the same shape.  RuntimeError in torch's words."""
    for ct in given:
        if ct is not None and not isinstance(ct, Tensor):
            raise explain(TypeError(f"gradients can be either Tensors or None, but got {type(ct).__name__}"))
    if len(given) != len(outputs):
        raise explain(RuntimeError(f"got {len(outputs)} tensors and {len(given)} gradients"))
    for k, (out, ct) in enumerate(zip(outputs, given)):
        if ct is None:
            if out.requires_grad and out.aval.dtype.category == COMPLEX:
                raise explain(RuntimeError("grad can be implicitly created only for real scalar outputs but got "
                                           f"{out.aval.dtype}"))
            if out.requires_grad and out.aval.size != 1:
                raise explain(RuntimeError("grad can be implicitly created only for scalar outputs"),
                              hint="reduce it first (.sum(), .mean()), or pass gradient=, a tensor of the output's shape")
        elif (ct.aval.shape[1:] if batched else ct.aval.shape) != out.aval.shape:
            raise explain(RuntimeError(f"Mismatch in shape: grad_output[{k}] has a shape of {ct.shape} and output[{k}] has a "
                                       f"shape of {out.shape}."))
    return [ct if ct is None or ct.aval is out.aval else _fitted(k, ct, out.aval)
            for k, (out, ct) in enumerate(zip(outputs, given))]


def _fitted(k: int, ct: Tensor, a: Aval) -> Tensor:
    """A cotangent in the dtype of its output, and on its device."""
    if ct.aval.device != a.device:
        ct = carried(ct, a, f"invalid gradient at index {k}")
    return ct if ct.aval.dtype is a.dtype else ct.to(a.dtype)  # type: ignore[no-any-return]


def backward_method(self: Tensor, gradient: Any = None, retain_graph: bool | None = None, create_graph: bool = False,
                    inputs: Any = None) -> None:
    """Add the gradient of this tensor to `.grad` of the leaves that it was computed from.

    gradient: the cotangent, of this tensor's shape; may be left out for one element.  retain_graph: keep what the rules
    read for another pass (default: create_graph).  create_graph: let the gradients be differentiated again.  inputs: the
    only tensors to receive gradients.

    >>> x = tensor([1.0, 2.0], requires_grad=True)
    >>> (x ** 2).sum().backward()
    >>> x.grad
    tensor([2., 4.])
    """
    path, lesson = state.path, None
    if (path is not None and self.path is path and gradient is None and inputs is None and not retain_graph
            and not create_graph):
        if ran_ahead(self):
            return
        lesson = lesson_of(path, self)
    _run(self, gradient, retain_graph, create_graph, inputs, lesson)


def backward_function(tensors: Any, grad_tensors: Any = None, retain_graph: bool | None = None, create_graph: bool = False,
                      inputs: Any = None) -> None:
    """`autograd.backward`: the sum of gradients of several tensors, added to the leaves."""
    _run(tensors, grad_tensors, retain_graph, create_graph, inputs, None)


def _run(tensors: Any, grad_tensors: Any, retain_graph: bool | None, create_graph: bool, inputs: Any, lesson: Any) -> None:
    roots = _tuple(tensors)
    cts = check_seeds(roots, (None,) * len(roots) if grad_tensors is None else _tuple(grad_tensors))
    if inputs is not None:
        inputs = _tuple(inputs)
        if not inputs:
            raise explain(RuntimeError("`inputs` argument to `backward()` cannot be empty."))
    backward(roots, cts, create_graph if retain_graph is None else retain_graph, create_graph, inputs, lesson)
    begin()


def grad(outputs: Any, inputs: Any, grad_outputs: Any = None, retain_graph: bool | None = None, create_graph: bool = False,
         allow_unused: bool | None = None, is_grads_batched: bool = False,
         materialize_grads: bool = False) -> tuple[Tensor | None, ...]:
    """Gradients of `outputs` (their sum, weighted by `grad_outputs`) with respect to `inputs`, as a tuple of tensors.

    Nothing is added to `.grad`.  allow_unused: None for inputs that the outputs do not depend on, instead of an error;
    materialize_grads: zeros for them.  is_grads_batched: `grad_outputs` have a leading axis, and so have the results.

    >>> x = tensor(3.0, requires_grad=True)
    >>> grad(x ** 2, x)
    (tensor(6.),)
    """
    outs, ins = _tuple(outputs), _tuple(inputs)
    if allow_unused is None:
        allow_unused = materialize_grads
    elif materialize_grads and not allow_unused:
        raise explain(ValueError("Expected allow_unused to be True or not passed when materialize_grads=True, but got: "
                                 "allow_unused=False."))
    if not ins:
        raise explain(RuntimeError("`inputs` argument to `grad()` cannot be empty."))
    retain = create_graph if retain_graph is None else retain_graph
    seeds = check_seeds(outs, (None,) * len(outs) if grad_outputs is None else _tuple(grad_outputs), is_grads_batched)
    if is_grads_batched:
        found = _batched(outs, ins, seeds, retain, create_graph, allow_unused)
    else:
        found = gradients(outs, seeds, ins, retain, create_graph, allow_unused)
    if materialize_grads:
        found = [i.new_zeros(i.shape) if g is None else g for g, i in zip(found, ins)]
    return tuple(found)


def _batched(outs: Sequence[Tensor], ins: Sequence[Tensor], seeds: Sequence[Any], retain: bool, create: bool,
             allow_unused: bool) -> list[Tensor | None]:
    """One pass for each row of the cotangents, stacked."""
    from .binding import functions
    rows = seeds[0].aval.shape[0]
    each = [gradients(outs, [s[k] for s in seeds], ins, retain or k < rows - 1, create, allow_unused) for k in range(rows)]
    stack = functions()["stack"]
    return [None if each[0][i] is None else stack([e[i] for e in each]) for i in range(len(ins))]


def install() -> None:
    Tensor.backward = backward_method
