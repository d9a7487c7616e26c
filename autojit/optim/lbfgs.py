"""L-BFGS: steps along directions that past gradients have bent, with a search along each that satisfies Wolfe's conditions.

In: parameters and a closure that computes loss and gradients.  Out: parameters changed until the closure has been asked often
enough or nothing moves.  Directions are NumPy vectors over all parameters: each is short work beside a call of the closure, and
how many are kept changes from step to step, which would compile a program each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..eager.creation import as_tensor
from ..eager.modes import enable_grad, no_grad
from ..eager.state import state as now
from ..errors import TraceError, explain
from .optimizer import Optimizer, refuse_negative

ARMIJO, CURVATURE = 1e-4, 0.9
SMALL = 1e-9                                              # a bracket shorter than this is not refined


class Point:
    """A place on the line: how far, the loss, the gradient, the slope along the line."""

    __slots__ = ("t", "loss", "gradient", "slope")

    def __init__(self, t: float, loss: float, gradient: Any, slope: float) -> None:
        self.t, self.loss, self.gradient, self.slope = t, loss, gradient, slope


def cubic_minimum(a: Point, b: Point, low: float | None = None, high: float | None = None) -> float:
    """Where a cubic with these two losses and slopes is least, within bounds (between the two, if none are given)."""
    if low is None or high is None:
        low, high = min(a.t, b.t), max(a.t, b.t)
    d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t)
    inside = d1 * d1 - a.slope * b.slope
    if not inside >= 0:
        return (low + high) / 2.0
    d2 = math.sqrt(inside)
    if a.t > b.t:
        a, b = b, a
    below = b.slope - a.slope + 2 * d2
    at = b.t - (b.t - a.t) * ((b.slope + d2 - d1) / below) if below else math.nan
    return min(max(at, low), high)


def _bracket(look: Callable[[float], Point], start: Point, t: float, most: int) -> tuple[list[Point], int, bool]:
    """Points around one that satisfies Wolfe's conditions (or that one alone); looks taken beyond the first; found?"""
    before, here = start, look(t)
    for k in range(most):
        if here.loss > start.loss + ARMIJO * here.t * start.slope or (k > 1 and here.loss >= before.loss):
            return [before, here], k, False
        if abs(here.slope) <= -CURVATURE * start.slope:
            return [here], k, True
        if here.slope >= 0:
            return [before, here], k, False
        t = cubic_minimum(before, here, here.t + 0.01 * (here.t - before.t), here.t * 10)
        before, here = here, look(t)
    return [start, here], most, False


def _inside(pair: list[Point], stuck: bool) -> tuple[float, bool]:
    """The next place to look at between two points, kept away from both where it came too near twice."""
    t = cubic_minimum(pair[0], pair[1])
    least, most = min(pair[0].t, pair[1].t), max(pair[0].t, pair[1].t)
    margin = 0.1 * (most - least)
    if min(most - t, t - least) >= margin:
        return t, False
    if stuck or t >= most or t <= least:
        return (most - margin if abs(t - most) < abs(t - least) else least + margin), False
    return t, True


def strong_wolfe(look: Callable[[float], Point], start: Point, t: float, longest: float, most: int) -> tuple[Point, int]:
    """A point where the loss is sufficiently lower and the slope sufficiently flatter; how many looks it took.

    longest: the greatest element of the direction.  most: looks that may be taken beyond the first.
    """
    pair, k, found = _bracket(look, start, t, most)
    looks = k + 1
    if len(pair) == 1:
        return pair[0], looks
    low = 0 if pair[0].loss <= pair[1].loss else 1
    stuck = False
    while not found and k < most and abs(pair[1].t - pair[0].t) * longest >= SMALL:
        t, stuck = _inside(pair, stuck)
        here = look(t)
        looks, k = looks + 1, k + 1
        if here.loss > start.loss + ARMIJO * t * start.slope or here.loss >= pair[low].loss:
            pair[1 - low] = here
            low = 0 if pair[0].loss <= pair[1].loss else 1
            continue
        if abs(here.slope) <= -CURVATURE * start.slope:
            found = True
        elif here.slope * (pair[1 - low].t - pair[low].t) >= 0:
            pair[1 - low] = pair[low]
        pair[low] = here
    return pair[low], looks


class LBFGS(Optimizer):
    """Quasi-Newton steps: `step(closure)`, where the closure clears gradients, computes the loss, calls `backward()` and
    returns the loss.  One group of parameters; `line_search_fn="strong_wolfe"` or None (steps of lr).  Not for traced
    functions.

    >>> w = tensor([5.0, -3.0], requires_grad=True); opt = LBFGS([w], line_search_fn="strong_wolfe")
    >>> def closure():
    ...     opt.zero_grad()
    ...     loss = ((w - 1) ** 2).sum()
    ...     loss.backward()
    ...     return loss
    >>> _ = opt.step(closure); w
    tensor([1., 1.], requires_grad=True)
    """

    real_only = True

    follows = ()

    def __init__(self, params: Iterable[Any], lr: Any = 1, max_iter: int = 20, max_eval: int | None = None,
                 tolerance_grad: float = 1e-7, tolerance_change: float = 1e-9, history_size: int = 100,
                 line_search_fn: str | None = None) -> None:
        refuse_negative(lr=lr)
        if line_search_fn not in (None, "strong_wolfe"):
            raise explain(RuntimeError("only 'strong_wolfe' is supported"))
        most = max_iter * 5 // 4 if max_eval is None else max_eval
        super().__init__(params, {"lr": lr, "max_iter": max_iter, "max_eval": most, "tolerance_grad": tolerance_grad,
                                  "tolerance_change": tolerance_change, "history_size": history_size,
                                  "line_search_fn": line_search_fn})
        if len(self.param_groups) != 1:
            raise explain(ValueError("LBFGS doesn't support per-parameter options (parameter groups)"))
        self._params = self.param_groups[0]["params"]

    # ------------------------------------------------------------ parameters as one vector
    def _gradient_now(self) -> Any:
        parts = [np.zeros(p.numel(), p.detach().cpu().numpy().dtype) if p.grad is None
                 else p.grad.detach().cpu().numpy().reshape(-1) for p in self._params]
        return np.concatenate(parts)

    def _values(self) -> list[Any]:
        return [p.detach().cpu().numpy().copy() for p in self._params]

    def _place(self, values: list[Any], t: float, direction: Any) -> None:
        """Parameters at `values` + t · direction."""
        at = 0
        for p, v in zip(self._params, values):
            move = direction[at:at + v.size].reshape(v.shape) * v.dtype.type(t)
            p.copy_(as_tensor(v + move, device=p.device))
            at += v.size

    # ------------------------------------------------------------ the step
    @no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Up to `max_iter` steps; returns the loss there was before the first."""
        if now.trace is not None:
            raise explain(TraceError("LBFGS looks at losses, which have no value inside a traced function"),
                          hint="trace the closure's loss instead")
        if closure is None:
            raise explain(TypeError("LBFGS.step() missing 1 required positional argument: 'closure'"))
        options, own = self.param_groups[0], self.state.setdefault(self._params[0], {})
        own.setdefault("func_evals", 0)
        own.setdefault("n_iter", 0)

        def evaluate() -> Any:
            own["func_evals"] += 1
            with enable_grad():
                return closure()
        first = evaluate()
        loss, g = float(first), self._gradient_now()
        spent = own["func_evals"] - 1
        for k in range(options["max_iter"]):
            if abs(g).max() <= options["tolerance_grad"]:
                break
            own["n_iter"] += 1
            d = self._direction(own, g, options["history_size"])
            own["prev_flat_grad"], own["prev_loss"] = g, loss
            t = float(options["lr"]) * (min(1.0, 1.0 / float(abs(g).sum())) if own["n_iter"] == 1 else 1.0)
            own["d"], own["t"] = d, t
            slope = float(g @ d)
            if slope > -options["tolerance_change"]:
                break
            last = k + 1 == options["max_iter"]
            before = loss
            loss, g, t = self._move(evaluate, Point(0.0, loss, g, slope), d, t, last,
                                    options["max_eval"] - (own["func_evals"] - spent))
            own["t"] = t
            if last or own["func_evals"] - spent >= options["max_eval"]:
                break
            if abs(d * t).max() <= options["tolerance_change"] or abs(loss - before) < options["tolerance_change"]:
                break
        return first

    def _direction(self, own: dict[str, Any], g: Any, room: int) -> Any:
        """The gradient downwards, bent by what past steps have shown of the curvature."""
        if own["n_iter"] == 1:
            own["old_dirs"], own["old_stps"], own["ro"], own["H_diag"] = [], [], [], 1.0
            return -g
        y, s = g - own["prev_flat_grad"], own["d"] * own["d"].dtype.type(own["t"])
        ys = y @ s
        if ys > 1e-10:
            for name, v in (("old_dirs", y), ("old_stps", s), ("ro", 1.0 / ys)):
                own[name] = [*own[name], v][-room:]
            own["H_diag"] = ys / (y @ y)
        past = list(zip(own["old_dirs"], own["old_stps"], own["ro"]))
        q, shares = -g, []
        for y, s, r in reversed(past):
            shares.append((s @ q) * r)
            q = q - y * shares[-1]
        d = q * own["H_diag"]
        for (y, s, r), a in zip(past, reversed(shares)):
            d = d + s * (a - (y @ d) * r)
        return d

    def _move(self, evaluate: Callable[[], Any], start: Point, d: Any, t: float, last: bool,
              looks: int) -> tuple[float, Any, float]:
        """Go along a direction: loss, gradient and how far."""
        values = self._values()

        def look(t: float) -> Point:
            self._place(values, t, d)
            loss = float(evaluate())
            g = self._gradient_now()
            return Point(t, loss, g, float(g @ d))
        if self.param_groups[0]["line_search_fn"] is None:
            if last:                                      # nobody asks for the loss there
                self._place(values, t, d)
                return start.loss, start.gradient, t
            here = look(t)
        else:
            here, _ = strong_wolfe(look, start, t, float(abs(d).max()), looks)
            self._place(values, here.t, d)
        return here.loss, here.gradient, here.t

    # ------------------------------------------------------------ saved state
    def state_dict(self) -> dict[str, Any]:
        """As of any optimiser; vectors as tensors."""
        own = {name: _tensors(v) for name, v in self.state.get(self._params[0], {}).items()}
        options = {k: v for k, v in self.param_groups[0].items() if k != "params"}
        return {"state": {0: own}, "param_groups": [{**options, "params": list(range(len(self._params)))}]}

    def _load(self, own: dict[str, Any], saved: dict[str, Any], p: Any) -> None:
        own.update({name: _arrays(v) for name, v in saved.items()})


def _tensors(v: Any) -> Any:
    if isinstance(v, list):
        return [_tensors(x) for x in v]
    return as_tensor(v.copy()) if isinstance(v, np.ndarray) else float(v) if isinstance(v, np.floating) else v


def _arrays(v: Any) -> Any:
    if isinstance(v, list):
        return [_arrays(x) for x in v]
    return v.numpy().copy() if hasattr(v, "numpy") else v
