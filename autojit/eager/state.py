"""What a thread of the user's program is in the middle of: grad mode, open trace, anomaly detection, open path.

In: context managers of `modes`, `tracing`, and `path`.  Out: plain attributes of `state`.  Never decides anything.

A trace, where one is open, is an object with these methods (`autojit.tracing` has the real one):
    touch(storage, tensor)      before the first read or write of a storage that was made outside; puts a placeholder in it
    bump(cell)                  a version moved
    assign_grad(tensor, old)    `.grad` of a tensor is about to be replaced
    growing                     the tensor whose next `assign_grad` adds to what was there
    read_grad(tensor, g, adding)   `.grad` of a tensor has been asked for, and is `g`; adding: only in order to add to it
    check(index, lowest, end, error, words, ignore)   values of an integer node must be in a range, at each run
    draw(make, aval)            random numbers: a node that each run fills anew
    through(tensor, node, edge) an argument of an op, and its place in the tape: the node that the op is to read
    detached(tensor)            a tensor is shown without its history
    cut                         set where a value is taken out of the record (detach, no_grad, a custom Function)
    watched                     a dictionary in which objects that are called put what they depend on (see `nn.module`)
    calls                       a list to which each public op is added: (op, static values, is a number among the arguments,
                                grad mode, arguments, results)
    light                       None, or what records ops instead of the tape: `light.record(op, args, static, number)`
    decide(node)                a branch asks for the truth of a node with one element: a bool, which the recording then
                                depends on, or errors.TraceError
    look(nodes)                 somebody asks for values: arrays, or errors.TraceError
    closed                      true once the trace is over: its tensors are then of no use
"""

from __future__ import annotations

import threading
from typing import Any

_set = threading.local.__setattr__


class State(threading.local):
    """One a thread.  `state.__dict__` has all of it, for those who read much.

    open: the path of this thread (see path.py).  path: the same while ops are recorded in the usual way, else None; it
    follows the other attributes.  fails, skip: how often a path was of no use, and for how many passes none is opened."""

    grad: bool
    inference: bool
    trace: Any
    anomaly: Any
    open: Any
    path: Any
    fails: int
    skip: int

    def __init__(self) -> None:
        self.__dict__.update(grad=True, inference=False, trace=None, anomaly=None, open=None, path=None, fails=0, skip=0)

    def __setattr__(self, name: str, value: Any) -> None:
        _set(self, name, value)
        path = self.open
        if path is not None and not (self.grad and self.trace is None and self.anomaly is None and not self.inference):
            path = None
        if path is not self.path:
            _set(self, "path", path)


state = State()

OPEN: dict[int, Any] = {}                                 # weak references to the paths of all threads that are under way


def disturb(storage: Any) -> None:
    """Memory, or what a leaf that shows it is, is about to change: paths that have read it are made real first."""
    for reference in list(OPEN.values()):
        path = reference()
        if path is not None and path.begun and path.reads(storage):
            path.settle()
