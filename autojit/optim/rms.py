"""Optimisers that scale by the size of past gradients: RMSprop, Adagrad, Adadelta, and Rprop, which looks at signs alone.

In: parameters with gradients.  Out: in-place updates by torch's formulas.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..dtypes import float64
from ..eager import functions
from ..eager.creation import full_like, zeros, zeros_like
from ..errors import explain
from .optimizer import Group, Optimizer, refuse_negative
from .sgd import refuse_differentiable

where = functions()["where"]


def _zeros(p: Any) -> Any:
    return zeros_like(p, requires_grad=False)


class RMSprop(Optimizer):
    """p -= lr · g / (√v + eps): v averages squares of gradients (less the square of their average, if `centered`)."""

    real_only = True

    follows = ("lr", "momentum")

    def __init__(self, params: Iterable[Any], lr: Any = 1e-2, alpha: float = 0.99, eps: float = 1e-8, weight_decay: float = 0,
                 momentum: float = 0, centered: bool = False, capturable: bool = False, foreach: bool | None = None,
                 maximize: bool = False, differentiable: bool = False) -> None:
        refuse_negative(lr=lr, eps=eps, momentum=momentum, weight_decay=weight_decay, alpha=alpha)
        refuse_differentiable(differentiable)
        super().__init__(params, {"lr": lr, "momentum": momentum, "alpha": alpha, "eps": eps, "centered": centered,
                                  "weight_decay": weight_decay, "maximize": maximize})

    def make_state(self, group: Group, p: Any) -> None:
        self.state[p] = {"step": zeros((), dtype="float32"), "square_avg": _zeros(p)}
        if group["momentum"]:
            self.state[p]["momentum_buffer"] = _zeros(p)
        if group["centered"]:
            self.state[p]["grad_avg"] = _zeros(p)

    def update(self, group: Group, p: Any, g: Any) -> None:
        state, alpha, lr = self.state[p], group["alpha"], group.number("lr")
        state["step"].add_(1)
        square = state["square_avg"].mul_(alpha).add_(g * g * (1 - alpha))
        if group["centered"]:
            mean = state["grad_avg"]
            mean.add_((g - mean) * (1 - alpha))
            square = square - mean * mean
        scaled = g / (square.sqrt() + group["eps"])
        if group["momentum"]:
            scaled = state["momentum_buffer"].mul_(group.number("momentum")).add_(scaled)
        p.sub_(scaled * lr)


class Adagrad(Optimizer):
    """p -= lr · g / (√s + eps): s sums squares of gradients."""

    real_only = True

    def __init__(self, params: Iterable[Any], lr: Any = 1e-2, lr_decay: float = 0, weight_decay: float = 0,
                 initial_accumulator_value: float = 0, eps: float = 1e-10, foreach: bool | None = None, *,
                 maximize: bool = False, differentiable: bool = False, fused: bool | None = None) -> None:
        refuse_negative(lr=lr, lr_decay=lr_decay, weight_decay=weight_decay,
                        initial_accumulator_value=initial_accumulator_value, eps=eps)
        refuse_differentiable(differentiable)
        super().__init__(params, {"lr": lr, "lr_decay": lr_decay, "eps": eps, "weight_decay": weight_decay,
                                  "initial_accumulator_value": initial_accumulator_value, "maximize": maximize})

    def make_state(self, group: Group, p: Any) -> None:
        start = full_like(p, group["initial_accumulator_value"], requires_grad=False)
        self.state[p] = {"step": zeros((), dtype="float32"), "sum": start}

    def update(self, group: Group, p: Any, g: Any) -> None:
        state, lr = self.state[p], group.number("lr")
        before = state["step"].to(float64)
        if group["lr_decay"]:
            lr = lr / (1 + before * group["lr_decay"])
        total = state["sum"].add_(g * g)
        p.sub_(g / (total.sqrt() + group["eps"]) * lr)
        state["step"].add_(1)


class Adadelta(Optimizer):
    """p -= lr · g · √(d + eps) / √(v + eps): v averages squares of gradients, d squares of changes."""

    real_only = True

    def __init__(self, params: Iterable[Any], lr: Any = 1.0, rho: float = 0.9, eps: float = 1e-6, weight_decay: float = 0,
                 foreach: bool | None = None, *, capturable: bool = False, maximize: bool = False,
                 differentiable: bool = False) -> None:
        refuse_negative(lr=lr)
        if not 0.0 <= rho <= 1.0:
            raise explain(ValueError(f"Invalid rho value: {rho}"))
        refuse_negative(eps=eps, weight_decay=weight_decay)
        refuse_differentiable(differentiable)
        super().__init__(params, {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize})

    def make_state(self, group: Group, p: Any) -> None:
        self.state[p] = {"step": zeros((), dtype="float32"), "square_avg": _zeros(p), "acc_delta": _zeros(p)}

    def update(self, group: Group, p: Any, g: Any) -> None:
        state, rho, eps = self.state[p], group["rho"], group["eps"]
        state["step"].add_(1)
        square = state["square_avg"].mul_(rho).add_(g * g * (1 - rho))
        delta = (state["acc_delta"] + eps).sqrt() / (square + eps).sqrt() * g
        state["acc_delta"].mul_(rho).add_(delta * delta * (1 - rho))
        p.sub_(delta * group.number("lr"))


class Rprop(Optimizer):
    """Each element has a step of its own, which grows while its gradient keeps its sign and shrinks when that turns."""

    real_only = True

    def __init__(self, params: Iterable[Any], lr: Any = 1e-2, etas: tuple[float, float] = (0.5, 1.2),
                 step_sizes: tuple[float, float] = (1e-6, 50), *, capturable: bool = False, foreach: bool | None = None,
                 maximize: bool = False, differentiable: bool = False) -> None:
        refuse_negative(lr=lr)
        if not 0.0 < etas[0] < 1.0 < etas[1]:
            raise explain(ValueError(f"Invalid eta values: {etas[0]}, {etas[1]}"))
        refuse_differentiable(differentiable)
        super().__init__(params, {"lr": lr, "etas": etas, "step_sizes": step_sizes, "maximize": maximize})

    def make_state(self, group: Group, p: Any) -> None:
        self.state[p] = {"step": zeros((), dtype="float32"), "prev": _zeros(p),
                         "step_size": full_like(p, float(group["lr"]), requires_grad=False)}

    def update(self, group: Group, p: Any, g: Any) -> None:
        state, (shrink, grow), (least, most) = self.state[p], group["etas"], group["step_sizes"]
        state["step"].add_(1)
        turn = g * state["prev"]
        size = state["step_size"]
        size.copy_(where(turn > 0, size * grow, where(turn < 0, size * shrink, size)).clamp(least, most))
        g = where(turn < 0, g * 0.0, g)
        p.sub_(g.sign() * size)
        state["prev"].copy_(g)
