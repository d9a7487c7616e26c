"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..eager import functions
from ..eager.creation import zeros, zeros_like
from ..eager.modes import no_grad
from ..errors import explain
from .optimizer import Group, Optimizer

where = functions()["where"]


class SGD(Optimizer):
    """p -= lr * g, with torch's momentum, dampening, weight decay and Nesterov variant.

    >>> w = tensor([1.0], requires_grad=True); opt = SGD([w], lr=0.1)
    >>> (w * w).sum().backward(); opt.step(); w
    tensor([0.8000], requires_grad=True)
    """

    def __init__(self, params: Iterable[Any], lr: Any = 1e-3, momentum: float = 0.0, dampening: float = 0.0,
                 weight_decay: float = 0.0, nesterov: bool = False, *, maximize: bool = False) -> None:
        for name, v in (("learning rate", lr), ("momentum", momentum), ("weight_decay", weight_decay)):
            if isinstance(v, (int, float)) and v < 0.0:
                raise explain(ValueError(f"Invalid {name} value: {v}" if name != "learning rate" else "Invalid learning "
                                                                                                      f"rate: {v}"))
        if nesterov and (momentum <= 0 or dampening != 0):
            raise explain(ValueError("Nesterov momentum requires a momentum and zero dampening"))
        super().__init__(params, {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay,
                                  "nesterov": nesterov, "maximize": maximize})

    def make_state(self, group: Group, p: Any) -> None:
        if group["momentum"]:
            self.state[p] = {"momentum_buffer": zeros_like(p, requires_grad=False)}
            if group["dampening"]:
                self.state[p]["steps"] = zeros((), dtype=p.dtype)

    @no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Change every parameter that has a gradient."""
        loss = self._loss(closure)
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(group, p)
        return loss

    def _update(self, group: Group, p: Any) -> None:
        g = -p.grad if group["maximize"] else p.grad
        if group["weight_decay"]:
            g = g + p * group["weight_decay"]
        raw = g
        if group["momentum"]:
            state = self.state[p]
            buffer = state["momentum_buffer"]
            if group["dampening"]:                        # torch does not dampen the first step
                fresh = state["steps"] == 0
                g = g * where(fresh, 1.0, 1.0 - group["dampening"])
                state["steps"].add_(1)
            buffer.mul_(group["momentum"]).add_(g)
            g = raw + buffer * group["momentum"] if group["nesterov"] else buffer
        p.sub_(g * (group.number("lr") if type(group["lr"]) is float else group["lr"]))
