"""The short way along a path: what an operator does where the same op came at the same place before.

In: the ordinary function of an op.  Out: a function that asks the path first: one look-up and a tensor of three attributes.
Where the step is new, or anything else is not as it was, the ordinary function answers; it goes along the path as well.
"""

from __future__ import annotations

from collections.abc import Callable
from sys import _getframe
from typing import Any
from weakref import ref

from ..dtypes import FLOAT
from .apply import record_op
from .path import Head, Path, head_of
from .state import state
from .tensor import Tensor

Function = Callable[..., Any]
_make = object.__new__


def quick_binary(slow: Function, op: Any, fixed: tuple[Any, ...], swap: bool = False) -> Function:
    """An operator of two tensors, or of a floating tensor and a Python number.  swap: the other one comes first."""
    numbers = op.name != "matmul"
    plain, numbered = head_of(op, fixed, False), head_of(op, fixed, True)

    def f(self: Any, other: Any) -> Any:
        path = state.path
        if path is None:
            return record_op(op, (self, other), fixed) if not swap and isinstance(other, Tensor) else slow(self, other)
        at = self.at if self.path is path else path.enter(self)
        kind = type(other)
        number = kind is float or kind is int
        if number:
            if not numbers or self.aval.dtype.category != FLOAT:
                return slow(self, other)
            place = (path.floats if kind is float else path.ints).get(other)
            if place is None:
                place = path.number(other)
            key = (numbered, place, at) if swap else (numbered, at, place)
        elif isinstance(other, Tensor):
            place = other.at if other.path is path else path.enter(other)
            key = (plain, place, at) if swap else (plain, at, place)
        else:
            return slow(self, other)
        step = path.step
        found = step.next.get(key)
        if found is not None:
            frame = _getframe(1)
            if frame.f_code is found.code:
                out = _make(Tensor)
                out.path, out.at, out.aval = path, found.index, found.aval
                place, last, weak = found.index, frame.f_lasti, ref(out)
                if path.step is step:                     # no call from here to the end, so that nothing comes between
                    path.outs[place] = weak
                    path.lasti[place] = last
                    path.step = found
                    return out
        if number and at is not None and place is not None:
            out = path.record(op, (other, self) if swap else (self, other), fixed, True)
            if out is not None:
                return out
        return slow(self, other)

    f.__name__ = f.__qualname__ = slow.__name__
    f.__doc__ = slow.__doc__
    return f


def again(path: Path, key: tuple[Any, ...], frame: Any) -> Tensor | None:
    """The result of a known step, asked for in this frame of the user's; None if it is not known."""
    step = path.step
    found = step.next.get(key)
    if found is not None and frame.f_code is found.code:
        out: Tensor = _make(Tensor)
        out.path, out.at, out.aval = path, found.index, found.aval
        place, last, weak = found.index, frame.f_lasti, ref(out)
        if path.step is step:                             # no call from here to the end, so that nothing comes between
            path.outs[place] = weak
            path.lasti[place] = last
            path.step = found
            return out
    return None


def quick_pair(slow: Function, op: Any, fixed: tuple[Any, ...]) -> Function:
    """A method or function of two tensors and nothing else."""
    head = head_of(op, fixed, False)

    def f(*args: Any, **kwargs: Any) -> Any:
        path = state.path
        if path is not None and len(args) == 2 and not kwargs:
            a, b = args
            if isinstance(a, Tensor) and isinstance(b, Tensor):
                key = (head, a.at if a.path is path else path.enter(a), b.at if b.path is path else path.enter(b))
                out = again(path, key, _getframe(1))
                if out is not None:
                    return out
        return slow(*args, **kwargs)

    f.__name__ = f.__qualname__ = slow.__name__
    f.__doc__ = slow.__doc__
    return f


def quick_unary(slow: Function, op: Any, fixed: tuple[Any, ...]) -> Function:
    """A method or function of one tensor and perhaps of static values."""
    head = head_of(op, fixed, False)
    heads: dict[Any, Head] = {}

    def f(*args: Any, **kwargs: Any) -> Any:
        path = state.path
        if not args or not isinstance(args[0], Tensor):
            return slow(*args, **kwargs)
        self = args[0]
        if len(args) == 1 and not kwargs:
            if path is None:
                return record_op(op, args, fixed)
            out = again(path, (head, self.at if self.path is path else path.enter(self)), _getframe(1))
            return slow(self) if out is None else out
        key = None if path is None else written_ints(args[1:], kwargs)
        if key is None:
            return slow(*args, **kwargs)
        return _along(path, heads, (self.aval, key), slow, args, kwargs, _getframe(1))

    f.__name__ = f.__qualname__ = slow.__name__
    f.__doc__ = slow.__doc__
    return f


def quick_static(slow: Function, written: Callable[[tuple[Any, ...], dict[str, Any]], Any], rows: bool = False) -> Function:
    """A method of one tensor and of values that are no tensors.  `written`: these values as a dictionary key that tells
    apart whatever the op tells apart; None if they are not plain.  rows: only for memory in row-major order."""
    heads: dict[Any, Head] = {}

    def f(*args: Any, **kwargs: Any) -> Any:
        path = state.path
        if path is None or not args or not isinstance(args[0], Tensor):
            return slow(*args, **kwargs)
        key = written(args[1:], kwargs)
        if key is None:
            return slow(*args, **kwargs)
        return _along(path, heads, (args[0].aval, key), slow, args, kwargs, _getframe(1), rows)

    f.__name__ = f.__qualname__ = slow.__name__
    f.__doc__, f.__wrapped__ = slow.__doc__, slow         # type: ignore[attr-defined]
    return f


def _along(path: Path, heads: dict[Any, Head], key: Any, slow: Function, args: tuple[Any, ...], kwargs: dict[str, Any],
           frame: Any, rows: bool = False) -> Any:
    """One op on args[0] and static values: `heads` knows it by its aval and these values, once it has been seen."""
    self = args[0]
    at = self.at if self.path is path else path.enter(self)
    if at is None or rows and not path.in_rows(at):
        return slow(*args, **kwargs)
    head = heads.get(key)
    if head is not None:
        out = again(path, (head, at), frame)
        if out is not None:
            return out
    before = path.step
    out = slow(*args, **kwargs)
    if head is None and isinstance(out, Tensor) and out.path is path and path.step.parent is before:
        if len(heads) > 10_000:
            heads.clear()
        heads[key] = path.head                            # one op, on this tensor alone
    return out


def written_key(rest: tuple[Any, ...], kwargs: Any = None) -> Any:
    """`x[key]`: ints, slices of ints, None and Ellipsis."""
    key = rest[0]
    kind = type(key)
    if kind is int:
        return key
    if kind is slice:
        return _slice(key)
    if kind is not tuple:
        return None
    found: list[Any] = []
    for k in key:
        kind = type(k)
        if kind is slice:
            k = _slice(k)
            if k is None:
                return None
        elif kind is not int and k is not None and k is not Ellipsis:
            return None
        found.append(k)
    return tuple(found)


def _slice(key: slice) -> Any:
    a, b, c = key.start, key.stop, key.step
    if (a is None or type(a) is int) and (b is None or type(b) is int) and (c is None or type(c) is int):
        return (slice, a, b, c)
    return None


def written_ints(rest: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Ints and tuples of ints; by name also True and False."""
    for v in rest:
        if type(v) is not int and v is not None and not (type(v) is tuple and all([type(i) is int for i in v])):
            return None
    if not kwargs:
        return rest
    for v in kwargs.values():
        if (type(v) is not int and type(v) is not bool and v is not None
                and not (type(v) is tuple and all([type(i) is int for i in v]))):
            return None
    return (rest, tuple([(name, type(v), v) for name, v in kwargs.items()]))
