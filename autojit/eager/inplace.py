"""In-place operations: a new value computed functionally, put into the storage through the view; then the tape.

In: the tensor that is written, the new value of what it shows, the record.  Out: the same tensor, its version moved.
What PyTorch refuses (leaves, views of leaves, expanded or partly overlapping memory) is refused here, before anything changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import explain
from ..ir.graph import Node
from ..ops.declare import broadcast_shapes, cast, spread
from ..ops.placement import sent
from .apply import caller, gather, saved_of
from .state import state
from .tape import Record, Saved
from .template import Rule
from .tensor import Tensor
from .views import is_dense, layout_of, overlapping, put


def apply_into(op: Any, args: Sequence[Any], static: tuple[Any, ...] = (), number: bool = False) -> Tensor:
    """The op's result written to its first argument.  Returns that tensor."""
    t: Tensor = args[0]
    for other in args[1:]:
        if isinstance(other, Tensor) and other.storage is t.storage:
            refuse_overlap(t, other)
    nodes, edges, tmpl, _ = gather(op, args, static, number, True, state.trace, state.grad)
    if edges is not None:
        check_writable(t)
    elif t.frozen and not state.inference:
        raise explain(RuntimeError(
            "Inplace update to inference tensor outside InferenceMode is not allowed.You can make a clone to get a normal "
            "tensor "
            "before doing inplace update.See https://github.com/pytorch/rfcs/pull/17 for more details."))
    if t.chain and t.numel() and any(prim.name == "expand" for prim, _ in t.chain) and not _one_value(op, t):
        raise overlapping()
    record = None
    if edges is not None:
        record = Record(tmpl, edges, saved_of(tmpl, args, nodes[0]), caller())
    (n,) = tmpl.forward(nodes)
    return write(t, n, record)


def _one_value(op: Any, t: Tensor) -> bool:
    """One number everywhere may be written to expanded memory."""
    return op in (FILL, ZERO) and [prim.name for prim, _ in t.chain].count("expand") == 1 and t.chain[-1][0].name == "expand"


_TWO_WAYS = ("Given that this use case is ambiguous and error-prone, it is forbidden. You can clarify your code by moving both "
             "the view and the inplace either both inside the no_grad block (if you don't want the inplace to be tracked) "
             "or both "
             "outside (if you want the inplace to be tracked).")
_SEVERAL = ("This view is the output of a function that returns multiple views. Such functions do not allow the output "
            "views to be "
            "modified inplace. You should replace the inplace operation by an out-of-place one.")
_CUSTOM = ("This view was created inside a custom Function (or because an input was returned as-is) and the autograd "
           "logic to handle "
           "view+inplace would override the custom backward associated with the custom Function, leading to incorrect "
           "gradients. "
           "This behavior is forbidden. You can fix this by cloning the output of the custom Function.")


def check_writable(t: Tensor) -> None:
    """May a tensor be written while recording, when something of the operation requires grad?  RuntimeError if not."""
    if t.base is not None:
        if t.blind or t.several is not None or t.custom_view is not None:
            raise explain(RuntimeError(_view_refusal(t)))
        if t.requires_grad and t.base.is_leaf:
            raise explain(RuntimeError("a view of a leaf Variable that requires grad is being used in an in-place operation."),
                          hint="wrap the update in `with torch.no_grad():`, or work on a clone()")
    if t.requires_grad and t.is_leaf:
        raise explain(RuntimeError("a leaf Variable that requires grad is being used in an in-place operation."),
                      hint="wrap the update in `with torch.no_grad():`, or work on a clone()")


def _view_refusal(t: Tensor) -> str:
    if t.blind:
        return ("A view was created in no_grad mode and is being modified inplace with grad mode enabled. "
                + (_TWO_WAYS if t.several is None else _SEVERAL))
    what = t.several if t.several is not None else t.custom_view
    return f"{what} is a view and is being modified inplace. {_SEVERAL if t.several is not None else _CUSTOM}"


def refuse_overlap(t: Tensor, other: Tensor) -> None:
    """An operand that shares some but not all of the memory that is written.  RuntimeError in torch's words."""
    if other is t or not t.aval.size or not other.aval.size:
        return
    (a, start), (b, begin) = layout_of(t), layout_of(other)
    if not is_dense(t.aval.shape, a) or not is_dense(other.aval.shape, b):
        return
    end, stop = start + t.aval.size, begin + other.aval.size
    same = start == begin and end == stop
    if (same and a != b) or (not same and start < stop and begin < end):
        raise explain(RuntimeError(
            "unsupported operation: some elements of the input tensor and the written-to tensor refer to a single memory "
            "location. Please clone() the tensor before performing the operation."))


def write(t: Tensor, new: Node, record: Record | None) -> Tensor:
    """t[...] = new (of t's aval); then the history of t, or of its base, is replaced."""
    base, s = t.base, t.storage
    s.write(put(s.read(t), t.chain, new) if t.chain else new)
    bump(t, None if record is None else record.template.label if base is None else "CopySlices")
    s.taped = record is not None or (t if base is None else base).fn is not None
    if record is not None:
        if base is not None:
            record.edges = (base.edge(), *record.edges[1:])
            record.slices = (t.chain[len(base.chain):], base.aval)
            record._name = "CopySlices"
        (t if base is None else base).moved(record)
        reads = record.template.reads
        if reads and reads[-1] < 0:
            record.saved[-1] = Saved(t)
    return t


def bump(t: Tensor, by: str | None = None) -> None:
    """The version moves; the instruction (and the function, if it was recorded) is remembered for the error that may follow."""
    cell = t.cell
    if state.trace is not None:
        state.trace.bump(cell)
    cell.version += 1
    f = caller()
    cell.last = (f.f_code, f.f_lasti, by, t.chain)


# ---------------------------------------------------------------- writes that are no arithmetic
def _copy(a: Node, b: Node) -> Node:
    shape = broadcast_shapes(a.shape, b.shape)
    if shape != a.shape:
        raise RuntimeError(f"output with shape {list(a.shape)} doesn't match the broadcast shape {list(shape)}")
    return spread(cast(sent(b, a.aval.device), a.dtype), a.shape)


COPY = Rule("copy_", _copy, "CopyBackwards", across=True)
FILL = Rule("fill_", _copy, "FillBackward2", across=True)
FILL_TENSOR = Rule("fill_", _copy, "FillBackward3", across=True)
ZERO = Rule("zero_", _copy, "ZeroBackward0", across=True)


def replace(t: Tensor, n: Node) -> None:
    """A new value without history, for what the reverse pass and optimisers write."""
    grad, state.grad = state.grad, False
    try:
        write(t, n, None)
    finally:
        state.grad = grad
