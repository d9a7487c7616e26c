"""Random programs of views, writes, reads, detach, .data, hooks and backward do here what they do in torch.

After every step versions and flags are compared; at the end values, gradients and errors.  A program that torch refuses half
way through a backward pass is cut there: torch has then freed and accumulated a part, here nothing.
"""

from __future__ import annotations

import random
import warnings
from typing import Any

import numpy as np
import pytest

import autojit

torch = pytest.importorskip("torch")

OPS = ["mul", "add", "div", "exp", "tanh", "sigmoid", "part", "row", "column", "turn", "reshape", "mul_", "add_", "exp_",
       "tanh_", "fill_", "copy_", "assign", "assign_row", "mask", "detach", "data", "quiet_add_", "clone", "reduce", "softmax",
       "hook", "retain", "backward"]
Step = tuple[str, int, int, float]


def program(seed: int) -> list[Step]:
    rng = random.Random(seed)
    return [(rng.choice(OPS), rng.randrange(99), rng.randrange(99), rng.random()) for _ in range(rng.randint(3, 15))]


class Cut(Exception):
    """torch stopped in the middle of something at this step."""

    def __init__(self, at: int) -> None:
        self.at = at


class Machine:
    """One library running a program."""

    def __init__(self, t: Any) -> None:
        self.t = t
        a = np.array([[0.5, 1.0, 1.5], [2.0, 1.25, 0.75]], np.float32)
        self.leaves = [t.tensor(a.tolist(), requires_grad=True), t.tensor((a * 0.5).tolist(), requires_grad=True)]
        self.all = [*self.leaves, t.tensor([[1.0, 2.0, 1.0], [0.5, 1.0, 2.0]]), self.leaves[0] * 1.0]
        self.log: list[Any] = []

    def like(self, y: Any, shape: tuple[int, ...]) -> Any:
        return y if tuple(y.shape) == shape else 0.5

    def new(self, op: str, x: Any, y: Any, j: int, r: float) -> Any:
        """Operations that give another tensor."""
        shape = tuple(x.shape)
        if op in ("mul", "add", "div"):
            other = self.like(y, shape)
            return x * other if op == "mul" else x + other if op == "add" else x / (other + 3.0)
        if op in ("exp", "tanh", "sigmoid"):
            return getattr(x * 0.3 if r < 0.5 else x, op)()
        if op == "part":
            return x[:max(1, shape[0] - 1)] if shape else x * 1
        if op == "row":
            return x[j % shape[0]] if shape else x * 1
        if op == "column":
            return x[..., j % shape[-1]] if shape else x * 1
        if op == "turn":
            return x.t() if len(shape) == 2 else x * 1
        if op == "reshape":
            return x.reshape(shape[::-1] if len(shape) == 2 else (1, *shape))
        if op == "reduce":
            return x * (x.sum() if r < 0.4 else x.mean() if r < 0.7 else x.amax())
        if op == "softmax":
            return x.softmax(0) if shape else x * 1
        return x.detach() if op == "detach" else x.clone()

    def write(self, op: str, x: Any, y: Any, j: int, r: float) -> None:
        """Operations that change a tensor, or what hangs on it."""
        shape = tuple(x.shape)
        other = self.like(y, shape)
        if op in ("mul_", "add_"):
            getattr(x, op)(other)
        elif op in ("exp_", "tanh_"):
            x.tanh_() if op == "tanh_" or r > 0.5 else x.exp_()
        elif op == "fill_":
            x.fill_(0.25)
        elif op == "copy_":
            x.copy_(x * 0.5 if isinstance(other, float) else other)
        elif op == "assign" and shape:
            x[j % shape[0]] = 0.75 if r < 0.5 else x[0] * 0.5
        elif op == "assign_row" and shape:
            x[..., :1] = y.sum() * 0.1
        elif op == "mask" and shape:
            x[x.detach() > 1.0] = 0.5
        elif op == "data":
            x.data.mul_(0.5)
        elif op == "quiet_add_":
            with self.t.no_grad():
                x.add_(0.125)
        elif op == "hook" and x.requires_grad:
            x.register_hook(lambda g: g * 2)
        elif op == "retain" and x.requires_grad:
            x.retain_grad()
        elif op == "backward":
            x.sum().backward(retain_graph=r < 0.5)

    def run(self, steps: list[Step]) -> Any:
        for k, (op, i, j, r) in enumerate(steps):
            recent = op.endswith("_") or r < 0.6
            x = self.all[-1 - i % min(len(self.all), 5)] if recent else self.all[i % len(self.all)]
            y = self.all[j % len(self.all)]
            made = None
            try:
                if op in OPS[:11] or op in ("reduce", "softmax", "detach", "clone"):
                    made = self.new(op, x, y, j, r)
                else:
                    self.write(op, x, y, j, r)
                self.log.append((op, "done"))
            except RuntimeError as e:
                if self.t is torch and (op == "backward" or "memory location" in str(e)):
                    raise Cut(k) from None
                self.log.append((op, str(e)[:60]))
            if made is not None:
                self.all.append(made)
            self.log.append([(q._version, q.requires_grad, q.is_leaf) for q in self.all])
        return self.log, [np.array(q.detach().tolist()) for q in self.all], self.end()

    def end(self) -> Any:
        grads = [None if q.grad is None else np.array(q.grad.tolist()) for q in self.leaves]
        total = None
        try:
            for q in self.all:
                if q.requires_grad:
                    s = (q * q).sum() * 0.01
                    total = s if total is None else total + s
            total.backward()
        except RuntimeError as e:
            return grads, str(e)[:60]
        return grads, [None if q.grad is None else np.array(q.grad.tolist()) for q in self.leaves]


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.shape == b.shape and np.allclose(a, b, rtol=2e-3, atol=1e-4, equal_nan=True)
    if isinstance(a, (list, tuple)):
        return isinstance(b, (list, tuple)) and len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def difference(seed: int) -> str | None:
    """What differs, or None; steps that torch itself cannot finish are left out."""
    steps = program(seed)
    while True:
        try:
            expected = Machine(torch).run(steps)
            break
        except Cut as cut:
            steps = steps[:cut.at]
    got = Machine(autojit).run(steps)
    for what, a, b in zip(("log", "values", "gradients"), got, expected):
        if not same(a, b):
            return f"seed {seed}: {what} differ\n{steps}\nhere  {a}\ntorch {b}"
    return None


@pytest.mark.parametrize("first", range(0, 400, 50))
def test_random_programs(first):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [d for seed in range(first, first + 50) if (d := difference(seed)) is not None]
    assert found == [], "\n\n".join(found[:3])
