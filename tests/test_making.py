"""Objects made natively are those that the Python function makes, and go when nobody holds them."""

from __future__ import annotations

import copy
import gc
import sys
import weakref

import numpy as np
import pytest

import autojit as aj
from autojit.backends.cpu.making import maker
from autojit.backends.cpu.runtime import runtime
from autojit.eager.storage import aval_of
from autojit.eager.tensor import of_buffer
from autojit.tracing.hot import shower


class Inner:
    __slots__ = ("x", "name", "unset", "__weakref__")


class Base:
    __slots__ = ("inner", "again")


class Outer(Base):
    __slots__ = ("y", "n", "__dict__", "__weakref__")


def model(x, y):
    inner, outer = Inner(), Outer()
    inner.x, inner.name = x, "inner"
    outer.inner = outer.again = inner
    outer.y, outer.n = y, None
    return outer


def parts(t):
    return t.inner, t


PAIRS = [([1], {2}), ([3], {4})]


def test_what_is_made_is_what_the_model_makes():
    make = maker(runtime(), model, parts, PAIRS)
    assert type(make) is type(len)
    x, y = object(), [5]
    t = make(x, y)
    assert type(t) is Outer and type(t.inner) is Inner and t.again is t.inner
    assert t.inner.x is x and t.y is y and t.n is None and t.inner.name == "inner" and not hasattr(t.inner, "unset")
    t.more, t.n = 1, 2                                    # as alive as any other
    assert t.__dict__ == {"more": 1} and make(x, y).n is None and gc.is_tracked(t)
    assert copy.copy(t).more == 1


def test_nothing_is_held_and_nothing_is_freed_too_early():
    make = maker(runtime(), model, parts, PAIRS)
    x, y = ["x"], ["y"]
    before = [sys.getrefcount(v) for v in (x, y, Inner, Outer, "inner")]
    made = [make(x, y) for _ in range(1000)]
    counts = sys.getrefcount(x), sys.getrefcount(made[0].inner)
    assert counts == (2 + 1000, 3)
    gone = [weakref.ref(made[0]), weakref.ref(made[0].inner)]
    del made
    assert [g() for g in gone] == [None, None]
    after = [sys.getrefcount(v) for v in (x, y, Inner, Outer, "inner")]
    assert all(abs(a - b) <= 5 for a, b in zip(after, before))
    t = make(x, y)
    t.y = t                                               # a cycle, which the collector finds
    gone = weakref.ref(t)
    del t
    gc.collect()
    assert gone() is None


def test_wrong_calls_and_models_that_cannot_be():
    make = maker(runtime(), model, parts, PAIRS)
    for args in ((), (1,), (1, 2, 3)):
        with pytest.raises(TypeError):
            make(*args)
    with pytest.raises(TypeError):
        make(1, y=2)

    def fresh(x, y):
        t = model(x, y)
        t.n = []                                          # something new each time
        return t

    def other(x, y):
        t = model(x, y)
        t.more = 1                                        # not in a slot
        return t
    for f in (fresh, other):
        assert maker(runtime(), f, parts, PAIRS) is f


def test_tensors_by_the_builtin_are_tensors():
    make = shower()
    assert make is not of_buffer
    a = np.arange(6.0).reshape(2, 3)
    t, u = make(a, aval_of(a)), of_buffer(a.copy(), aval_of(a))
    for x, y in ((t, u), (t.storage, u.storage), (t.storage.value, u.storage.value)):
        for slot in [s for c in type(x).__mro__ for s in c.__dict__.get("__slots__", ()) if not s.startswith("__")]:
            assert hasattr(x, slot) == hasattr(y, slot), slot
    assert t.storage.value.data is a and t.cell is t.storage
    t.mul_(2)
    assert t.tolist() == [[0, 2, 4], [6, 8, 10]] and repr(t) == repr(u * 2)
    w = make(a, aval_of(a)).requires_grad_()
    (w * w).sum().backward()
    assert w.grad.shape == (2, 3) and aj.equal(w.grad, 2 * w.detach())
