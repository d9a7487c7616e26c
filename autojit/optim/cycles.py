"""Schedules that cycle the momentum too, or follow what is measured.

In: an optimiser, and for `ReduceLROnPlateau` a number at each step.  Out: learning rates and momenta of its groups.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..errors import explain
from .optimizer import Optimizer
from .schedules import LRScheduler, _put


def _one_a_group(name: str, optimizer: Any, v: Any) -> list[float]:
    """An option for each group."""
    count = len(optimizer.param_groups)
    if not isinstance(v, (list, tuple)):
        return [v] * count
    if len(v) != count:
        raise explain(ValueError(f"{name} must have the same length as optimizer.param_groups. {name} has {len(v)} values, "
                                 f"param_groups has {count}."))
    return list(v)


def _cycles_beta(optimizer: Any) -> bool:
    """Is the first beta what is cycled, rather than the momentum?"""
    if "momentum" not in optimizer.defaults and "betas" not in optimizer.defaults:
        raise explain(ValueError("optimizer must support momentum or beta1 with `cycle_momentum` option enabled"))
    return "betas" in optimizer.defaults


def _put_momentum(group: Any, v: float, beta: bool) -> None:
    if beta:
        group["betas"] = (v, *group["betas"][1:])
    else:
        group["momentum"] = v


class OneCycleLR(LRScheduler):
    """Up to `max_lr` and far down again within `total_steps`; the momentum goes the other way."""

    def __init__(self, optimizer: Any, max_lr: Any, total_steps: int | None = None, epochs: int | None = None,
                 steps_per_epoch: int | None = None, pct_start: float = 0.3, anneal_strategy: str = "cos",
                 cycle_momentum: bool = True, base_momentum: Any = 0.85, max_momentum: Any = 0.95, div_factor: float = 25.0,
                 final_div_factor: float = 1e4, three_phase: bool = False, last_epoch: int = -1) -> None:
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise explain(ValueError("You must define either total_steps OR (epochs AND steps_per_epoch)"))
            total_steps = epochs * steps_per_epoch
        if total_steps <= 0 or not isinstance(total_steps, int):
            raise explain(ValueError(f"Expected positive integer total_steps, but got {total_steps}"))
        if not isinstance(pct_start, float) or not 0 <= pct_start <= 1:
            raise explain(ValueError(f"Expected float between 0 and 1 pct_start, but got {pct_start}"))
        if anneal_strategy not in ("cos", "linear"):
            raise explain(ValueError(f"anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy}"))
        self.total_steps, self.strategy, self.cycle_momentum = total_steps, anneal_strategy, cycle_momentum
        rise = ("initial_lr", "max_lr", "max_momentum", "base_momentum")
        first = pct_start * total_steps - 1
        if three_phase:
            self._phases = [(first, rise), (2 * pct_start * total_steps - 2, ("max_lr", "initial_lr", *reversed(rise[2:]))),
                            (total_steps - 1, ("initial_lr", "min_lr", "max_momentum", "max_momentum"))]
        else:
            self._phases = [(first, rise), (total_steps - 1, ("max_lr", "min_lr", *reversed(rise[2:])))]
        for group, high in zip(optimizer.param_groups, _one_a_group("max_lr", optimizer, max_lr)):
            if last_epoch == -1:
                group["initial_lr"], group["max_lr"] = high / div_factor, high
                group["min_lr"] = group["initial_lr"] / final_div_factor
        if cycle_momentum:
            self.use_beta1 = _cycles_beta(optimizer)
            highs, lows = _one_a_group("max_momentum", optimizer, max_momentum), _one_a_group("base_momentum", optimizer,
                                                                                             base_momentum)
            for group, high, low in zip(optimizer.param_groups, highs, lows):
                if last_epoch == -1:
                    group["max_momentum"], group["base_momentum"] = high, low
                    _put_momentum(group, high, self.use_beta1)
        super().__init__(optimizer, last_epoch)

    def _between(self, start: float, end: float, share: float) -> float:
        if self.strategy == "linear":
            return start + (end - start) * share
        return end + (start - end) / 2.0 * (math.cos(math.pi * share) + 1)

    def get_lr(self) -> list[float]:
        k = self.last_epoch
        if k > self.total_steps:
            raise explain(ValueError(f"Tried to step {k} times. The specified number of total steps is {self.total_steps}"))
        begin = 0.0
        for end, names in self._phases:                   # noqa: B007  (the phase that this step is in, or the last)
            if k <= end:
                break
            begin, before = end, begin
        else:
            begin = before
        share = (k - begin) / (end - begin)
        out = []
        for group in self.optimizer.param_groups:
            out.append(self._between(group[names[0]], group[names[1]], share))
            if self.cycle_momentum:
                _put_momentum(group, self._between(group[names[2]], group[names[3]], share), self.use_beta1)
        return out


class CyclicLR(LRScheduler):
    """Up from `base_lr` to `max_lr` and down again, over and over; the momentum goes the other way."""

    def __init__(self, optimizer: Any, base_lr: Any, max_lr: Any, step_size_up: int = 2000, step_size_down: int | None = None,
                 mode: str = "triangular", gamma: float = 1.0, scale_fn: Callable[[float], float] | None = None,
                 scale_mode: str = "cycle", cycle_momentum: bool = True, base_momentum: float = 0.8, max_momentum: float = 0.9,
                 last_epoch: int = -1) -> None:
        if mode not in ("triangular", "triangular2", "exp_range") and scale_fn is None:
            raise explain(ValueError("mode is invalid and scale_fn is None"))
        lows = _one_a_group("base_lr", optimizer, base_lr)
        if last_epoch == -1:
            for group, low in zip(optimizer.param_groups, lows):
                _put(group, low)
        self.max_lrs, up, down = _one_a_group("max_lr", optimizer, max_lr), step_size_up, step_size_down
        self.total_size = float(up + (up if down is None else down))
        self.step_ratio = up / self.total_size
        self.mode, self.gamma, self.scale_fn = mode, gamma, scale_fn
        self.scale_mode = scale_mode if scale_fn is not None else "iterations" if mode == "exp_range" else "cycle"
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            self.use_beta1 = _cycles_beta(optimizer)
            self.base_momentums = _one_a_group("base_momentum", optimizer, base_momentum)
            self.max_momentums = _one_a_group("max_momentum", optimizer, max_momentum)
            for group, high in zip(optimizer.param_groups, self.max_momentums):
                if last_epoch == -1:
                    _put_momentum(group, high, self.use_beta1)
        super().__init__(optimizer, last_epoch)
        self.base_lrs = lows

    def _scale(self, cycle: float) -> float:
        if self.scale_fn is not None:
            return self.scale_fn(cycle if self.scale_mode == "cycle" else self.last_epoch)
        if self.mode == "triangular":
            return 1.0
        return 1 / (2.0 ** (cycle - 1)) if self.mode == "triangular2" else float(self.gamma ** self.last_epoch)

    def get_lr(self) -> list[float]:
        cycle = math.floor(1 + self.last_epoch / self.total_size)
        x = 1.0 + self.last_epoch / self.total_size - cycle
        height = x / self.step_ratio if x <= self.step_ratio else (x - 1) / (self.step_ratio - 1)
        scale, out = self._scale(cycle), []
        for k, (group, low, high) in enumerate(zip(self.optimizer.param_groups, self.base_lrs, self.max_lrs)):
            out.append(low + (high - low) * height * scale)
            if self.cycle_momentum:
                least, most = self.base_momentums[k], self.max_momentums[k]
                _put_momentum(group, most - (most - least) * height * scale, self.use_beta1)
        return out

    def state_dict(self) -> dict[str, Any]:
        """All but the optimiser and the function."""
        return {k: v for k, v in self.__dict__.items() if k not in ("optimizer", "scale_fn")}


class ReduceLROnPlateau(LRScheduler):
    """Times `factor` once what is measured has not become better for more than `patience` steps."""

    def __init__(self, optimizer: Any, mode: str = "min", factor: float = 0.1, patience: int = 10, threshold: float = 1e-4,
                 threshold_mode: str = "rel", cooldown: int = 0, min_lr: Any = 0, eps: float = 1e-8) -> None:
        if factor >= 1.0:
            raise explain(ValueError("Factor should be < 1.0."))
        if not isinstance(optimizer, Optimizer):
            raise explain(TypeError(f"{type(optimizer).__name__} is not an Optimizer"))
        if mode not in ("min", "max"):
            raise explain(ValueError(f"mode {mode} is unknown!"))
        if threshold_mode not in ("rel", "abs"):
            raise explain(ValueError(f"threshold mode {threshold_mode} is unknown!"))
        self.optimizer, self.mode, self.factor, self.patience = optimizer, mode, factor, patience
        self.threshold, self.threshold_mode, self.cooldown, self.eps = threshold, threshold_mode, cooldown, eps
        self.min_lrs = _one_a_group("min_lr", optimizer, min_lr)
        self.best = math.inf if mode == "min" else -math.inf
        self.cooldown_counter = self.num_bad_epochs = self.last_epoch = 0
        self._last_lr = [float(group["lr"]) for group in optimizer.param_groups]

    def step(self, metrics: Any, epoch: Any = None) -> None:  # type: ignore[override]
        """Take note of a measurement, and lower the rates if it is time."""
        now = float(metrics)
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if self._better(now):
            self.best, self.num_bad_epochs = now, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            for group, least in zip(self.optimizer.param_groups, self.min_lrs):
                old = float(group["lr"])
                new = max(old * self.factor, least)
                if old - new > self.eps:
                    _put(group, new)
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self._last_lr = [float(group["lr"]) for group in self.optimizer.param_groups]

    def _better(self, now: float) -> bool:
        less = self.mode == "min"
        if self.threshold_mode == "rel":
            edge = self.best * (1.0 - self.threshold if less else 1.0 + self.threshold)
        else:
            edge = self.best - self.threshold if less else self.best + self.threshold
        return now < edge if less else now > edge
