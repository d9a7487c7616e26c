"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..eager import functions
from ..eager.creation import zeros, zeros_like
from ..errors import explain
from .optimizer import Group, Optimizer, refuse_negative

where = functions()["where"]


class SGD(Optimizer):
    """p -= lr * g, with torch's momentum, dampening, weight decay and Nesterov variant.

    >>> w = tensor([1.0], requires_grad=True); opt = SGD([w], lr=0.1)
    >>> (w * w).sum().backward(); opt.step(); w
    tensor([0.8000], requires_grad=True)
    """

    follows = ("lr", "momentum")

    def __init__(self, params: Iterable[Any], lr: Any = 1e-3, momentum: float = 0.0, dampening: float = 0.0,
                 weight_decay: float = 0.0, nesterov: bool = False, *, maximize: bool = False, foreach: bool | None = None,
                 differentiable: bool = False, fused: bool | None = None) -> None:
        refuse_negative(lr=lr, momentum=momentum, weight_decay=weight_decay)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise explain(ValueError("Nesterov momentum requires a momentum and zero dampening"))
        refuse_differentiable(differentiable)
        super().__init__(params, {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay,
                                  "nesterov": nesterov, "maximize": maximize})

    def make_state(self, group: Group, p: Any) -> None:
        if group["momentum"]:
            self.state[p] = {"momentum_buffer": zeros_like(p, requires_grad=False)}
            if group["dampening"]:
                self.state[p]["steps"] = zeros((), dtype=p.dtype)

    def update(self, group: Group, p: Any, g: Any) -> None:
        raw = g
        if group["momentum"]:
            state = self.state[p]
            buffer = state["momentum_buffer"]
            if group["dampening"]:                        # torch does not dampen the first step
                fresh = state["steps"] == 0
                g = g * where(fresh, 1.0, 1.0 - group["dampening"])
                state["steps"].add_(1)
            momentum = group.number("momentum")
            buffer.mul_(momentum).add_(g)
            g = raw + buffer * momentum if group["nesterov"] else buffer
        p.sub_(g * group.number("lr"))


def refuse_differentiable(asked: bool) -> None:
    """A step that is itself differentiated is not there."""
    if asked:
        raise explain(NotImplementedError("differentiable=True is not supported: an optimiser's step has no derivative here"),
                      hint="write the update with tensors, and differentiate that")
