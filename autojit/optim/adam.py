"""Adam and its kin: averages of gradients over averages of their squares.

In: parameters with gradients.  Out: in-place updates by torch's formulas.  `step` counts are float32 tensors as torch's, and
what follows from them is computed in float64.  `foreach`, `fused` and `capturable` are taken for torch's sake: a step is one
program anyway.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..dtypes import float32, float64
from ..eager import functions
from ..eager.creation import ones, zeros, zeros_like
from ..errors import explain
from .optimizer import Group, Optimizer, refuse_negative
from .sgd import refuse_differentiable

where, maximum = functions()["where"], functions()["maximum"]
Betas = tuple[float, float]


class _Averages(Optimizer):
    """Base: options that all have, state, and the two moving averages."""

    real_only = True

    follows = ("lr", "betas")

    def __init__(self, params: Iterable[Any], lr: Any, betas: Betas, eps: float, weight_decay: float, differentiable: bool,
                 **more: Any) -> None:
        refuse_negative(lr=lr, eps=eps)
        for k, b in enumerate(betas):
            if not 0.0 <= b < 1.0:
                raise explain(ValueError(f"Invalid beta parameter at index {k}: {b}"))
        refuse_negative(weight_decay=weight_decay)
        refuse_differentiable(differentiable)
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, **more})

    def make_state(self, group: Group, p: Any) -> None:
        self.state[p] = {"step": zeros((), dtype="float32"), "exp_avg": zeros_like(p, requires_grad=False),
                         "exp_avg_sq": zeros_like(p, requires_grad=False)}

    def _count(self, state: dict[str, Any]) -> Any:
        """The number of this step, in float64."""
        return state["step"].add_(1).to(float64)

    def _average(self, state: dict[str, Any], g: Any, beta1: Any, beta2: Any) -> tuple[Any, Any]:
        """Averages of gradients and of their squares, moved on."""
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        return mean.add_((g - mean) * (1 - beta1)), square.mul_(beta2).add_(g * g * (1 - beta2))


class Adam(_Averages):
    """p -= lr · m̂ / (√v̂ + eps): averages of the gradient and of its square, each without its bias towards 0.

    >>> w = tensor([1.0, -2.0], requires_grad=True); opt = Adam([w], lr=0.1)
    >>> (w * w).sum().backward(); opt.step(); w
    tensor([ 0.9000, -1.9000], requires_grad=True)
    """

    def __init__(self, params: Iterable[Any], lr: Any = 1e-3, betas: Betas = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0, amsgrad: bool = False, *, foreach: bool | None = None, maximize: bool = False,
                 capturable: bool = False, differentiable: bool = False, fused: bool | None = None,
                 decoupled_weight_decay: bool = False) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, differentiable, amsgrad=amsgrad, maximize=maximize,
                         decoupled_weight_decay=decoupled_weight_decay)

    def make_state(self, group: Group, p: Any) -> None:
        super().make_state(group, p)
        if group["amsgrad"]:
            self.state[p]["max_exp_avg_sq"] = zeros_like(p, requires_grad=False)

    def update(self, group: Group, p: Any, g: Any) -> None:
        state = self.state[p]
        t, (beta1, beta2) = self._count(state), group.number("betas")
        mean, square = self._average(state, g, beta1, beta2)
        if group["amsgrad"]:
            top = state["max_exp_avg_sq"]
            square = top.copy_(maximum(top, square))
        scale = square.sqrt() / (1 - beta2 ** t).sqrt() + group["eps"]
        p.sub_(mean / scale * (group.number("lr") / (1 - beta1 ** t)))


class AdamW(Adam):
    """Adam whose weight decay is apart from the gradient: p -= lr · weight_decay · p."""

    def __init__(self, params: Iterable[Any], lr: Any = 1e-3, betas: Betas = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 1e-2, amsgrad: bool = False, *, maximize: bool = False, foreach: bool | None = None,
                 capturable: bool = False, differentiable: bool = False, fused: bool | None = None) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize, differentiable=differentiable,
                         decoupled_weight_decay=True)


class Adamax(_Averages):
    """Adam with the largest gradient (which decays) in the place of the average of squares."""

    def __init__(self, params: Iterable[Any], lr: Any = 2e-3, betas: Betas = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0, foreach: bool | None = None, *, maximize: bool = False, differentiable: bool = False,
                 capturable: bool = False) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, differentiable, maximize=maximize)

    def make_state(self, group: Group, p: Any) -> None:
        self.state[p] = {"step": zeros((), dtype="float32"), "exp_avg": zeros_like(p, requires_grad=False),
                         "exp_inf": zeros_like(p, requires_grad=False)}

    def update(self, group: Group, p: Any, g: Any) -> None:
        state = self.state[p]
        t, (beta1, beta2) = self._count(state), group.number("betas")
        mean, top = state["exp_avg"], state["exp_inf"]
        mean.add_((g - mean) * (1 - beta1))
        top.copy_(maximum(top * beta2, g.abs() + group["eps"]))
        p.sub_(mean / top * (group.number("lr") / (1 - beta1 ** t)))


class NAdam(_Averages):
    """Adam with Nesterov's momentum."""

    def __init__(self, params: Iterable[Any], lr: Any = 2e-3, betas: Betas = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0, momentum_decay: float = 4e-3, decoupled_weight_decay: bool = False, *,
                 foreach: bool | None = None, maximize: bool = False, capturable: bool = False,
                 differentiable: bool = False) -> None:
        refuse_negative(momentum_decay=momentum_decay)
        super().__init__(params, lr, betas, eps, weight_decay, differentiable, momentum_decay=momentum_decay,
                         maximize=maximize, decoupled_weight_decay=decoupled_weight_decay)

    def make_state(self, group: Group, p: Any) -> None:
        super().make_state(group, p)
        self.state[p]["mu_product"] = ones((), dtype="float32")

    def update(self, group: Group, p: Any, g: Any) -> None:
        state = self.state[p]
        t, (beta1, beta2), lr, slow = self._count(state), group.number("betas"), group.number("lr"), group["momentum_decay"]
        mu = beta1 * (1.0 - 0.5 * 0.96 ** (t * slow))
        after = beta1 * (1.0 - 0.5 * 0.96 ** ((t + 1) * slow))
        product = state["mu_product"].mul_(mu.to(float32)).to(float64)      # float32 as torch's, or saved state would differ
        mean, square = self._average(state, g, beta1, beta2)
        scale = (square / (1 - beta2 ** t)).sqrt() + group["eps"]
        p.sub_(g / scale * (lr * (1.0 - mu) / (1.0 - product)))
        p.sub_(mean / scale * (lr * after / (1.0 - product * after)))


class RAdam(_Averages):
    """Adam whose scale is left out while the average of squares is too young to be trusted."""

    def __init__(self, params: Iterable[Any], lr: Any = 1e-3, betas: Betas = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0, decoupled_weight_decay: bool = False, *, foreach: bool | None = None,
                 maximize: bool = False, capturable: bool = False, differentiable: bool = False) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, differentiable, maximize=maximize,
                         decoupled_weight_decay=decoupled_weight_decay)

    def update(self, group: Group, p: Any, g: Any) -> None:
        state = self.state[p]
        t, (beta1, beta2) = self._count(state), group.number("betas")
        mean, square = self._average(state, g, beta1, beta2)
        longest, c2 = 2 / (1 - beta2) - 1, 1 - beta2 ** t
        length = longest - 2 * t * beta2 ** t / c2
        trusted = length > 5.0
        r = where(trusted, length, 6.0)
        rect = ((r - 4) * (r - 2) * longest / ((longest - 4) * (longest - 2) * r)).sqrt()
        step = mean * (group.number("lr") / (1 - beta1 ** t))
        p.sub_(step * where(trusted, rect * c2.sqrt() / (square.sqrt() + group["eps"]), 1.0).to(p.dtype))
