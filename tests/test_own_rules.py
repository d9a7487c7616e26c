"""Functions that say how they are differentiated: `checkpoint` computes again, `custom_vjp` has a rule of its own."""

from __future__ import annotations

import numpy as np
import pytest

import autojit as aj
from autojit.backends.cpu.link import Memory
from autojit.engine import compile as pipeline

from .test_batching import Tenfold
from .test_transforms import RNG, W, X, near

# ---------------------------------------------------------------- checkpoint
WEIGHTS = [RNG.standard_normal((16, 16)).astype("float32") / 4 for _ in range(8)]


def layers(x, start):
    for w in WEIGHTS[start:start + 4]:
        x = (x @ aj.tensor(w)).tanh()
    return x


def test_checkpoint_recomputes_and_holds_less():
    x = aj.tensor(RNG.standard_normal((256, 16)).astype("float32"))
    sizes, counts, found = [], [], []
    for wrap in (lambda f: f, aj.checkpoint):
        first, second = wrap(lambda x: layers(x, 0)), wrap(lambda x: layers(x, 4))
        h = aj.trace(lambda x: (second(first(x)) ** 2).sum())  # noqa: B023
        found.append(aj.value_and_grad(h)(x))
        made = pipeline.prepare(h.last.graph)
        sizes.append(Memory(made.schedule, {k: (e, 0) for k, e in made.emitted.items()}).size)
        counts.append([n.op for n in made.graph.order].count("tanh"))
    near(found[1], found[0], 1e-5)
    assert counts == [8, 16]
    assert sizes[1] < 0.8 * sizes[0]


def test_checkpoint_keeps_only_its_arguments_in_the_tape():
    x = aj.tensor(X, requires_grad=True)
    y = aj.checkpoint(lambda x: x.sin().exp().sin())(x)
    assert [s.leaf is x for s in y.grad_fn.saved] == [True]
    y.sum().backward()
    near(x.grad, aj.grad(lambda x: x.sin().exp().sin().sum())(aj.tensor(X)))


def test_checkpoint_nests():
    f = lambda x: (x.sin().exp() * x).sum()  # noqa: E731
    c, x = aj.checkpoint(f), aj.tensor(X)
    near(aj.hessian(c)(x), aj.hessian(f)(x))
    near(aj.vmap(aj.grad(c))(aj.tensor(W)), aj.vmap(aj.grad(f))(aj.tensor(W)))
    near(aj.jvp(c, (x,), (x,)), aj.jvp(f, (x,), (x,)))
    near(aj.grad(aj.trace(aj.checkpoint(c)))(x), aj.grad(f)(x))
    near(aj.checkpoint(f, x), f(x))
    two = aj.checkpoint(lambda a, k, flag: (a * k["w"], a.sum()) if flag else a)
    near(aj.grad(lambda a: sum(t.sum() for t in two(a, {"w": x}, True)))(x), X + 1)
    near(aj.grad(lambda a: aj.checkpoint(Tenfold.apply)(a).sum())(x), 10 * X)


def test_checkpoint_draws_once():
    x = aj.ones(1000, requires_grad=True)
    y = aj.checkpoint(lambda x: (x * aj.rand(1000)).square())(x)
    y.sum().backward()
    near(x.grad, 2 * y.detach(), 1e-6)


# ---------------------------------------------------------------- custom_vjp
@aj.custom_vjp
def tenfold(x):
    """x * x, with ten times x as its gradient."""
    return x * x


tenfold.defvjp(lambda x: (x * x, x), lambda x, ct: (ct * 10 * x,))


def test_custom_vjp():
    x, b = aj.tensor(X), aj.tensor(W)
    near(tenfold(x), X * X)
    assert tenfold.__name__ == "tenfold" and not tenfold(x).requires_grad
    for f in (tenfold, aj.trace(lambda x: tenfold(x))):
        near(aj.grad(lambda x: f(x).sum())(x), 10 * X)  # noqa: B023
        near(aj.jacrev(f)(x), np.diag(10 * X))
        near(aj.jacfwd(f)(x), np.diag(10 * X))
        near(aj.hessian(lambda x: f(x).sum())(x), 10 * np.eye(3))  # noqa: B023
        near(aj.vmap(aj.grad(f))(x), 10 * X)
        near(aj.grad(lambda b: aj.vmap(lambda r: f(r).sum())(b).sum())(b), 10 * W)  # noqa: B023
        near(aj.jacfwd(aj.vmap(f))(x), np.diag(10 * X))
    z = aj.tensor(X, requires_grad=True)
    tenfold(z).sum().backward()
    near(z.grad, 10 * X)


def test_custom_vjp_with_nests_constants_and_captures():
    w = aj.tensor(3.0, dtype=aj.float64)
    f = aj.custom_vjp(lambda n, d: (d["a"] * d["b"] * w, d["a"] + n), nondiff_argnums=(0,))
    f.defvjp(lambda n, d: ((d["a"] * d["b"] * w, d["a"] + n), (d, "word")),
             lambda n, res, ct: ({"a": ct[0] * res[0]["b"] * w * n, "b": ct[1]},))
    d = {"a": aj.tensor(X), "b": aj.tensor(X * 2)}
    got = aj.grad(lambda d: sum(t.sum() for t in f(2, d)))(d)
    near(got, {"a": X * 2 * 3 * 2, "b": np.ones(3)})
    none = aj.custom_vjp(lambda x, y: x * y)
    none.defvjp(lambda x, y: (x * y, y), lambda y, ct: (ct * y, None))
    near(aj.grad(lambda x, y: none(x, y).sum(), argnums=(0, 1))(aj.tensor(X), aj.tensor(X)), (X, 0 * X))


def test_custom_vjp_refusals():
    f = aj.custom_vjp(lambda x: x * 2)
    with pytest.raises(AttributeError, match="No VJP defined for custom_vjp function"):
        f(aj.tensor(1.0))
    x = aj.tensor(1.0)
    f.defvjp(lambda x: x * 2, lambda r, ct: (ct,))
    with pytest.raises(TypeError, match="must produce a pair"):
        aj.grad(f)(x)
    f.defvjp(lambda x: (x * 2, ()), lambda r, ct: (ct, ct))
    with pytest.raises(TypeError, match="tuple of 1"):
        aj.grad(f)(x)
    f.defvjp(lambda x: (x * 2, ()), lambda r, ct: (ct[None],))
    with pytest.raises(ValueError, match="another shape"):
        aj.grad(f)(x)
    f.defvjp(lambda x: ((x * 2, x), ()), lambda r, ct: (ct,))
    with pytest.raises(TypeError, match="first element"):
        aj.grad(f)(x)
