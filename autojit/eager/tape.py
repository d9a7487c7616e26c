"""The tape: how values came to be.  tensor -> record -> older records.

In: one call of a public op.  Out: `Record`, which the reverse pass walks.  A record points to no tensor but a leaf (else
`x.mul_(y)` were a cycle and memory waited for the collector), and for what its rule reads only: storage, view, version.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from types import CodeType
from typing import Any

from ..dtypes import FLOAT
from ..errors import explain, place
from ..ir.graph import Node
from .handles import register
from .state import state
from .storage import Cell, Storage
from .template import Chain, Template, along, scalar_type

sequence = itertools.count(1).__next__


class Saved:
    """A value that a rule reads: the leaf tensor itself (so that `x.data = t` is followed), or storage and view; and its
    version.  `node()` is what it holds *now*: what was recorded, unless `.data` or NumPy changed it."""

    __slots__ = ("storage", "chain", "cell", "version", "leaf", "viewed")

    storage: Storage
    chain: Chain
    cell: Cell
    version: int
    leaf: Any

    def __init__(self, t: Any) -> None:
        if t.frozen:
            raise explain(RuntimeError(
                "Inference tensors cannot be saved for backward. Please do not use Tensors created in inference mode in "
                "computation tracked by autograd. To work around this, you can make a clone to get a normal tensor and "
                "use it in "
                "autograd, or use `torch.no_grad()` instead of `torch.inference_mode()`."))
        self.storage, self.chain, self.cell = t.storage, t.chain, t.cell
        self.version = t.cell.version
        self.leaf = t if t.fn is None and t.req else None
        self.viewed = t.base is not None

    def node(self) -> Node:
        t = self.leaf
        if t is None:
            return along(self.storage.read(self), self.chain)
        return along(t.storage.read(t), t.chain)

    def moved(self) -> int | None:
        """The present version, if it is not the one that was saved."""
        cell = self.cell if self.leaf is None else self.leaf.cell
        return None if cell.version == self.version else cell.version


class Output:
    """One result of a record that has several: the place where its cotangents meet, its hooks."""

    __slots__ = ("record", "index", "hooks", "retains", "__weakref__")

    def __init__(self, record: Record | None, index: int) -> None:
        self.record, self.index = record, index
        self.hooks: Any = None
        self.retains: Any = None


class _Nowhere:
    """The place of a view that was made under `no_grad`: it wants a gradient, as its base does, but none flows through it."""

    __slots__ = ()
    hooks = None
    retains = None


NOWHERE = _Nowhere()
FREED: Any = "freed"


class Record:
    """One call of a public op.  edges: for each argument a Record, an Output, a leaf tensor or None.  saved: what the rule
    reads, in the order of its template's `reads`: Saved, or a Node (a number, or what an in-place op overwrote).

    Rare things live in `__dict__`: hooks (of the result), calls (hooks of the function: nodehooks.py), retains (weak references
    to tensors that want this gradient), slices (a write through a view: chain, aval of the base), detached, name, outs (weak
    references to Outputs), looked and kept (kept.py)."""

    __slots__ = ("template", "edges", "saved", "seq", "code", "lasti", "__dict__", "__weakref__")

    template: Any
    edges: tuple[Any, ...]
    saved: Any
    seq: int
    code: CodeType
    lasti: int
    hooks: Any = None
    calls: Any = None
    retains: Any = None
    slices: Any = None
    outs: Any = None
    detached = False
    custom = False
    looked: Any = None
    kept: Any = None
    _name: str | None = None

    def __init__(self, template: Template | None, edges: Sequence[Any], saved: Any, frame: Any) -> None:
        self.template, self.edges, self.saved = template, tuple(edges), saved
        path = state.path
        if path is not None and path.begun:
            path.settle()                                 # what was asked for earlier stands earlier in the tape
        self.seq = sequence()
        self.code, self.lasti = frame.f_code, frame.f_lasti

    def name(self) -> str:
        """torch's name of this function, such as ``MulBackward0``."""
        return self._name or self.template.label  # type: ignore[no-any-return]

    @property
    def count(self) -> int:
        """How many results the call had."""
        return len(self.template.outs)

    @property
    def floating(self) -> list[int]:
        """The arguments that may have a gradient."""
        kinds = [None] * len(self.edges) if self.template is None else self.template.placeholders
        return [k for k, (_, p) in enumerate(zip(self.edges, kinds)) if p is None or p.dtype.category >= FLOAT]

    @property
    def differentiable(self) -> list[int]:
        """The results that may have a gradient."""
        return [k for k, a in enumerate(self.template.outs) if a.dtype.category >= FLOAT]

    @property
    def next_functions(self) -> tuple[tuple[Any, int], ...]:
        """(function, which of its results) for each argument."""
        return tuple([next_function(self.edges[k]) for k in self.floating])

    @property
    def metadata(self) -> dict[Any, Any]:
        """A dictionary for whoever wants to keep something here."""
        return self.__dict__.setdefault("_metadata", {})  # type: ignore[no-any-return]

    @property
    def place(self) -> str:
        """file:line of the call."""
        return place(self.code, self.lasti)

    def register_hook(self, hook: Any) -> Any:
        """Call `hook(grad_inputs, grad_outputs)` after this function's reverse, with the gradients of its arguments and of its
        results (None where there is none); a tuple that it returns takes the place of the first.  Returns a handle."""
        return register(self, "after", hook)

    def register_prehook(self, hook: Any) -> Any:
        """Call `hook(grad_outputs)` before this function's reverse; a tuple that it returns takes their place."""
        return register(self, "before", hook)

    def free(self) -> None:
        """Let go of what the rule reads.  torch's CopySlices never runs twice, whatever its rule reads."""
        if self.saved or self.slices is not None:
            self.saved = FREED

    def sound(self) -> bool:
        """Would `check` pass?"""
        if self.saved is FREED:
            return False
        return all(s.moved() is None for s in self.saved if type(s) is Saved) and not self.custom

    def check(self) -> None:
        """Is all that the rule reads still there and unchanged?  RuntimeError in torch's words."""
        if self.saved is FREED:
            raise explain(RuntimeError(
                "Trying to backward through the graph a second time (or directly access saved tensors after they have already "
                "been freed). Saved intermediate values of the graph are freed when you call .backward() or autograd.grad(). "
                "Specify retain_graph=True if you need to backward through the graph a second time or if you need to access "
                "saved tensors after calling backward."), hint=f"the value was computed at {self.place}")
        for k, s in zip(self.template.reads if self.template is not None else (), self.saved):
            if type(s) is not Saved:
                continue
            if k >= 0 and origin(self.edges[k]) is not None and origin(self.edges[k]).detached:
                raise explain(RuntimeError(
                    "Trying to use a saved tensor that has been detached in-place, i.e. with .detach_().This is not supported, "
                    "please use out-of-place `.detach()` instead"), hint=f"it was saved at {self.place}")
            if s.moved() is not None:
                raise moved_error(self, k, s)

    def __repr__(self) -> str:
        return f"<{self.name()} object at {hex(id(self))}>"


def short(name: str) -> str:
    """What error messages call a function: ExpBackward0 is Exp, MaxBackward1 is Max1."""
    if name == "CopySlices":
        return "torch::autograd::CopySlices"
    return name.replace("Backward", "").removesuffix("0")


def maker_of(record: Any, k: int, s: Saved) -> str:
    """', which is output 0 of Exp,' for a saved value; nothing for a leaf.  torch names what made the tensor as it is now."""
    if k < 0:
        made = record.name() if record.template is None else record.template.label
        if record.slices is not None and s.cell.last is not None and s.cell.last[3] != s.chain:
            made = "AsStrided"                            # written through another view
        return f", which is output {~k} of {short(made)}," if s.node().dtype.category >= FLOAT else ""
    edge = record.edges[k]
    if origin(edge) is None:
        return ""
    if s.cell.last is not None and s.cell.last[2] is not None:
        return f", which is output 0 of {'AsStrided' if s.viewed else short(s.cell.last[2])},"
    return f", which is output {edge.index if type(edge) is Output else 0} of {short(origin(edge).name())},"


def moved_error(record: Any, k: int, s: Saved) -> RuntimeError:
    """The error that in-place users know, with the lines of the op and of the change."""
    n = s.node()
    kind = "CPUBoolType" if n.dtype.name == "bool" else f"torch.{scalar_type(n.dtype)}Tensor"
    cell = s.cell if s.leaf is None else s.leaf.cell
    if state.anomaly is None:
        advice = ("enable anomaly detection to find the operation that failed to compute its gradient, with "
                  "torch.autograd.set_detect_anomaly(True, check_nan=False).")
    else:
        advice = ("the backtrace further above shows the operation that failed to compute its gradient. The variable in "
                  "question "
                  "was changed in there or anywhere later. Good luck!")
    e = RuntimeError("one of the variables needed for gradient computation has been modified by an inplace operation: "
                     f"[{kind} {list(n.shape)}]{maker_of(record, k, s)} is at version {s.moved()}; expected version "
                     f"{s.version} "
                     f"instead. Hint: {advice}")
    if cell.last is not None:
        e.add_note(f"  changed at {place(*cell.last[:2])}")
    return explain(e, where=record.place, hint="work on a copy: clone() the tensor before the operation that changes it, "
                                               "or use the operation without the underscore")


def origin(edge: Any) -> Any:
    """The record of an edge; None for a leaf and for nothing."""
    if isinstance(edge, Record):
        return edge
    return edge.record if type(edge) is Output else None


class AccumulateGrad:
    """What stands in a tape for a leaf, as torch shows it."""

    __slots__ = ("variable",)

    next_functions: tuple[Any, ...] = ()

    def __init__(self, variable: Any) -> None:
        self.variable = variable

    def name(self) -> str:
        return "torch::autograd::AccumulateGrad"

    def register_hook(self, hook: Any) -> Any:
        """Call `hook((), (grad,))` when `backward()` has added a gradient to this leaf's.  Returns a handle."""
        return register(self.variable, "after", hook)

    def register_prehook(self, hook: Any) -> Any:
        """Call `hook((grad,))` before `backward()` adds the gradient to this leaf's; it may return another such tuple."""
        return register(self.variable, "before", hook)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AccumulateGrad) and other.variable is self.variable

    def __hash__(self) -> int:
        return id(self.variable)

    def __repr__(self) -> str:
        return f"<AccumulateGrad object at {hex(id(self.variable))}>"


def next_function(edge: Any) -> tuple[Any, int]:
    if edge is None or edge is NOWHERE:
        return (None, 0)
    if isinstance(edge, Record):
        return (edge, 0)
    return (edge.record, edge.index) if type(edge) is Output else (AccumulateGrad(edge), 0)
