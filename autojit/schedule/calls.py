"""Host operations for which a person wrote kernels: what is asked of a form, and the steps that it becomes.

In: nodes of a graph, a form (`Target.byhand`), names of buffers.  Out: `CallStep`s.  Never looks into a text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..ir.graph import Node
from .axes import operands
from .loops import Buffer, CallStep, HostStep


def first_read(n: Node, order: Sequence[Node], outputs: Sequence[Node]) -> int | None:
    """How many places from the start of its axis (the first param) anybody reads of an order; None: all of them."""
    if n.op != "argsort" or n in outputs:
        return None
    most, axis = 0, n.params[0]
    for m in order:
        if n in operands(m):
            if m.op != "slice":
                return None
            most = max(most, m.params[1][axis])
    return most or None


def call_steps(form: Any, host: HostStep, room: Callable[..., Buffer]) -> list[CallStep]:
    """The kernels of a form, one after the other, over the operands of `host` and memory of their own (`room`)."""
    place = {f"in{k}": name for k, name in enumerate(host.inputs)} | {"out": host.output}
    place |= {word: room("temp", dtype, size).name for word, (dtype, size) in form.scratch.items()}
    return [CallStep(host, p.text, (*[("buffer", place[word]) for word in p.buffers], *p.numbers),
                     tuple([place[word] for word in p.writes]), p.n, p.chunks, p.address) for p in form.passes]
