"""Hooks of modules: kept in order, removed by their handle; and the two functions that bring a backward pass by.

In: what a module is called with and what it gives.  Out: the same values with a place in the tape where hooks are called.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from ..eager.function import Function
from ..eager.tensor import Tensor
from ..errors import explain

SPACES = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
Values = tuple[Any, ...]


class Removable:
    """What registering a hook returns: `remove()` takes it away; works as a context manager too.

    A module's `_hooked` is False without hooks of its calls, else a number that is another whenever they are others.  `owner`:
    the module, or None for hooks of saved state."""

    __slots__ = ("owner", "hooks", "id")
    count = 0

    def __init__(self, owner: Any, hooks: dict[int, Any], hook: Any, first: bool = False) -> None:
        Removable.count += 1
        self.owner, self.hooks, self.id = owner, hooks, Removable.count
        hooks[self.id] = hook
        if first:
            rest = [(k, h) for k, h in hooks.items() if k != self.id]
            hooks.clear()
            hooks.update([(self.id, hook), *rest])
        if owner is not None:
            owner.__dict__["_hooked"] = self.id

    def remove(self) -> None:
        if self.hooks.pop(self.id, None) is not None and self.owner is not None:
            Removable.count += 1
            some = any([self.owner.__dict__[space] for space in SPACES])
            self.owner.__dict__["_hooked"] = Removable.count if some else False

    def __enter__(self) -> Removable:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


class Passing:
    """One call of a module with backward hooks: the gradients of its results wait for those of its inputs."""

    __slots__ = ("module", "before", "after", "outer", "tapped", "inputs", "outputs", "count")

    def __init__(self, module: Any, before: list[Any], after: list[Any]) -> None:
        self.module, self.before, self.after = module, before, after
        self.outer: Values | None = None
        self.tapped = False                               # does a gradient pass the inputs?
        self.inputs: Sequence[int] = ()                   # where tensors are among them
        self.outputs: Sequence[int] = ()
        self.count = 0

    def enter(self, args: Values) -> Values:
        """The arguments, with a place in the tape."""
        self.count = len(args)
        args, self.inputs, self.tapped = _tap(args, self.inputs_reached, True)
        return args

    def leave(self, out: Any) -> Any:
        """The result, with a place in the tape."""
        if not isinstance(out, (Tensor, tuple)):
            warnings.warn("For backward hooks to be called, module output should be a Tensor or a tuple of Tensors but "
                          f"received {type(out)}", stacklevel=4)
            return out
        outs = out if isinstance(out, tuple) else (out,)

        def reached(grads: Values) -> Values:
            return self.results_reached(grads, len(outs))

        found, self.outputs, _ = _tap(outs, reached, False)
        return found if isinstance(out, tuple) else found[0]

    def results_reached(self, grads: Values, count: int) -> Values:
        """Gradients of the results: hooks before the module's backward may change them."""
        outer = _among(self.outputs, grads, count)
        for hook in self.before:
            found = hook(self.module, outer)
            outer = _fitting(found, outer, "Backward pre hook returned an invalid number of grad_output")
        if self.tapped:
            self.outer = outer
        else:
            for hook in self.after:
                found = hook(self.module, (None,) * self.count, outer)
                if found is not None and not (isinstance(found, tuple) and all([g is None for g in found])):
                    raise explain(RuntimeError("Backward hook for Modules where no input requires gradient should always "
                                               "return None or None for all gradients."))
        return tuple([outer[k] for k in self.outputs])

    def inputs_reached(self, grads: Values) -> Values:
        """Gradients of the inputs: what a hook returns takes their place."""
        if self.outer is None:                            # reached past the results: nothing of this call
            return grads
        inner = _among(self.inputs, grads, self.count)
        for hook in self.after:
            found = hook(self.module, inner, self.outer)
            inner = _fitting(found, inner, "Backward hook returned an invalid number of grad_input")
        self.outer = None
        return tuple([inner[k] for k in self.inputs])


def _among(places: Sequence[int], grads: Values, count: int) -> Values:
    """Gradients among as many Nones as there are other values."""
    out = [None] * count
    for k, g in zip(places, grads):
        out[k] = g
    return tuple(out)


def _fitting(found: Any, grads: Values, words: str) -> Any:
    """What a hook returned in the place of gradients, if anything."""
    if found is None:
        return grads
    if len(found) != len(grads):
        raise explain(RuntimeError(f"{words}, got {len(found)}, but expected {len(grads)}"))
    return found


class BackwardHookFunction(Function):
    """The identity, which calls `reached` with the gradients that pass: zeros (or, without `zeros`, None) where none came."""

    @staticmethod
    def forward(ctx: Any, reached: Callable[..., Any], zeros: bool, *tensors: Tensor) -> Any:
        ctx.reached = reached
        ctx.set_materialize_grads(zeros)
        out = tuple([t.view_as(t) for t in tensors])      # type: ignore[attr-defined]
        ctx.mark_non_differentiable(*[o for o, t in zip(out, tensors) if not t.requires_grad])
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return (None, None, *ctx.reached(grads))


def _tap(values: Values, reached: Callable[..., Any], zeros: bool) -> tuple[Values, Sequence[int], bool]:
    """Values whose tensors call `reached` in the backward pass; where tensors are; whether any of them has a gradient."""
    at = [k for k, v in enumerate(values) if isinstance(v, Tensor)]
    if not any([values[k].requires_grad for k in at]):
        return values, (), False
    out = list(values)
    for k, t in zip(at, BackwardHookFunction.apply(reached, zeros, *[values[k] for k in at])):
        out[k] = t
    return tuple(out), at, True
