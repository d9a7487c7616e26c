"""Hooks of modules: kept in order, removed by their handle; and the two functions that bring a backward pass by.

In: what a module is called with and what it gives.  Out: the same values with a place in the tape where hooks are called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..eager.function import Function
from ..eager.tensor import Tensor


class Removable:
    """What registering a hook returns: `remove()` takes it away; works as a context manager too."""

    __slots__ = ("hooks", "id")
    count = 0

    def __init__(self, hooks: dict[int, Any], hook: Any, first: bool = False) -> None:
        Removable.count += 1
        self.hooks, self.id = hooks, Removable.count
        hooks[self.id] = hook
        if first:
            rest = [(k, h) for k, h in hooks.items() if k != self.id]
            hooks.clear()
            hooks.update([(self.id, hook), *rest])

    def remove(self) -> None:
        self.hooks.pop(self.id, None)

    def __enter__(self) -> Removable:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


class Passing:
    """One call of a module with backward hooks: the gradients of its results wait for those of its inputs."""

    __slots__ = ("module", "before", "after", "outer", "has_input")

    def __init__(self, module: Any, before: list[Any], after: list[Any]) -> None:
        self.module, self.before, self.after = module, before, after
        self.outer: tuple[Any, ...] | None = None
        self.has_input = False

    def results_reached(self, grads: tuple[Any, ...]) -> tuple[Any, ...]:
        """Gradients of the results: hooks before the module's backward may change them."""
        for hook in self.before:
            found = hook(self.module, grads)
            if found is not None:
                grads = found if isinstance(found, tuple) else (found,)
        self.outer = grads
        if not self.has_input:
            self.inputs_reached((None,))
        return grads

    def inputs_reached(self, grads: tuple[Any, ...]) -> tuple[Any, ...]:
        """Gradients of the inputs: what a hook returns takes their place."""
        for hook in self.after:
            found = hook(self.module, grads, self.outer)
            if found is not None:
                grads = found if isinstance(found, tuple) else (found,)
        return grads


class BackwardHookFunction(Function):
    """The identity, which calls `reached` with the gradients that pass."""

    @staticmethod
    def forward(ctx: Any, reached: Callable[..., Any], *tensors: Tensor) -> Any:
        ctx.reached = reached
        ctx.set_materialize_grads(False)
        return tuple([t.view_as(t) for t in tensors])  # type: ignore[attr-defined]

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return (None, *ctx.reached(grads))


def tapped(values: tuple[Any, ...], reached: Callable[..., Any]) -> tuple[tuple[Any, ...], bool]:
    """Values whose tensors call `reached` in the backward pass; whether any of them has a gradient."""
    at = [k for k, v in enumerate(values) if isinstance(v, Tensor)]
    if not any([values[k].requires_grad for k in at]):
        return values, False
    out = list(values)
    for k, t in zip(at, BackwardHookFunction.apply(reached, *[values[k] for k in at])):
        out[k] = t
    return tuple(out), True
