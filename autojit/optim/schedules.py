"""Schedules of learning rates, torch's names and numbers.

In: an optimiser.  Out: `group["lr"]` (and momentum, where a schedule cycles it) changed by each `step()`.  These are data of a
traced training step, which goes on without being recorded anew; `step()` itself stands outside of it.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..eager.state import state
from ..eager.tensor import Tensor
from ..errors import TraceError, explain
from .optimizer import Optimizer


def _put(group: Any, v: Any) -> None:
    """A new learning rate: into the tensor, where the user gave one."""
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(float(v))
    else:
        group["lr"] = float(v)


class LRScheduler:
    """Base: `get_lr` gives the rates at `last_epoch`, from those there are or (`base_lrs`) from the first.

    Subclasses say `after(lr, base)`, the rate of this epoch from that of the one before, and perhaps `at(base)`, the same from
    the first rate alone.
    """

    def __init__(self, optimizer: Any, last_epoch: int = -1) -> None:
        if not isinstance(optimizer, Optimizer):
            raise explain(TypeError(f"{type(optimizer).__name__} is not an Optimizer"))
        self.optimizer = optimizer
        for k, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", float(group["lr"]))
            elif "initial_lr" not in group:
                raise explain(KeyError("param 'initial_lr' is not specified in "
                                       f"param_groups[{k}] when resuming scheduler with last_epoch >= 0."))
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._initial_step()

    def _initial_step(self) -> None:
        self._step_count = 0
        self.step()

    def step(self, epoch: Any = None) -> None:
        """Go on by one epoch (or to the one given)."""
        if state.trace is not None:
            raise explain(TraceError("a scheduler's step() inside a traced function would run only while it is recorded"),
                          hint="call it after the traced step: the new rate is data of the next call")
        self._step_count += 1
        self._move(epoch)

    def _move(self, epoch: Any) -> None:
        if epoch is None:
            self.last_epoch += 1
            values = self.get_lr()
        else:
            self.last_epoch = epoch
            values = [self.at(base) for base in self.base_lrs] if type(self).at is not LRScheduler.at else self.get_lr()
        for group, v in zip(self.optimizer.param_groups, values):
            _put(group, v)
        self._last_lr = [float(group["lr"]) for group in self.optimizer.param_groups]

    def get_lr(self) -> list[float]:
        """The rates of this epoch."""
        return [self.after(float(group["lr"]), base) for group, base in zip(self.optimizer.param_groups, self.base_lrs)]

    def after(self, lr: float, base: float) -> float:
        """The rate of this epoch from that of the one before."""
        raise NotImplementedError

    def at(self, base: float) -> float:
        """The rate of this epoch from the first."""
        raise NotImplementedError

    def get_last_lr(self) -> list[float]:
        """The rates as the last step left them."""
        return self._last_lr

    def state_dict(self) -> dict[str, Any]:
        """All but the optimiser."""
        return {k: v for k, v in self.__dict__.items() if k != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.__dict__.update(state_dict)


class _Lambdas(LRScheduler):
    """Base of those that are made of functions of the epoch, one or one a group."""

    def __init__(self, optimizer: Any, lr_lambda: Any, last_epoch: int = -1) -> None:
        count = len(optimizer.param_groups)
        self.lr_lambdas: list[Callable[[int], float]] = [lr_lambda] * count if callable(lr_lambda) else list(lr_lambda)
        if len(self.lr_lambdas) != count:
            raise explain(ValueError(f"Expected {count} lr_lambdas, but got {len(self.lr_lambdas)}"))
        super().__init__(optimizer, last_epoch)

    def state_dict(self) -> dict[str, Any]:
        """All but the optimiser and the functions."""
        return {k: v for k, v in self.__dict__.items() if k not in ("optimizer", "lr_lambdas")}


class LambdaLR(_Lambdas):
    """The first rate times a function of the epoch."""

    def get_lr(self) -> list[float]:
        return [base * f(self.last_epoch) for f, base in zip(self.lr_lambdas, self.base_lrs)]


class MultiplicativeLR(_Lambdas):
    """The rate before times a function of the epoch."""

    def get_lr(self) -> list[float]:
        rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        return [lr * f(self.last_epoch) for f, lr in zip(self.lr_lambdas, rates)] if self.last_epoch > 0 else rates


class StepLR(LRScheduler):
    """Times gamma every `step_size` epochs."""

    def __init__(self, optimizer: Any, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def after(self, lr: float, base: float) -> float:
        return lr if self.last_epoch == 0 or self.last_epoch % self.step_size else lr * self.gamma

    def at(self, base: float) -> float:
        return base * self.gamma ** (self.last_epoch // self.step_size)


class MultiStepLR(LRScheduler):
    """Times gamma at each of the milestones."""

    def __init__(self, optimizer: Any, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1) -> None:
        self.milestones, self.gamma = Counter(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def after(self, lr: float, base: float) -> float:
        return lr * self.gamma ** self.milestones[self.last_epoch]

    def at(self, base: float) -> float:
        return base * self.gamma ** bisect_right(sorted(self.milestones.elements()), self.last_epoch)


class ConstantLR(LRScheduler):
    """Times `factor` for the first `total_iters` epochs."""

    def __init__(self, optimizer: Any, factor: float = 1.0 / 3, total_iters: int = 5, last_epoch: int = -1) -> None:
        if factor > 1.0 or factor < 0:
            raise explain(ValueError("Constant multiplicative factor expected to be between 0 and 1."))
        self.factor, self.total_iters = factor, total_iters
        super().__init__(optimizer, last_epoch)

    def after(self, lr: float, base: float) -> float:
        return lr * self.factor if self.last_epoch == 0 else lr / self.factor if self.last_epoch == self.total_iters else lr

    def at(self, base: float) -> float:
        return base * (self.factor if self.last_epoch < self.total_iters else 1.0)


class LinearLR(LRScheduler):
    """A factor that goes from `start_factor` to `end_factor` in `total_iters` epochs."""

    def __init__(self, optimizer: Any, start_factor: float = 1.0 / 3, end_factor: float = 1.0, total_iters: int = 5,
                 last_epoch: int = -1) -> None:
        if start_factor > 1.0 or start_factor <= 0:
            raise explain(ValueError("Starting multiplicative factor expected to be greater than 0 and less or equal to 1."))
        if end_factor > 1.0 or end_factor < 0:
            raise explain(ValueError("Ending multiplicative factor expected to be between 0 and 1."))
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer, last_epoch)

    def after(self, lr: float, base: float) -> float:
        if self.last_epoch == 0:
            return lr * self.start_factor
        if self.last_epoch > self.total_iters:
            return lr
        rise = self.end_factor - self.start_factor
        return lr * (1.0 + rise / (self.total_iters * self.start_factor + (self.last_epoch - 1) * rise))

    def at(self, base: float) -> float:
        done = min(self.total_iters, self.last_epoch) / self.total_iters
        return base * (self.start_factor + (self.end_factor - self.start_factor) * done)


class ExponentialLR(LRScheduler):
    """Times gamma every epoch."""

    def __init__(self, optimizer: Any, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def after(self, lr: float, base: float) -> float:
        return lr if self.last_epoch == 0 else lr * self.gamma

    def at(self, base: float) -> float:
        return base * self.gamma ** self.last_epoch


class PolynomialLR(LRScheduler):
    """Down to 0 in `total_iters` epochs, by a power of what is left."""

    def __init__(self, optimizer: Any, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1) -> None:
        self.total_iters, self.power = total_iters, power
        super().__init__(optimizer, last_epoch)

    def after(self, lr: float, base: float) -> float:
        if self.last_epoch == 0 or self.last_epoch > self.total_iters:
            return lr
        left, before = 1.0 - self.last_epoch / self.total_iters, 1.0 - (self.last_epoch - 1) / self.total_iters
        return float(lr * (left / before) ** self.power)

    def at(self, base: float) -> float:
        return float(base * (1.0 - min(self.total_iters, self.last_epoch) / self.total_iters) ** self.power)


class CosineAnnealingLR(LRScheduler):
    """From the first rate to `eta_min` in `T_max` epochs, as half a cosine."""

    def __init__(self, optimizer: Any, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def after(self, lr: float, base: float) -> float:
        k, top = self.last_epoch, self.T_max
        if k == 0:
            return lr
        if self._step_count == 1:
            return self.at(base)
        if (k - 1 - top) % (2 * top) == 0:                # the turn: the ratio below would be 0 / 0
            return lr + (base - self.eta_min) * (1 - math.cos(math.pi / top)) / 2
        ratio = (1 + math.cos(math.pi * k / top)) / (1 + math.cos(math.pi * (k - 1) / top))
        return ratio * (lr - self.eta_min) + self.eta_min

    def at(self, base: float) -> float:
        return self.eta_min + (base - self.eta_min) * (1 + math.cos(math.pi * self.last_epoch / self.T_max)) / 2


class CosineAnnealingWarmRestarts(LRScheduler):
    """Half cosines, each `T_mult` times as long as the one before; the first of `T_0` epochs."""

    def __init__(self, optimizer: Any, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        if T_0 <= 0 or not isinstance(T_0, int):
            raise explain(ValueError(f"Expected positive integer T_0, but got {T_0}"))
        if T_mult < 1 or not isinstance(T_mult, int):
            raise explain(ValueError(f"Expected integer T_mult >= 1, but got {T_mult}"))
        self.T_0, self.T_i, self.T_mult, self.eta_min = T_0, T_0, T_mult, eta_min
        self.T_cur: float = last_epoch
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        share = (1 + math.cos(math.pi * self.T_cur / self.T_i)) / 2
        return [self.eta_min + (base - self.eta_min) * share for base in self.base_lrs]

    def _move(self, epoch: Any) -> None:
        if epoch is None:
            epoch = self.last_epoch + 1
        if epoch < 0:
            raise explain(ValueError(f"Expected non-negative epoch, but got {epoch}"))
        self.T_cur, self.T_i = epoch, self.T_0
        while self.T_cur >= self.T_i:
            self.T_cur -= self.T_i
            self.T_i *= self.T_mult
        self.last_epoch = math.floor(epoch) - 1
        super()._move(None)


class SequentialLR(LRScheduler):
    """One schedule after another: the next begins at each milestone."""

    def __init__(self, optimizer: Any, schedulers: Sequence[Any], milestones: Sequence[int], last_epoch: int = -1) -> None:
        if not schedulers:
            raise explain(ValueError("SequentialLR expects at least one scheduler to be chained, but got no scheduler."))
        for k, s in enumerate(schedulers):
            if s.optimizer is not optimizer:
                raise explain(ValueError("SequentialLR expects all schedulers to belong to the same optimizer, but got "
                                         f"scheduler {type(s).__name__} at index {k} has {s.optimizer}, which is different "
                                         f"from {type(optimizer).__name__}."))
        if len(milestones) != len(schedulers) - 1:
            raise explain(ValueError(
                "Sequential Schedulers expects number of schedulers provided to be one more than the number of milestone "
                f"points, but got number of schedulers {len(schedulers)} and the number of milestones to be equal to "
                f"{len(milestones)}"))
        self._schedulers, self._milestones = list(schedulers), list(milestones)
        self.optimizer, self.last_epoch = optimizer, last_epoch + 1
        for group in optimizer.param_groups:
            _put(group, group["initial_lr"])
        _undo(self)
        first = self._schedulers[bisect_right(self._milestones, 0)]
        first._initial_step()
        self._last_lr = first.get_last_lr()

    def step(self, epoch: Any = None) -> None:
        """Go on by one epoch."""
        self.last_epoch += 1
        k = bisect_right(self._milestones, self.last_epoch)
        s = self._schedulers[k]
        if k > 0 and self._milestones[k - 1] == self.last_epoch:
            s._move(0)
        else:
            s.step()
        self._last_lr = s.get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        """All but the optimiser; the schedules' own states within."""
        own = {k: v for k, v in self.__dict__.items() if k not in ("optimizer", "_schedulers")}
        return {**own, "_schedulers": [s.state_dict() for s in self._schedulers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.__dict__.update({k: v for k, v in state_dict.items() if k != "_schedulers"})
        for s, saved in zip(self._schedulers, state_dict["_schedulers"]):
            s.load_state_dict(saved)


def _undo(scheduler: Any) -> None:
    """Take back the first step that each schedule took when it was made."""
    inner = getattr(scheduler, "_schedulers", None)
    if inner is None:
        scheduler.last_epoch -= 1
    for s in inner or ():
        _undo(s)


class ChainedScheduler(LRScheduler):
    """Several schedules that all step, one upon the other."""

    def __init__(self, schedulers: Sequence[Any], optimizer: Any = None) -> None:
        if not schedulers:
            raise explain(ValueError("ChainedScheduler expects at least one scheduler to be chained, but got no scheduler."))
        self._schedulers = list(schedulers)
        self.optimizer = optimizer or schedulers[0].optimizer
        if any(s.optimizer is not self.optimizer for s in schedulers):
            raise explain(ValueError("ChainedScheduler expects all schedulers to belong to the same optimizer"))
        self._last_lr = [float(group["lr"]) for group in self.optimizer.param_groups]

    def step(self, epoch: Any = None) -> None:
        """Go on by one epoch."""
        for s in self._schedulers:
            s.step()
        self._last_lr = [float(group["lr"]) for group in self.optimizer.param_groups]

    state_dict, load_state_dict = SequentialLR.state_dict, SequentialLR.load_state_dict  # type: ignore[assignment]
