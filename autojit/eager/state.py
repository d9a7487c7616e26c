"""What a thread of the user's program is in the middle of: grad mode, open trace, anomaly detection.

In: context managers of `modes`, and `tracing`.  Out: plain attributes of `state`.  Never decides anything.

A trace, where one is open, is an object with these methods (`autojit.tracing` has the real one):
    touch(storage, tensor)      before the first read or write of a storage that was made outside; puts a placeholder in it
    bump(cell)                  a version moved
    assign_grad(tensor, old)    `.grad` of a tensor is about to be replaced
    check(index, lowest, end, error, words, ignore)   values of an integer node must be in a range, at each run
    draw(make, aval)            random numbers: a node that each run fills anew
    cut                         set where a value is taken out of the record (detach, no_grad, a custom Function)
    look(nodes)                 somebody asks for values: arrays, or errors.TraceError
    closed                      true once the trace is over: its tensors are then of no use
"""

from __future__ import annotations

import threading
from typing import Any


class State(threading.local):
    """One a thread; class attributes are what a fresh thread starts with."""

    grad: bool = True
    inference: bool = False
    trace: Any = None
    anomaly: Any = None


state = State()
