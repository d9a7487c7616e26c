"""Loops and branches on a device: the host turns them, and nothing but flags and counts comes to it."""

from __future__ import annotations

import numpy as np
import pytest

import autojit as aj
from autojit import tree

from .front import KINDS, opened, quiet

RNG = np.random.default_rng(3)
W, XS = RNG.normal(size=(4, 4)).astype(np.float32) * 0.4, RNG.normal(size=(3, 2, 4)).astype(np.float32)


@pytest.fixture(autouse=True, params=KINDS)
def device(request):
    yield from opened(request)


def looping(w, xs):
    """Each kind, one in another; a loop with no turn; a result that is an input."""
    def turn(c, x):
        c = (c @ w + x).tanh()
        c, n = aj.while_loop(lambda v: (v[0].sum() < 3) & (v[1] < 3), lambda v: (v[0] * 1.1 + w[0], v[1] + 1), (c, 0))
        return aj.cond(n > 1, lambda c: c * w[1], lambda c: c.sin(), c), (c * c).sum()
    c, ys = aj.scan(turn, xs[0], xs, reverse=True)
    same, (k, total) = aj.scan(lambda c, x: (c, (x, (x * c).sum())), c.sum(), xs)
    rest = aj.while_loop(lambda v: v > 1e9, lambda v: v * 2, total.sum())
    return aj.fori_loop(0, 3, lambda i, v: v * 0.5 + i * same + k[i].sum() * 0.1, ys.sum()) + rest


def close(a, b):
    xs, ys = tree.flatten(a)[0], tree.flatten(b)[0]
    assert len(xs) == len(ys) > 0
    for x, y in zip(xs, ys):
        assert y.is_cuda and not x.is_cuda
        np.testing.assert_allclose(x.detach().numpy(), y.detach().cpu().numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("wrap", [lambda f: f, aj.trace], ids=["eager", "traced"])
def test_values_and_gradients(wrap):
    w, xs = aj.tensor(W), aj.tensor(XS)
    f = aj.value_and_grad(wrap(looping), argnums=(0, 1))
    close(f(w, xs), f(w.cuda(), xs.cuda()))
    second = aj.grad(lambda w, xs: (aj.grad(wrap(looping))(w, xs) ** 2).sum())
    close(second(w, xs), second(w.cuda(), xs.cuda()))


def test_transforms():
    w, xs = aj.tensor(W), aj.tensor(XS)

    def f(x, w):
        return aj.while_loop(lambda v: (v * v).sum() < 9, lambda v: v * 1.5 + w[0], x).sum()
    for many in (lambda x, w: aj.vmap(aj.grad(f), (0, None))(x, w), lambda x, w: aj.jvp(f, (x[0], w), (x[1], w))[1]):
        close(many(xs[0], w), many(xs[0].cuda(), w.cuda()))


def test_only_flags_and_counts_come_to_the_host(device):
    w, xs = aj.tensor(W).cuda(), aj.tensor(XS).cuda()
    f = aj.trace(lambda w, xs: aj.scan(lambda c, x: ((c @ w + x).tanh(), c), xs[0], xs))
    f(w, xs)
    quiet(device)
    f(w, xs)
    assert quiet(device)[1] == 0
    g = aj.trace(lambda x: aj.while_loop(lambda v: v.sum() < 100, lambda v: v * 2, x))
    x = aj.tensor([1.0, 2.0]).cuda()
    g(x)
    quiet(device)
    g(x)
    assert quiet(device) == (0, 7)                        # six turns, and the flag that ends them
    assert "turned by the host" in g.explain() and "turned by the host" in g.source()


def test_numbers_go_along_and_devices_do_not_meet():
    x = aj.tensor([1.0, 2.0, 3.0]).cuda()
    out, ys = aj.scan(lambda c, x: (c + x, c), 0.0, x)
    assert out.is_cuda and out.item() == 6 and ys.tolist() == [0, 1, 3]
    c, ys = aj.scan(lambda c, x: (c + x, c), x.sum(), x[:0])
    assert c.item() == 6 and ys.is_cuda and ys.shape == (0,)
    assert aj.cond(aj.tensor(True), lambda x: x * 2, lambda x: x, x).tolist() == [2, 4, 6]
    assert not aj.cond(x.sum() > 1, lambda x: x * 2, lambda x: x, x.cpu()).is_cuda
    n = aj.trace(lambda n, x: aj.fori_loop(0, n, lambda i, v: v + i, x))
    assert n(aj.tensor(4), x).tolist() == [7, 8, 9]
    for bad in (lambda: aj.scan(lambda c, x: (c + x, c), x[0], x.cpu()),
                lambda: aj.fori_loop(0, 2, lambda i, v: v * x, x.cpu())):
        with pytest.raises(RuntimeError, match="same device"):
            bad()
    with pytest.raises(RuntimeError, match="moves a tensor to another device"):
        aj.scan(lambda c, x: (c, (x * 2).cpu()), x[0], x)
