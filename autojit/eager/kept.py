"""Gradients computed at a look: `print(loss)` before `loss.backward()` need not run the forward pass twice.

In: a pending loss that somebody looks at.  Out: its value, and where this line of the program went on to `backward()` the
last time, the gradients too, kept for it.  Never changes what a program computes; what has changed in between is computed anew.
"""

from __future__ import annotations

from typing import Any

from ..ir.graph import Node
from ..ir.primitive import BUFFER
from .state import state
from .sweep import Sweep, joint
from .tape import Record, Saved
from .tensor import Tensor

# (code, instruction) of a loss -> was its last look followed by backward()
WANTED: dict[Any, bool] = {}
LIMIT = 1000


class Kept:
    """Gradients of a loss by leaf, and the saved values that they were computed from."""

    __slots__ = ("grads", "read")

    def __init__(self, sweep: Sweep, arrays: list[Any]) -> None:
        self.grads = dict(zip(sweep.leaves, arrays))
        self.read = read(sweep)


def read(sweep: Sweep) -> list[Node]:
    """What the rules of a sweep read now."""
    nodes = [s.node() if type(s) is Saved else s for r in sweep.order for s in r.saved]
    return [n.real or n for n in nodes]


def before_look(t: Tensor) -> None:
    """A value is about to be read: if it is a loss whose gradients will be wanted, compute both."""
    record, s = t.fn, t.storage
    if (type(record) is not Record or t.aval.size != 1 or t.chain or s.mem is not None or state.trace is not None
            or s.value.prim is BUFFER or s.value.real is not None):
        return
    site = (record.code, record.lasti)
    before = WANTED.get(site)
    if before is None:
        if len(WANTED) >= LIMIT:
            WANTED.clear()
        WANTED[site] = False
    record.looked = site
    if before:
        WANTED[site] = False                              # until backward() comes
        _keep(t, record)


def _keep(t: Tensor, record: Record) -> None:
    sweep = Sweep([t], [None], None)
    if all(r.sound() for r in sweep.order) and sweep.plain() and not sweep.retained():
        arrays = joint(sweep, [(x, x.aval, None) for x in sweep.leaves])
        record.kept = Kept(sweep, arrays)


def grads_of(sweep: Sweep) -> dict[Tensor, Any] | None:
    """Arrays of the gradients that were kept for this sweep, by leaf, if they still hold."""
    record = sweep.starts[0][0]
    if len(sweep.starts) != 1 or sweep.starts[0][1] is not None or type(record) is not Record or record.looked is None:
        return None
    WANTED[record.looked] = True
    kept, record.kept = record.kept, None
    if kept is None or set(kept.grads) != set(sweep.leaves) or sweep.retained() or not sweep.plain():
        return None
    now = read(sweep)
    if len(now) != len(kept.read) or any(a is not (b.real or b) for a, b in zip(now, kept.read)):
        return None
    return kept.grads  # type: ignore[no-any-return]
