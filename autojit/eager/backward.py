"""The reverse pass: `backward()`, `autograd.grad`, and cotangents as nodes.

In: root tensors with their cotangents.  Out: gradients, by one program together with the roots' own values; or cotangent
*nodes* (`backward_nodes`), or tensors that can be differentiated again.  The walk itself is `sweep.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import explain
from ..ir.graph import Node, buffer
from ..ops.declare import P, cast
from ..ops.placement import zeros
from .apply import apply
from .cotangents import Recorded, Symbolic, add_tensors
from .evaluate import realise_all
from .inplace import replace
from .kept import grads_of
from .state import state
from .sweep import Flow, Sweep, joint, sums
from .template import Rule
from .tensor import Tensor, value, wrap


# ---------------------------------------------------------------- cotangents as nodes
def backward_nodes(outputs: Sequence[Tensor], cotangents: Sequence[Tensor | Node | None],
                   inputs: Sequence[Tensor]) -> list[Node | None]:
    """Cotangent nodes of `inputs`, given those of `outputs` (None: ones).  Runs nothing; hooks see symbolic tensors; an
    input that no path reaches gives None."""
    cts = [wrap(c) if type(c) is Node else c for c in cotangents]
    sweep = Sweep(outputs, cts, inputs)  # type: ignore[arg-type]
    sweep.check()
    flow = Flow(sweep, Symbolic())
    flow.run()
    assert sweep.targets is not None
    return [flow.caught.get(t, flow.got.get(t)) for t in sweep.targets]


# ---------------------------------------------------------------- backward()
def backward(roots: Sequence[Tensor], cts: Sequence[Tensor | None], retain: bool, create: bool,
             inputs: Sequence[Tensor] | None = None, lesson: Any = None) -> None:
    """Add the gradients of `roots` to `.grad` of the leaves (or of `inputs`).  `lesson`: see ahead.py."""
    sweep = Sweep(roots, cts, inputs)
    sweep.check()
    if create:
        _backward_recorded(sweep, inputs)
    else:
        _backward(sweep, inputs, lesson)
    if not retain:
        sweep.free()


def _growing(sweep: Sweep, inputs: Sequence[Tensor] | None) -> list[tuple[Any, Tensor]]:
    """(edge, tensor) for all whose `.grad` grows: leaves, or the inputs asked for; then those that retain theirs."""
    if inputs is None:
        found = [(x, x) for x in sweep.leaves]
    else:
        assert sweep.targets is not None
        found = [(e, t) for e, t in zip(sweep.targets, inputs) if e in sweep.seen]
    return found + sweep.retained()


def _backward(sweep: Sweep, inputs: Sequence[Tensor] | None, lesson: Any) -> None:
    to = _growing(sweep, inputs)
    ends = [(e, t.aval, None if t._grad is None else value(_there(t))) for e, t in to]
    nodes: list[Node | None]
    flow = None
    kept = grads_of(sweep) if inputs is None and state.trace is None else None
    if kept is not None:
        nodes = [_added(old, buffer(kept[t], a)) for (_, t), (_, a, old) in zip(to, ends)]
    elif state.trace is None and sweep.plain():
        if lesson is not None and len(to) == len(sweep.leaves):
            arrays = joint(sweep, [(e, a, None) for e, a, _ in ends], lesson.note)
            lesson.learn(sweep.leaves)
            nodes = [_added(old, buffer(g, a)) for g, (_, a, old) in zip(arrays, ends)]
        else:
            nodes = [buffer(a, t.aval) for a, (_, t) in zip(joint(sweep, ends), to)]
    else:
        flow = Flow(sweep, Symbolic())
        flow.run()
        nodes = sums(flow, ends)
        if state.trace is None:
            nodes = _computed(sweep.roots, nodes)
    for (_, t), n in zip(to, nodes):
        if n is not None:
            _deposit(t, n)
    _after(to, flow)


def _added(old: Node | None, g: Node) -> Node:
    return g if old is None else P.add(old, cast(g, old.dtype))


def _computed(roots: Sequence[Tensor], nodes: Sequence[Node | None]) -> list[Node | None]:
    """Buffers of `nodes`, computed together with the roots."""
    there = [n for n in nodes if n is not None]
    done = iter(realise_all([*[value(r) for r in roots], *there])[len(roots):])
    return [None if n is None else buffer(next(done), n.aval) for n in nodes]


def _after(to: Sequence[tuple[Any, Tensor]], flow: Flow | None = None) -> None:
    """Hooks of those whose gradients have grown."""
    for e, t in to:
        if t.calls is not None and flow is not None and e in flow.got:
            from .nodehooks import accumulated
            accumulated(t.calls, flow.got[e])
        for hook in t.post or ():
            result = hook(t)
            if result is not None:
                raise explain(TypeError(f"expected Variable, but hook returned '{type(result).__name__}'"))


def _there(t: Tensor) -> Any:
    """The gradient that is to be added to."""
    if state.trace is not None:
        state.trace.read_grad(t, t._grad, True)
    return t._grad


def _grow(t: Tensor, g: Tensor) -> None:
    """`.grad` becomes g, which what was there is a part of; a trace is told that nothing was replaced."""
    if state.trace is not None:
        state.trace.growing = t
    t.put_grad(g)


def _deposit(t: Tensor, n: Node) -> None:
    """`.grad` takes its new value: the same object, seen by all who hold it, if there is one."""
    if t._grad is None:
        _grow(t, wrap(n))
    else:
        replace(t._grad, n)


# ---------------------------------------------------------------- gradients that can be differentiated again
ACCUMULATED = Rule("accumulated", lambda n: n, "CopyBackwards")


def _recorded(sweep: Sweep) -> Flow:
    flow = Flow(sweep, Recorded())
    with _recording():
        flow.run()
    return flow


class _recording:
    """Recording on for a while, whatever the mode outside."""

    def __enter__(self) -> None:
        self.before, state.grad = state.grad, True

    def __exit__(self, *exc: object) -> None:
        state.grad = self.before


def _backward_recorded(sweep: Sweep, inputs: Sequence[Tensor] | None) -> None:
    to = _growing(sweep, inputs)
    flow = _recorded(sweep)
    for e, t in to:
        g = flow.caught.get(e, flow.got.get(e))
        if g is None:
            g = wrap(zeros(t.aval))
        with _recording():
            if t._grad is not None:
                g = add_tensors(_there(t), g)
            elif t.fn is None:                            # torch gives a leaf a copy of its own
                g = apply(ACCUMULATED, (g,))
        _grow(t, g)
    _after(to, flow)


# ---------------------------------------------------------------- autograd.grad
def gradients(roots: Sequence[Tensor], cts: Sequence[Tensor | None], inputs: Sequence[Tensor], retain: bool, create: bool,
              allow_unused: bool) -> list[Tensor | None]:
    """Gradients of `roots` with respect to `inputs`, as tensors; None where no path leads (if allowed)."""
    sweep = Sweep(roots, cts, inputs)
    targets = sweep.targets or []
    for k, t in enumerate(targets):
        if t not in sweep.seen and not allow_unused:
            raise _unused(k)
    sweep.check()
    found: list[Any]
    if create:
        flow = _recorded(sweep)
        found = [flow.caught.get(t, flow.got.get(t)) for t in targets]
    elif state.trace is None and sweep.plain():
        reached = dict.fromkeys([t for t in targets if t in sweep.seen])
        avals = {t: i.aval for t, i in zip(targets, inputs)}
        arrays = dict(zip(reached, joint(sweep, [(t, avals[t], None) for t in reached])))
        found = [wrap(buffer(arrays[t], avals[t])) if t in arrays else None for t in targets]
    else:
        flow = Flow(sweep, Symbolic())
        flow.run()
        nodes = [flow.caught.get(t, flow.got.get(t)) for t in targets]
        if state.trace is None:
            nodes = _computed(roots, nodes)
        found = [None if n is None else wrap(n) for n in nodes]
    custom = any(r.custom for r in sweep.order)
    for k, (g, e) in enumerate(zip(found, targets)):
        if g is None and e in sweep.seen and not custom:
            found[k] = wrap(zeros(inputs[k].aval))
        elif g is None and not allow_unused:
            raise _unused(k)
    if not retain:
        sweep.free()
    return found


def _unused(k: int) -> RuntimeError:
    return explain(RuntimeError(f"The differentiated Tensor at index {k} appears to not have been used in the graph. Set "
                                "allow_unused=True if this is the desired behavior."))
