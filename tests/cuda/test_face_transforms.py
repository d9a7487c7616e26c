"""Transforms on a device: what they give is there, and is what the CPU gives."""

from __future__ import annotations

import numpy as np
import pytest

import autojit as aj

from .front import KINDS, opened


@pytest.fixture(autouse=True, params=KINDS)
def device(request):
    yield from opened(request)


X = np.linspace(0.3, 1.2, 6).reshape(2, 3).astype("float32")
W = np.linspace(-1, 1, 6).reshape(3, 2).astype("float32")


def f(x, w):
    return ((x @ w).tanh() * 2.5).sum() * x.prod()


TRANSFORMS = {
    "vmap": lambda x, w: aj.vmap(lambda r: f(r, w))(x),
    "vmap of grad": lambda x, w: aj.vmap(aj.grad(f), in_dims=(0, None))(x, w),
    "jvp": lambda x, w: aj.jvp(f, (x, w), (x, w))[1],
    "jacrev": lambda x, w: aj.jacrev(lambda r: r.sin() * r.sum())(x),
    "jacfwd": lambda x, w: aj.jacfwd(lambda r: (r @ w).exp())(x[0]),
    "hessian": lambda x, w: aj.hessian(lambda r: f(r, w))(x[0]),
    "hvp": lambda x, w: aj.hvp(lambda r: f(r, w), (x[0],), (x[1],)),
    "linearize": lambda x, w: aj.linearize(lambda r: f(r, w), x[0])[1](x[1]),
    "checkpoint": lambda x, w: aj.grad(aj.checkpoint(lambda r: f(r, w)))(x),
    "gather": lambda x, w: aj.vmap(lambda r: r[[2, 0]] * r.flip(0)[:2])(x),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_there_as_here(name):
    t = TRANSFORMS[name]
    here = t(aj.tensor(X), aj.tensor(W))
    for g in (t, aj.trace(t)):
        there = g(aj.tensor(X, device="cuda"), aj.tensor(W, device="cuda"))
        assert there.is_cuda
        np.testing.assert_allclose(there.cpu().numpy(), here.numpy(), rtol=2e-5, atol=1e-6)


def test_gradients_flow_back():
    x = aj.tensor(X, device="cuda", requires_grad=True)
    aj.vmap(lambda r: (r ** 3).sum())(x).sum().backward()
    assert x.grad.is_cuda
    np.testing.assert_allclose(x.grad.cpu().numpy(), 3 * X ** 2, rtol=1e-5)


def test_random_numbers_there():
    x = aj.zeros(3, device="cuda")
    out = aj.vmap(lambda r: r + aj.rand(2, device="cuda"), randomness="different")(x)
    assert out.is_cuda and len(set(out.reshape(-1).tolist())) == 6
