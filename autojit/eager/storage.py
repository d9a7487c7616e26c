"""What a piece of memory holds now, and how often it has been written.

In: nodes and NumPy arrays.  Out: `Storage.read()`, the node of its present value, and `write()`.  Never knows tensors or
the tape.  Memory that others can see (`from_numpy`, `.numpy()`) is read at once and written at once, for as long as its
reference count says that somebody else holds it.
"""

from __future__ import annotations

import sys
from types import CodeType
from typing import Any

import numpy as np

from ..backends.devices import backend, from_host
from ..dtypes import of_memory
from ..errors import TraceError, explain
from ..ir.aval import Aval, aval
from ..ir.graph import Node, buffer
from ..ir.primitive import BUFFER
from .evaluate import load, pend, realise, settle
from .state import disturb, state


class Cell:
    """A version: moved by every write.  last: (code, instruction, name of the recorded function or None, view chain) of the
    last write."""

    __slots__ = ("version", "last")

    version: int
    last: tuple[CodeType, int, str | None, Any] | None

    def __init__(self, version: int = 0) -> None:
        self.version, self.last = version, None


class Storage(Cell):
    """A value shared by views, `detach()` and `.data`; and the version cell of the tensor it was made for.

    value: the Node of what it holds (None: ask `mem`).  mem: an array that others may see, or a `Lent`.  taped: an
    intermediate of the tape, which need not be kept.  trace: the trace it was made in.  strides: where torch's order of memory
    is not row-major (in elements)."""

    __slots__ = ("value", "mem", "taped", "trace", "strides", "__weakref__")

    value: Any
    mem: Any
    taped: bool
    trace: Any
    strides: tuple[int, ...] | None

    def __init__(self, value: Node | None, mem: Any = None, taped: bool = False) -> None:
        self.version = 0
        self.last = self.strides = None
        self.value, self.mem, self.taped = value, mem, taped
        self.trace = state.trace

    def read(self, tensor: Any) -> Node:
        """The node of what it holds now.  `tensor` is the one through which it is read: a trace remembers it."""
        trace = state.trace
        if self.trace is not trace:
            if self.trace is not None and self.trace.closed:
                raise explain(TraceError("a tensor made inside a traced function is used after the trace has ended"),
                              hint="return it from the function instead of storing it elsewhere")
            if trace is not None:
                trace.touch(self, tensor)
        if self.mem is not None:
            if type(self.mem) is Lent:
                self.value = buffer(self.mem.array, self.mem.aval)               # others may have written: a new value
            elif not shared(self.mem):
                self.value, self.mem = memory(owner_of(self.mem)), None           # nobody else is left: no copy
            elif self.value is None or self.value.data.tobytes() != self.mem.tobytes():
                self.value = memory(self.mem.copy(order="C"))                    # kept while the bytes are the same
        elif self.value.real is not None:
            self.value = self.value.real
        return self.value  # type: ignore[no-any-return]

    def write(self, n: Node) -> None:
        """A new value.  Where others see the memory, it is computed and written at once."""
        disturb(self)
        if type(self.mem) is Lent and state.trace is None:
            backend(self.mem.aval.device).assign(self.mem.array, realise(n))
            self.value = None
            return
        if self.mem is not None and state.trace is None and shared(self.mem):
            np.copyto(self.mem, realise(n))
            self.value = None
            return
        self.value, self.mem = n, None
        if state.trace is None:
            pend(self)

    def array(self, tensor: Any) -> Any:
        """What it holds, as an array; never write to it."""
        if self.mem is not None and state.trace is None and type(self.mem) is not Lent and shared(self.mem):
            return self.mem
        n = self.read(tensor)
        if n.prim is not BUFFER:
            array = realise(n)
            if state.trace is None:
                self.value = n = settle(n, array)
            return array
        return n.data

    def expose(self, tensor: Any) -> Any:
        """The memory itself, for others to see and write: nodes that still read it keep what it holds now."""
        if self.mem is None:
            disturb(self)
            array = self.array(tensor)
            n = self.value
            if sys.getrefcount(n) > _NODE_ALONE or not array.flags.writeable:
                array = array.copy()
            self.mem, self.value = array, None
        return self.mem[...]


def memory(array: Any, device: str = "cpu") -> Node:
    """A leaf over an array of the host's that nobody will write to any more, or over a copy of it on a device."""
    native = array.dtype.newbyteorder("=")
    array = np.ascontiguousarray(array, native) if array.ndim else np.asarray(array, native)
    a = aval_of(array)
    load(array.nbytes)
    return buffer(from_host(array, a.dtype, device), aval(a.shape, a.dtype, device))


class Lent:
    """Memory of a device that others may see and write: `__cuda_array_interface__` and DLPack lend it for good, since nobody
    says when it is given back.  Each read is of what is there when the program runs."""

    __slots__ = ("array", "aval")

    def __init__(self, array: Any, a: Aval) -> None:
        self.array, self.aval = array, a

    @property
    def shape(self) -> tuple[int, ...]:
        return self.aval.shape


def lend(storage: Storage, tensor: Any) -> Any:
    """The array of a device's memory, for others to see and write; a copy, if nodes still read what it holds now."""
    if type(storage.mem) is not Lent:
        disturb(storage)
        array = storage.array(tensor)
        n = storage.value
        if sys.getrefcount(n) > _NODE_ALONE:
            array = backend(n.aval.device).copy(array)
        storage.mem, storage.value = Lent(array, n.aval), None
    return storage.mem.array


def owner_of(mem: Any) -> Any:
    """The array itself, if a view shows the whole of it."""
    base = mem.base
    if isinstance(base, np.ndarray) and base.shape == mem.shape and base.strides == mem.strides and base.dtype == mem.dtype:
        return base
    return mem


def shared(mem: Any) -> bool:
    """Does anybody but us hold this memory?"""
    owner = mem
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    if owner.base is not None:
        return True                                       # a file, bytes, another library: it cannot be told
    return sys.getrefcount(owner) > (_OWNER_ALONE if owner is mem else _BASE_ALONE)


class _Probe:
    __slots__ = ("mem",)

    mem: Any


def _count(mem: Any) -> int:
    owner = mem
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    return sys.getrefcount(owner)


def _calibrate() -> tuple[int, int, int]:
    """Reference counts of things that only we hold: they depend on the Python version."""
    p = _Probe()
    p.mem = np.zeros(1)
    owner = _count(p.mem)
    p.mem = np.zeros(1)[...]
    base = _count(p.mem)
    p.mem = object()
    n = p.mem
    return owner, base, sys.getrefcount(n)


_OWNER_ALONE, _BASE_ALONE, _NODE_ALONE = _calibrate()


def aval_of(array: Any) -> Aval:
    """The aval of memory of the host's, or of what is lent."""
    return array.aval if type(array) is Lent else aval(array.shape, of_memory(array.dtype))
