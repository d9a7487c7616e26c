"""`autograd.functional`: derivatives of a function at given tensors, by the tape; torch's names and shapes.

In: a function of tensors, and a tensor or a tuple of them.  Out: the results of the function, and products or matrices of
derivatives, in the structure of the inputs.  For functions that return functions, nest and compile, see `transforms`.

>>> import autojit as aj
>>> aj.autograd.functional.jacobian(lambda x: x ** 2, aj.tensor([1.0, 2.0]))
tensor([[2., 0.],
        [0., 4.]])
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .eager import functions
from .eager.autograd import grad
from .eager.creation import ones_like, zeros, zeros_like
from .eager.modes import enable_grad
from .eager.tensor import Tensor
from .errors import explain

Tensors = tuple[Tensor, ...]
_stack = functions()["stack"]
_FIRST = "The output of the user-provided function is independent of input {}."
_SECOND = ("While computing the hessian, found that the jacobian of the user-provided function with respect to input {} is "
           "independent of the input.")


def _output(k: int) -> str:
    return _FIRST.replace("The output", f"Output {k}")


def _tuple(given: Any, what: str, of: str) -> tuple[bool, Tensors]:
    """(was it a tuple?, as a tuple)."""
    many = isinstance(given, tuple)
    flat = given if many else (given,)
    for k, t in enumerate(flat):
        if not isinstance(t, Tensor):
            where = f"{what} at index {k}" if many else what
            raise explain(TypeError(f"The {what} given to {of} must be either a Tensor or a tuple of Tensors but the {where} "
                                    f"has type {type(t)}."))
    return many, flat


class _Call:
    """One call of `func` on leaves, or on tensors that keep their history if a graph of the result is wanted."""

    def __init__(self, func: Callable[..., Any], inputs: Any, name: str, keep: bool, strict: bool) -> None:
        self.name, self.keep, self.strict = name, keep, strict
        self.many, given = _tuple(inputs, "inputs", name)
        with enable_grad():
            self.inputs = tuple([t.view_as(t) if keep and t.requires_grad else t.detach().requires_grad_() for t in given])
            self.tuple_out, self.outputs = _tuple(func(*self.inputs), "outputs of the user-provided function", name)
        for k, o in enumerate(self.outputs):
            if strict and not o.requires_grad:
                raise explain(RuntimeError(f"Output {k} of the user-provided function does not require gradients. The outputs "
                                           "must be computed in a differentiable manner from the input when running in strict "
                                           "mode."))

    def pull(self, outputs: Tensors, cts: Tensors, graph: bool, what: str = _FIRST) -> Tensors:
        """The cotangents of the inputs; zeros for what does not count, which strict mode refuses."""
        live = [(o, c) for o, c in zip(outputs, cts) if o.requires_grad]
        found: Any = [None] * len(self.inputs)
        if live:
            with enable_grad():
                found = grad([o for o, _ in live], self.inputs, [c for _, c in live], allow_unused=True, create_graph=graph,
                             retain_graph=True)
        for k, g in enumerate(found):
            if g is None and self.strict:
                raise explain(RuntimeError(f"{what.format(k)} This is not allowed in strict mode."))
        return tuple([zeros_like(t) if g is None else g for g, t in zip(found, self.inputs)])

    def like_inputs(self, parts: Tensors) -> Any:
        return self.done(parts, self.many)

    def results(self) -> Any:
        return self.done(self.outputs, self.tuple_out)

    def done(self, parts: Tensors, many: bool) -> Any:
        parts = parts if self.keep else tuple([t.detach() for t in parts])
        return parts if many else parts[0]

    def scalar(self) -> Tensor:
        if self.tuple_out or self.outputs[0].numel() != 1:
            raise explain(RuntimeError(f"The function given to {self.name} should return a single Tensor" if self.tuple_out else
                                       f"The Tensor returned by the function given to {self.name} should contain a single "
                                       "element"))
        return self.outputs[0].reshape(())  # type: ignore[attr-defined]

    def directions(self, v: Any, like: Tensors, what: str) -> Tensors:
        """The vector, of the shapes of `like`; without one only for a single element."""
        if v is None:
            if len(like) != 1 or like[0].numel() != 1:
                raise explain(RuntimeError(f"The vector v can only be None if the {what} a single Tensor with a single "
                                           "element."))
            return (ones_like(like[0]),)
        flat = _tuple(v, "v", self.name)[1]
        if len(flat) != len(like):
            raise explain(RuntimeError(f"v is a tuple of invalid length: should be {len(like)} but got {len(flat)}."))
        for k, (a, b) in enumerate(zip(flat, like)):
            if a.shape != b.shape:
                raise explain(RuntimeError(f"Entry {k} in v has invalid size: should be {b.shape} but got {a.shape}."
                                           if len(like) > 1 else
                                           f"v has invalid size: should be {b.shape} but got {a.shape}."))
        return tuple([t if self.keep else t.detach() for t in flat])


def vjp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """(results, v times the Jacobian).  `v`: of the results' shapes; may be left out for a single element."""
    call = _Call(func, inputs, "vjp", create_graph, strict)
    found = call.pull(call.outputs, call.directions(v, call.outputs, "user-provided function returns"), create_graph)
    return call.results(), call.like_inputs(found)


def jvp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """(results, the Jacobian times v).  `v`: of the inputs' shapes; may be left out for a single element."""
    call = _Call(func, inputs, "jvp", create_graph, strict)
    return call.results(), call.done(_pushed(call, call.outputs, call.directions(v, call.inputs, "input to the user-provided "
                                                                                    "function is")), call.tuple_out)


def _pushed(call: _Call, outputs: Tensors, along: Tensors, what: str = _FIRST) -> Tensors:
    """The derivative of the outputs along a direction: that of the pulled cotangents, which are linear in them."""
    cts = tuple([zeros_like(o).requires_grad_() for o in outputs])
    pulled = call.pull(outputs, cts, True, what)
    live = [(g, d) for g, d in zip(pulled, along) if g.requires_grad]
    if not live:
        return tuple([zeros_like(o) for o in outputs])
    with enable_grad():
        found = grad([g for g, _ in live], cts, [d for _, d in live], allow_unused=True, create_graph=call.keep,
                     retain_graph=True)
    return tuple([zeros_like(o) if g is None else g for g, o in zip(found, outputs)])


def _rows(call: _Call, output: Tensor, graph: bool, what: str) -> Tensors:
    """The Jacobian of one output to each input."""
    flat = output.reshape(-1)  # type: ignore[attr-defined]
    rows = [call.pull((flat[k],), (ones_like(flat[k]),), graph, what) for k in range(flat.shape[0])]
    parts = []
    for i, t in enumerate(call.inputs):
        shape = (*output.shape, *t.shape)
        parts.append(_stack([r[i] for r in rows]).reshape(shape) if rows else
                     zeros(shape, dtype=output.dtype, device=output.device))
    return tuple(parts)


def jacobian(func: Callable[..., Any], inputs: Any, create_graph: bool = False, strict: bool = False, vectorize: bool = False,
             strategy: str = "reverse-mode") -> Any:
    """The Jacobian, of shape (*result.shape, *input.shape); for tuples a tuple (of results) of tuples (of inputs).

    vectorize and strategy 'forward-mode' change how fast torch computes it; here `aj.jacrev`, `aj.jacfwd` are the fast way."""
    if strategy not in ("reverse-mode", "forward-mode"):
        raise explain(AssertionError(
            "Expected strategy to be either \"forward-mode\" or \"reverse-mode\". Hint: If your function has more outputs than "
            "inputs, \"forward-mode\" tends to be more performant. Otherwise, prefer to use \"reverse-mode\"."))
    call = _Call(func, inputs, "jacobian", create_graph, strict)
    found = tuple([call.like_inputs(_rows(call, o, create_graph, _output(k)))
                   for k, o in enumerate(call.outputs)])
    return found if call.tuple_out else found[0]


def _gradient(func: Callable[..., Any], inputs: Any, name: str, graph: bool, strict: bool) -> tuple[_Call, Tensors]:
    call = _Call(func, inputs, name, graph, strict)
    value = call.scalar()
    return call, call.pull((value,), (ones_like(value),), True, _SECOND if name == "hessian" else _FIRST)


def hessian(func: Callable[..., Any], inputs: Any, create_graph: bool = False, strict: bool = False, vectorize: bool = False,
            outer_jacobian_strategy: str = "reverse-mode") -> Any:
    """The Hessian of a function with one element, of shape (*input.shape, *input.shape); for a tuple a tuple of tuples."""
    call, gradient = _gradient(func, inputs, "hessian", create_graph, strict)
    found = tuple([call.like_inputs(_rows(call, g, create_graph, _output(k) if g.requires_grad else _SECOND))
                   for k, g in enumerate(gradient)])
    return found if call.many else found[0]


def vhp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """(value, v times the Hessian) of a function with one element."""
    call, gradient = _gradient(func, inputs, "vhp", create_graph, strict)
    along = call.directions(v, call.inputs, "input to the user-provided function is")
    return call.results(), call.like_inputs(call.pull(gradient, along, create_graph, _SECOND))


def hvp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """(value, the Hessian times v) of a function with one element."""
    call, gradient = _gradient(func, inputs, "hvp", create_graph, strict)
    along = call.directions(v, call.inputs, "input to the user-provided function is")
    return call.results(), call.like_inputs(_pushed(call, gradient, along, _SECOND))
