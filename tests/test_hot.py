"""The short way of a traced call: the same answers as the general way, and none where anything is not as it was."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
import pytest

import autojit as aj
from autojit.tracing.hot import KEPT, USES

Pair = namedtuple("Pair", "a b")
pytestmark = pytest.mark.usefixtures("compiled")


def warm(f, *args):
    """Call often enough that the short way is written; (its answer, the general one)."""
    first = f(*args)
    for _ in range(USES + 1):
        f(*args)
    assert f._short.calls and f._short.calls[0](args) is not None
    return f._short.calls[0](args), first


def same(a, b):
    fa, sa = aj.functional.tree.flatten(a)
    fb, sb = aj.functional.tree.flatten(b)
    assert sa == sb and list(map(type, fa)) == list(map(type, fb))
    for x, y in zip(fa, fb):
        assert np.array_equal(np.asarray(x), np.asarray(y)) and getattr(x, "dtype", None) == getattr(y, "dtype", None)


def short(f, *args):
    """The short way's answer, or None."""
    return next((found for call in f._short.calls if (found := call(args)) is not None), None)


def product(a, b):
    return (a * b).sum()


@pytest.mark.parametrize("args", [
    (aj.tensor([1.0, 2.0]), aj.tensor([3.0, 4.0])),
    (np.array([1.0, 2.0]), np.array([3.0, 4.0])),
    (np.array([1.0, 2.0]), 0.1),
    (2.0, aj.tensor([1.0, 2.0], dtype=aj.float64)),
    (0.1, 0.2),
    (np.float32(0.1), np.ones(3, np.float32)),
])
def test_kinds_of_arguments(args):
    for argnums in (0, 1, (0, 1), [1]):
        same(*warm(aj.value_and_grad(aj.trace(product), argnums), *args))


def test_nests_and_static_arguments():
    def f(p, mode, rest):
        w, q = p["w"], p["q"]
        out = (w * q.a).sum() + q.b[0] * 2
        return (out if mode == "plus" else -out), {"w": w * 2, "none": None, "n": 3, "pair": Pair(w.sum(), [out])}
    args = ({"w": aj.ones(3), "q": Pair(np.ones(3), [1.5, ()])}, "plus", None)
    vg = aj.value_and_grad(aj.trace(f), has_aux=True)
    got, wanted = warm(vg, *args)
    same(got, wanted)
    assert type(got[0][1]["pair"]) is Pair and got[0][1]["n"] == 3 and got[1]["q"].b[0] == 2.0
    p = args[0]
    for bad in (({**p, "w": aj.ones(2)}, "plus", None), (p, "minus", None), (p, "plus", 1), (p, "plus"),
                ({**p, "more": 1.0}, "plus", None), ({"w": p["w"], "v": p["q"]}, "plus", None),
                ({**p, "q": (np.ones(3), [1.5, ()])}, "plus", None), ({**p, "q": Pair(np.ones(3), (1.5, ()))}, "plus", None),
                ([p], "plus", None)):
        assert short(vg, *bad) is None
    assert vg(p, "minus", None)[0][0].item() == -wanted[0][0].item()


def test_what_is_not_as_it_was():
    vg = aj.value_and_grad(aj.trace(lambda x: (x ** 2).sum()))
    x = np.arange(12.0).reshape(3, 4)
    warm(vg, x)
    strided, swapped, odd = np.arange(24.0).reshape(3, 8)[:, ::2], x.astype(">f8"), np.frombuffer(bytes(97), np.uint8)[1:]
    for y in (x.T, x.T.copy(), x[:2], strided, np.asfortranarray(x), x.astype(np.float32), swapped,
              odd.view(np.float64).reshape(3, 4), x.view(np.matrix), aj.tensor(x), x.tolist, 3.0, None):
        assert short(vg, y) is None
    for y in (strided, np.asfortranarray(x), odd.view(np.float64).reshape(3, 4)):
        value, g = vg(y)
        assert value.item() == (y ** 2).sum() and (g == 2 * y).all()
    ts = aj.value_and_grad(aj.trace(lambda x: (x ** 2).sum()))
    t = aj.tensor([1.0, 2.0])
    warm(ts, t)
    kept = np.ones(2, np.float32)
    for y in (aj.tensor([1.0, 2.0]).requires_grad_(), aj.ones(2, 2)[0], aj.from_numpy(kept), t.double(), t * 2):
        assert short(ts, y) is None
    t.mul_(3)
    assert ts(t)[0].item() == 45 and ts(t)[1].tolist() == [6, 12]
    assert ts(aj.ones(2, 2)[0])[0].item() == 2


def test_memory_that_others_see():
    vg = aj.value_and_grad(aj.trace(product))
    a, b = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    x, y = aj.from_numpy(a), aj.tensor(b)
    seen = y.numpy()
    same(*warm(vg, x, y))
    a[0], seen[1] = 10, 40
    assert short(vg, x, y)[0].item() == 110
    x.mul_(2)
    assert a.tolist() == [20, 4] and short(vg, x, y)[0].item() == 220
    del a, seen                                           # now it is theirs alone
    assert short(vg, x, y) is None and vg(x, y)[0].item() == 220
    for _ in range(8 * USES):
        vg(x, y)
    assert short(vg, x, y)[0].item() == 220               # written again for the other kind
    assert short(vg, aj.from_numpy(np.ones(4)[::2]), y) is None
    w = np.ones(2)
    held = aj.from_numpy(w)
    scaled = aj.value_and_grad(aj.trace(lambda x: (x * held).sum()))
    same(*warm(scaled, x))
    w[0] = 3
    assert short(scaled, x)[1].tolist() == [3, 1]


def test_a_gradient_of_the_gradient_goes_the_long_way():
    inner = aj.value_and_grad(aj.trace(lambda x: (x ** 3).sum()))
    x = aj.tensor([2.0])
    warm(inner, x)
    assert aj.grad(lambda x: inner(x)[1].sum())(x).tolist() == [12]
    assert aj.trace(lambda x: inner(x)[1] * 2)(x).tolist() == [24]


def test_captured_tensors_and_watched_values():
    w, scale = aj.tensor([1.0, 2.0], requires_grad=True), [2.0]
    vg = aj.value_and_grad(aj.trace(lambda x: (x * w * scale[0]).sum()))
    x = aj.ones(2)
    same(*warm(vg, x))
    with aj.no_grad():
        w += 1
    assert vg(x)[1].tolist() == [4, 6]
    scale[0] = 3.0
    assert short(vg, x) is None and vg(x)[1].tolist() == [6, 9]
    warm(vg, x)
    w.grad = aj.ones(2)                                   # part of what a recording depends on
    assert short(vg, x) is None
    w.data = aj.tensor([1.0, 1.0])
    assert vg(x)[1].tolist() == [3, 3]


def test_the_default_dtype_is_part_of_floats():
    vg = aj.value_and_grad(aj.trace(lambda s: s * 3))
    assert warm(vg, 0.1)[0][0].dtype is aj.float32
    aj.set_default_dtype(aj.float64)
    try:
        assert short(vg, 0.1) is None and vg(0.1)[0].dtype is aj.float64
    finally:
        aj.set_default_dtype(aj.float32)


def test_indices_are_looked_at():
    def f(x, i, j):
        return (x[i] * x[j + 1]).sum()
    vg = aj.value_and_grad(aj.trace(f))
    for x, i, j in ((aj.ones(3), aj.tensor([0, 2]), aj.tensor([0, 1])), (np.ones(3), np.array([0, 2]), np.array([0, 1]))):
        same(*warm(vg, x, i, j))
        i[1] = 3
        with pytest.raises(IndexError):
            vg(x, i, j)
        i[1] = -3
        vg(x, i, j)
        j[0] = 2
        with pytest.raises(IndexError):
            vg(x, i, j)


def test_random_draws_are_fresh():
    vg = aj.value_and_grad(aj.trace(lambda x: (x * aj.rand(4)).sum()))
    x = aj.ones(4)
    warm(vg, x)
    assert len({tuple(vg(x)[1].tolist()) for _ in range(4)}) == 4
    aj.manual_seed(3)
    a = vg(x)[1].tolist()
    aj.manual_seed(3)
    assert vg(x)[1].tolist() == a == (aj.manual_seed(3), aj.rand(4))[1].tolist()


def test_results_are_the_caller_s():
    vg = aj.value_and_grad(aj.trace(lambda x: (x * x).sum()))
    x = np.ones(2000)
    warm(vg, x)
    found = [vg(x * k)[1] for k in range(6)]
    assert [g[0] for g in found] == [0, 2, 4, 6, 8, 10]
    found[0][:] = 7
    assert vg(x)[1][0] == 2 and found[1][0] == 2


def test_several_signatures_and_no_more_than_are_kept():
    vg = aj.value_and_grad(aj.trace(lambda x: (x * x).sum()))
    for n in range(2, KEPT + 4):
        warm(vg, aj.ones(n))
    assert len(vg._short.calls) == KEPT
    for n in range(2, KEPT + 4):
        assert vg(aj.ones(n))[0].item() == n


def test_values_alone_and_the_grad_mode():
    f = aj.trace(lambda x, s: {"y": x * s, "n": 2})
    x = aj.tensor([1.0, 2.0])
    same(*warm(f, x, 3.0))
    w = x.clone().requires_grad_()
    assert short(f, w, 3.0) is None and f(w, 3.0)["y"].requires_grad
    with aj.no_grad():
        assert short(f, x, 3.0) is None
        same(*warm(f, w, 3.0))
    assert f(w, 3.0)["y"].requires_grad and not f(x, 3.0)["y"].requires_grad
    vg = aj.value_and_grad(aj.trace(product))
    with aj.no_grad():
        warm(vg, w, x)
    assert short(vg, w, x) is None and vg(w, x)[1].requires_grad is False
    nothing = aj.trace(lambda x: None)
    for _ in range(USES + 2):
        assert nothing(x) is None
    assert not nothing._short.calls
    assert aj.trace(lambda x: f(x, 3.0)["y"] + 1)(x).tolist() == [4, 7]


def test_what_writes_goes_the_long_way():
    seen = aj.zeros(1)

    def f(x):
        seen.add_(1)
        return (x * x).sum()
    vg = aj.value_and_grad(aj.trace(f))
    for _ in range(USES + 3):
        vg(aj.ones(2))
    assert not vg._short.calls and seen.item() == USES + 3
