"""`autojit.nn.utils`: gradients held in bounds, parameters as one vector.

In: parameters.  Out: their gradients changed in place, the norm there was; vectors.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from ..eager import functions
from ..eager.creation import tensor
from ..eager.modes import no_grad
from ..eager.tensor import Tensor
from ..errors import explain

_stack, _cat, _norm = functions()["stack"], functions()["cat"], functions()["norm"]


def _listed(parameters: Any) -> list[Any]:
    return [parameters] if isinstance(parameters, Tensor) else list(parameters)


@no_grad()
def get_total_norm(tensors: Any, norm_type: float = 2.0, error_if_nonfinite: bool = False) -> Any:
    """The norm of all elements of all tensors together, a 0-d tensor."""
    norms = [_norm(t.detach(), norm_type) for t in _listed(tensors)]
    if not norms:
        return tensor(0.0)
    total = _norm(_stack([n.to(norms[0].device) for n in norms]), norm_type)
    if error_if_nonfinite and not math.isfinite(float(total)):
        raise explain(RuntimeError(
            f"The total norm of order {norm_type} for gradients from `parameters` is non-finite, so it cannot be clipped. To "
            "disable this error and scale the gradients by the non-finite norm anyway, set `error_if_nonfinite=False`"))
    return total


@no_grad()
def clip_grad_norm_(parameters: Any, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False,
                    foreach: bool | None = None) -> Any:
    """Scale all gradients so that their norm together is at most `max_norm`; returns the norm they had (0-d tensor).

    >>> w = tensor([3.0, 4.0], requires_grad=True); (w * w).sum().backward()
    >>> clip_grad_norm_([w], 1.0), w.grad
    (tensor(10.), tensor([0.6000, 0.8000]))
    """
    grads = [p.grad for p in _listed(parameters) if p.grad is not None]
    total = get_total_norm(grads, float(norm_type), error_if_nonfinite)
    share = (max_norm / (total + 1e-6)).clamp(max=1.0)
    for g in grads:
        g.mul_(share.to(g.device))
    return total


@no_grad()
def clip_grad_value_(parameters: Any, clip_value: float, foreach: bool | None = None) -> None:
    """Hold every element of all gradients within ±clip_value."""
    for p in _listed(parameters):
        if p.grad is not None:
            p.grad.clamp_(-float(clip_value), float(clip_value))


def parameters_to_vector(parameters: Iterable[Any]) -> Any:
    """All parameters, one after another, as one vector (differentiable)."""
    return _cat([p.reshape(-1) for p in _listed(parameters)])


def vector_to_parameters(vec: Any, parameters: Iterable[Any]) -> None:
    """Each parameter's data from its part of a vector."""
    if not isinstance(vec, Tensor):
        raise explain(TypeError(f"expected torch.Tensor, but got: {type(vec).__name__}"))
    at = 0
    for p in _listed(parameters):
        n = p.numel()
        p.data = vec[at:at + n].detach().reshape(p.shape).clone()  # type: ignore[attr-defined]
        at += n


__all__ = ["clip_grad_norm_", "clip_grad_value_", "get_total_norm", "parameters_to_vector", "vector_to_parameters"]
