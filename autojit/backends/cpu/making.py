"""A builtin that makes the objects that a Python function makes, in a third of the time.

In: a function of two arguments that makes a few objects with slots: each slot holds an argument, an object made before, or one
and the same thing each time.  Out: a builtin that does the same, or the function itself where that can't be told for sure
(another Python, another layout, slots that hold something new).  Never runs the function again: two results are the model.
"""

from __future__ import annotations

import ctypes
import sys
import sysconfig
from collections.abc import Callable, Sequence
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .runtime import Runtime

API = ("object_new", "no_arguments")
CONSTANT, ARGUMENT, OBJECT = 0, 1, 2                      # what a slot holds
MOST = 8                                                  # objects that one call makes
_TP_NEW = 65                                              # its number in typeslots.h
_MEMBER, _OFFSET = 40, 16                                 # of a member descriptor its definition, of a definition its offset

# A record: number of objects, the words of each: type, number of slots, of each slot (offset, kind, address or number).
TEXT = """
define ptr @make(ptr %self, ptr %args, i64 %count) {
entry:
  %made = alloca [$MOST x ptr]
  %to_address = load ptr, ptr getelementptr (ptr, ptr @api, i64 $PyLong_AsSsize_t)
  %new = load ptr, ptr getelementptr (ptr, ptr @api, i64 $object_new)
  %empty = load ptr, ptr getelementptr (ptr, ptr @api, i64 $no_arguments)
  %keep = load ptr, ptr getelementptr (ptr, ptr @api, i64 $Py_IncRef)
  %two = icmp eq i64 %count, 2
  br i1 %two, label %begin, label %wrong
wrong:
  call void @fail(i64 $TypeError, ptr @two_text)
  ret ptr null
begin:
  %address = call i64 %to_address(ptr %self)
  %record = inttoptr i64 %address to ptr
  %objects = load i64, ptr %record
  %first = getelementptr i64, ptr %record, i64 1
  br label %each
each:
  %k = phi i64 [ 0, %begin ], [ %k1, %done ]
  %at = phi ptr [ %first, %begin ], [ %after, %done ]
  %last = phi ptr [ null, %begin ], [ %object, %done ]
  %more = icmp ult i64 %k, %objects
  br i1 %more, label %alloc, label %out
alloc:
  %type = load ptr, ptr %at
  %object = call ptr %new(ptr %type, ptr %empty, ptr null)
  %none = icmp eq ptr %object, null
  br i1 %none, label %out, label %fill
fill:
  %mine_at = getelementptr ptr, ptr %made, i64 %k
  store ptr %object, ptr %mine_at
  %n_at = getelementptr i64, ptr %at, i64 1
  %n = load i64, ptr %n_at
  %slots = getelementptr i64, ptr %at, i64 2
  %after = getelementptr [3 x i64], ptr %slots, i64 %n
  br label %slot
slot:
  %i = phi i64 [ 0, %fill ], [ %i1, %put ]
  %left = icmp ult i64 %i, %n
  br i1 %left, label %one, label %done
one:
  %s = getelementptr [3 x i64], ptr %slots, i64 %i
  %kind_at = getelementptr i64, ptr %s, i64 1
  %what_at = getelementptr i64, ptr %s, i64 2
  %offset = load i64, ptr %s
  %kind = load i64, ptr %kind_at
  %what = load i64, ptr %what_at
  switch i64 %kind, label %constant [ i64 $ARGUMENT, label %argument  i64 $OBJECT, label %earlier ]
constant:
  %c = inttoptr i64 %what to ptr
  br label %put
argument:
  %a_at = getelementptr ptr, ptr %args, i64 %what
  %a = load ptr, ptr %a_at
  br label %put
earlier:
  %e_at = getelementptr ptr, ptr %made, i64 %what
  %e = load ptr, ptr %e_at
  br label %put
put:
  %v = phi ptr [ %c, %constant ], [ %a, %argument ], [ %e, %earlier ]
  call void %keep(ptr %v)
  %place = getelementptr i8, ptr %object, i64 %offset
  store ptr %v, ptr %place
  %i1 = add i64 %i, 1
  br label %slot
done:
  %k1 = add i64 %k, 1
  br label %each
out:
  %r = phi ptr [ %last, %each ], [ null, %alloc ]
  ; all but the last are held by the objects made after them
  %drop = load ptr, ptr getelementptr (ptr, ptr @api, i64 $Py_DecRef)
  br label %release
release:
  %j = phi i64 [ 0, %out ], [ %j1, %one_less ]
  %j1 = add i64 %j, 1
  %inner = icmp ult i64 %j1, %k
  br i1 %inner, label %one_less, label %end
one_less:
  %o_at = getelementptr ptr, ptr %made, i64 %j
  %o = load ptr, ptr %o_at
  call void %drop(ptr %o)
  br label %release
end:
  ret ptr %r
}
"""


def maker(runtime: Runtime, model: Callable[[Any, Any], Any], objects: Callable[[Any], Sequence[Any]],
          arguments: Sequence[tuple[Any, Any]]) -> Callable[[Any, Any], Any]:
    """A builtin that does what `model(x, y)` does, or `model`.  `objects`: what a result is made of, in the order of making,
    the result last.  `arguments`: two different pairs."""
    free = sysconfig.get_config_var("Py_GIL_DISABLED")
    if sys.implementation.name != "cpython" or ctypes.sizeof(ctypes.c_void_p) != 8 or free:
        return model
    (one, first), (two, second) = [(model(*pair), pair) for pair in arguments]
    pairs = list(zip(objects(one), objects(two), strict=True))
    if len(pairs) > MOST:
        return model
    words: list[int] = [len(pairs)]
    kept: list[Any] = []
    for k, (a, b) in enumerate(pairs):
        slots = _slots(a, b, pairs[:k], first, second, kept)
        if slots is None:
            return model
        words += [id(type(a)), len(slots), *[w for s in slots for w in s]]
        kept.append(type(a))
    record = np.array(words, np.int64)
    return runtime.making(record, kept)


def object_new() -> int:
    """The address of what `object.__new__` calls."""
    get = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_int)(("PyType_GetSlot", ctypes.pythonapi))
    return get(object, _TP_NEW)  # type: ignore[no-any-return]


def _slots(a: Any, b: Any, before: Sequence[tuple[Any, Any]], first: Sequence[Any], second: Sequence[Any],
           kept: list[Any]) -> list[tuple[int, int, int]] | None:
    """(offset, kind, what) of every slot that is set; None if one holds something that is new each time."""
    out = []
    for cls in type(a).__mro__:
        for name in cls.__dict__.get("__slots__", ()):
            member = cls.__dict__.get(name)
            if not isinstance(member, MemberDescriptorType):
                continue
            try:
                x, y = member.__get__(a), member.__get__(b)
            except AttributeError:                        # not set
                continue
            offset = ctypes.c_int64.from_address(
                ctypes.c_int64.from_address(id(member) + _MEMBER).value + _OFFSET).value
            if not 16 <= offset < 4096 or ctypes.c_int64.from_address(id(a) + offset).value != id(x):
                return None
            argument = next((i for i in range(2) if x is first[i] and y is second[i]), None)
            earlier = next((i for i, (p, q) in enumerate(before) if x is p and y is q), None)
            if argument is not None:
                out.append((offset, ARGUMENT, argument))
            elif earlier is not None:
                out.append((offset, OBJECT, earlier))
            elif x is y:
                out.append((offset, CONSTANT, id(x)))
                kept.append(x)
            else:
                return None
    if getattr(a, "__dict__", None):
        return None
    return out
