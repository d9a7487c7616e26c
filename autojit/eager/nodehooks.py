"""Hooks of the functions in a tape: before a function's reverse with its cotangents, after it with what came of them.

In: `grad_fn.register_prehook`, `grad_fn.register_hook`, those of a leaf's AccumulateGrad.  Out: cotangents, perhaps others.
Hooks see tensors, and None where nothing came; their words of error are torch's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import explain
from .cotangents import Mode, Pair, checked
from .handles import Calls
from .state import state
from .tensor import Tensor, value, wrap

Grads = tuple[Any, ...]


def shown(mode: Mode, cts: Sequence[Pair | None]) -> Grads:
    """Cotangents as hooks see them."""
    return tuple([None if c is None else c[0] if mode.recorded else wrap(c[0]) for c in cts])


def before(mode: Mode, calls: Calls, cts: Sequence[Pair | None], results: Sequence[int]) -> list[Pair | None]:
    """Cotangents of a function's results, as the hooks before it leave them.  results: which of them hooks see."""
    return _passed(mode, calls.before, cts, results, ())


def after(mode: Mode, calls: Calls, found: Sequence[Pair | None], places: Sequence[int], cts: Sequence[Pair | None],
          results: Sequence[int]) -> list[Pair | None]:
    """Cotangents of a function's arguments, as the hooks after it leave them.  places: the arguments that hooks see."""
    return _passed(mode, calls.after, found, places, (shown(mode, [cts[k] for k in results]),))


def _passed(mode: Mode, hooks: Any, cts: Sequence[Pair | None], places: Sequence[int], more: Grads) -> list[Pair | None]:
    out = list(cts)
    if hooks:
        seen = [out[k] for k in places]
        given = grads = shown(mode, seen)
        with _unrecorded(mode):
            for hook in list(hooks):
                grads = _checked(hook, hook(grads, *more), grads)
            for k, pair in zip(places, _pairs(mode, seen, given, grads)):
                out[k] = pair
    return out


def accumulated(calls: Calls, grad: Any) -> None:
    """A leaf's gradient has been added to: hooks after that are told."""
    for hook in list(calls.after or ()):
        hook((), (grad if grad is None or isinstance(grad, Tensor) else wrap(grad),))


def _pairs(mode: Mode, old: Sequence[Pair | None], given: Grads, grads: Grads) -> list[Pair | None]:
    return [pair if g is before else None if g is None else (g if mode.recorded else value(g), None)
            for pair, before, g in zip(old, given, grads)]


def _checked(hook: Any, found: Any, grads: Grads) -> Grads:
    """What a hook gave back in the place of `grads`."""
    if found is None:
        return grads
    if not isinstance(found, tuple):
        raise explain(TypeError(f"expected tuple, but hook returned '{type(found).__name__}'"))
    if len(found) != len(grads):
        name = getattr(hook, "__name__", repr(hook))
        raise explain(RuntimeError(f"hook '{name}' has returned an incorrect number of values (got {len(found)}, but expected "
                                   f"{len(grads)})"))
    for g, old in zip(found, grads):
        if g is not None and old is None:
            raise explain(RuntimeError("can't replace a None gradient with a non-None value"))
    return tuple([g if g is None else checked(hook, g, old) for g, old in zip(found, grads)])


class _unrecorded:
    """Without recording, unless cotangents are recorded."""

    def __init__(self, mode: Mode) -> None:
        self.mode = mode

    def __enter__(self) -> None:
        self.grad = state.grad
        if not self.mode.recorded:
            state.grad = False

    def __exit__(self, *exc: object) -> None:
        state.grad = self.grad
