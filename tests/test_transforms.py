"""Transforms of functions: values against torch.func and finite differences, to third order; nesting; costs; refusals."""

from __future__ import annotations

import numpy as np
import pytest

import autojit as aj
from autojit import tree
from autojit.autodiff.forward import forward
from autojit.autodiff.vjp import reverse
from autojit.dtypes import COMPLEX, FLOAT, as_dtype
from autojit.engine import compile as pipeline
from autojit.ir.aval import aval
from autojit.ir.graph import Graph, placeholder
from autojit.ir.primitive import LEAF, REGISTRY
from autojit.ops.declare import P

from .checking import evaluate, leaf, outputs
from .oplist import SAMPLES
from .test_batching import KNOWN, Tenfold, samples

torch = pytest.importorskip("torch")
func = torch.func

RNG = np.random.default_rng(3)
X, W = RNG.uniform(0.5, 1.5, 3), RNG.uniform(-1, 1, (3, 4))
PLAIN = {
    "polynomial": lambda x: (x ** 3).sum() * x[0],
    "layers": lambda x: ((x @ _w(x)).tanh() @ _w(x).T).softmax(0)[1],
    "norm": lambda x: x.norm() * x.log().sum(),
    "logcumsumexp": lambda x: (x * x).logcumsumexp(0).sin().sum(),
    "cumprod": lambda x: x.cumprod(0).square().sum(),
    "sort": lambda x: (x.sort()[0] * _v(x)).sum() ** 2,
    "max": lambda x: x.max() * x.min() * x.sum(),
    "outer": lambda x: (x[:, None] * x[None, :]).exp().sum(1).prod(),
    "detached": lambda x: (x * x * x.detach()).sum(),
    "mixed": lambda x: (x.clamp(0.8, 1.2) * x.flip(0)).sum() + x.var() * x.std(),
    "index": lambda x: (x[[0, 0, 2]] * x.repeat(1)).sum() * x[1:].sum(),
}
FORWARD = [n for n in PLAIN if n not in ("detached", "logcumsumexp")]


def _w(x):
    return x.new_tensor(W) if isinstance(x, torch.Tensor) else aj.tensor(W)


def _v(x):
    return _w(x)[:, 0]


def near(ours, theirs, rtol=1e-9):
    flat, other = tree.flatten(ours)[0], tree.flatten(theirs)[0]
    assert len(flat) == len(other)
    for a, b in zip(flat, other):
        a, b = np.asarray(a.detach() if hasattr(a, "detach") else a), np.asarray(b.detach() if hasattr(b, "detach") else b)
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-11)


# ---------------------------------------------------------------- every primitive
@pytest.mark.parametrize("name", [n for n in KNOWN if REGISTRY[n].vjp is not None and n != "cholesky"])
def test_tangents_of_primitives(name):
    """Central differences along a random direction."""
    for fn, arrays in samples(name):
        leaves = [placeholder(aval(np.shape(a), as_dtype(np.asarray(a).dtype))) for a in arrays]
        roots = [o for o in outputs(fn(*leaves)) if o.dtype.category >= FLOAT]
        floats = [k for k, n in enumerate(leaves) if n.dtype.category >= FLOAT]
        if not roots or not floats:
            continue
        rng = np.random.default_rng(5)
        ways = {k: rng.uniform(-1, 1, np.shape(arrays[k])) * (np.asarray(arrays[k]) != 0) for k in floats}
        given = {k: placeholder(leaves[k].aval) for k in floats}
        made = forward(roots, {leaves[k]: given[k] for k in floats})
        h = 1e-6
        low, high = ([np.asarray(a, float) + s * ways[k] if k in ways else a for k, a in enumerate(arrays)] for s in (-h, h))
        want = [(b - a) / (2 * h) for a, b in zip(evaluate(roots, leaves, low), evaluate(roots, leaves, high))]
        there = iter(evaluate([t for t in made if t is not None], [*leaves, *given.values()],
                              [*arrays, *[ways[k] for k in floats]]))
        if not (name == "prod" and any((np.asarray(a) == 0).any() for a in arrays)):      # zeros stay where they are
            for t, w in zip(made, want):
                np.testing.assert_allclose(0 * w if t is None else next(there), w, rtol=1e-5, atol=1e-6, err_msg=name)


def test_a_rule_that_is_not_linear_is_refused():
    clipped = aj.custom_vjp(lambda x: x * 1)
    clipped.defvjp(lambda x: (x * 1, ()), lambda r, ct: (ct.clamp(-1, 1),))
    with pytest.raises(NotImplementedError, match="not linear"):
        aj.jvp(clipped, (aj.tensor(2.0),), (aj.tensor(1.0),))


# ---------------------------------------------------------------- against torch
@pytest.mark.parametrize("name", PLAIN)
def test_jvp_and_jacobians(name):
    f, x, t = PLAIN[name], aj.tensor(X), torch.tensor(X)
    v = RNG.uniform(-1, 1, 3)
    if name in FORWARD:
        near(aj.jvp(f, (x,), (aj.tensor(v),)), func.jvp(f, (t,), (torch.tensor(v),)))
        near(aj.jacfwd(f)(x), func.jacfwd(f)(t))
    near(aj.jacrev(f)(x), func.jacrev(f)(t))
    near(aj.jacfwd(f)(x), func.jacrev(f)(t))
    near(aj.jvp(f, (x,), (aj.tensor(v),))[1], (func.grad(f)(t) @ torch.tensor(v)))


@pytest.mark.parametrize("name", PLAIN)
def test_second_and_third_order(name):
    f, x, t = PLAIN[name], aj.tensor(X), torch.tensor(X)
    want = func.jacrev(func.jacrev(f))(t)
    near(aj.hessian(f)(x), want, 1e-8)
    near(aj.jacfwd(aj.jacfwd(f))(x), want, 1e-8)
    near(aj.jacrev(aj.jacfwd(f))(x), want, 1e-8)
    v = RNG.uniform(-1, 1, 3)
    near(aj.hvp(f, (x,), (aj.tensor(v),)), want @ torch.tensor(v), 1e-8)
    third, rtol = func.jacrev(func.jacrev(func.jacrev(f)))(t), 1e-7
    if name == "logcumsumexp":                            # NaN there
        steps = [[func.hessian(f)(t + s * 1e-5 * e) for s in (1, -1)] for e in torch.eye(3, dtype=torch.float64)]
        third, rtol = torch.stack([(high - low) / 2e-5 for high, low in steps], -1), 1e-4
    near(aj.jacfwd(aj.hessian(f))(x), third, rtol)
    near(aj.jacrev(aj.hessian(f))(x), third, rtol)


def nest(x, d):
    return {"a": (x @ d["w"]).sin(), "b": [x * d["s"], (x.sum() * d["s"],)]}


@pytest.mark.parametrize("argnums", [0, 1, (0, 1), (1,), -1], ids=str)
@pytest.mark.parametrize("ours, theirs", [(aj.jacrev, func.jacrev), (aj.jacfwd, func.jacrev), (aj.jacobian, func.jacrev)],
                         ids=["jacrev", "jacfwd", "jacobian"])
def test_nests_and_argnums(ours, theirs, argnums):
    def args(m):
        return m.tensor(X), {"w": m.tensor(W), "s": m.tensor(2.0, dtype=m.float64)}
    got, want = ours(nest, argnums)(*args(aj)), theirs(nest, argnums)(*args(torch))
    near(got, want)
    assert type(got) is dict and type(got["b"]) is list and type(got["b"][1]) is tuple


def test_chunks_and_aux():
    f = lambda x: (x ** 2, {"kept": x.sum(), "word": "here"})  # noqa: E731
    for g in (aj.jacrev(f, has_aux=True, chunk_size=2), aj.jacfwd(f, has_aux=True), aj.jacobian(f, has_aux=True)):
        jac, aux = g(aj.tensor(X))
        near(jac, np.diag(2 * X))
        assert aux["word"] == "here" and abs(aux["kept"].item() - X.sum()) < 1e-12
    out, moved, aux = aj.jvp(f, (aj.tensor(X),), (aj.tensor(X),), has_aux=True)
    near((out, moved), (X ** 2, 2 * X ** 2))
    y, pull, aux = aj.vjp(f, aj.tensor(X), has_aux=True)
    near((y, pull(aj.tensor(X))[0]), (X ** 2, 2 * X ** 2))
    assert aux["word"] == "here" and not aux["kept"].requires_grad


def test_results_that_do_not_depend():
    near(aj.jacfwd(lambda x: aj.ones(2))(aj.tensor(X)), np.zeros((2, 3), "float32"))
    near(aj.jacrev(lambda x: aj.ones(2) + 0 * aj.ones(2))(aj.tensor(X)), np.zeros((2, 3)))
    out, moved = aj.jvp(lambda x: (x, x.long(), aj.ones(2)), (aj.tensor(X),), (aj.tensor(X),))
    assert moved[1].tolist() == [0, 0, 0] and moved[2].tolist() == [0.0, 0.0]
    with pytest.raises(RuntimeError, match="independent"):
        aj.jvp(lambda x: aj.ones(2), (aj.tensor(X),), (aj.tensor(X),), strict=True)


# ---------------------------------------------------------------- nesting
def loss(w, x):
    return ((x @ w).tanh() ** 2).sum()


@pytest.mark.parametrize("traced", ["no", "inside", "outside", "both"])
def test_hessian_of_a_mapped_gradient(traced):
    rows = RNG.uniform(-1, 1, (5, 3))
    inner = aj.trace(loss) if traced in ("inside", "both") else loss
    g = lambda w: aj.vmap(aj.grad(inner), in_dims=(None, 0))(w, aj.tensor(rows)).square().sum()  # noqa: E731
    h = aj.trace(aj.hessian(g)) if traced in ("outside", "both") else aj.hessian(g)
    t = lambda w: func.vmap(func.grad(loss), in_dims=(None, 0))(w, torch.tensor(rows)).square().sum()  # noqa: E731
    want = func.hessian(t)(torch.tensor(X))
    for _ in range(3):
        near(h(aj.tensor(X)), want, 1e-8)


def test_all_orders_of_nesting():
    f = PLAIN["layers"]
    batch = RNG.uniform(0.5, 1.5, (4, 3))
    b, t = aj.tensor(batch), torch.tensor(batch)
    near(aj.vmap(aj.hessian(f))(b), func.vmap(func.hessian(f))(t), 1e-8)
    near(aj.vmap(aj.jacrev(aj.grad(f)))(b), func.vmap(func.hessian(f))(t), 1e-8)
    near(aj.vmap(lambda x: aj.jvp(f, (x,), (x,))[1])(b), func.vmap(lambda x: func.jvp(f, (x,), (x,))[1])(t))
    near(aj.jvp(lambda x: aj.vmap(f)(x), (b,), (b,)), func.jvp(lambda x: func.vmap(f)(x), (t,), (t,)))
    near(aj.grad(lambda x: aj.jacfwd(f)(x).square().sum())(b[0]), func.grad(lambda x: func.jacrev(f)(x).square().sum())(t[0]))
    near(aj.jvp(lambda x: aj.jvp(lambda y: f(y * x), (x,), (x,))[1], (b[0],), (b[1],)),
         func.jvp(lambda x: func.jvp(lambda y: f(y * x), (x,), (x,))[1], (t[0],), (t[1],)), 1e-8)
    near(aj.vmap(aj.vmap(aj.grad(f)))(aj.tensor(np.stack([batch, batch * 2]))),
         func.vmap(func.vmap(func.grad(f)))(torch.tensor(np.stack([batch, batch * 2]))))


def test_the_tape_sees_what_transforms_make():
    z, t = aj.tensor(X, requires_grad=True), torch.tensor(X, requires_grad=True)
    f = PLAIN["outer"]
    aj.jvp(f, (z,), (aj.ones(3, dtype=aj.float64),))[1].backward()
    func.jvp(f, (t,), (torch.ones(3, dtype=torch.float64),))[1].backward()
    near(z.grad, t.grad)
    z.grad = t.grad = None
    aj.hessian(f)(z).square().sum().backward()
    func.hessian(f)(t).square().sum().backward()
    near(z.grad, t.grad, 1e-8)


def test_captured_tensors_get_gradients():
    w, t = aj.tensor(W, requires_grad=True), torch.tensor(W, requires_grad=True)
    aj.jacrev(lambda x: (x @ w).sin())(aj.tensor(X)).square().sum().backward()
    func.jacrev(lambda x: (x @ t).sin())(torch.tensor(X)).square().sum().backward()
    near(w.grad, t.grad)


def test_gradients_have_a_history_by_what_they_capture():
    """A penalty on gradients."""
    w, t = aj.tensor(X, requires_grad=True), torch.tensor(X, requires_grad=True)
    aj.grad(lambda x: (x * x * w).sum())(aj.tensor(X)).square().sum().backward()
    func.grad(lambda x: (x * x * t).sum())(torch.tensor(X)).square().sum().backward()
    near(w.grad, t.grad)
    w.grad = None
    aj.vjp(lambda x: x * x * w, aj.tensor(X))[1](aj.tensor(X))[0].sum().backward()
    near(w.grad, 2 * X * X)
    assert not aj.grad(lambda x: (x * x).sum())(aj.tensor(X)).requires_grad


def test_arrays_and_numbers_come_back_as_such():
    h = aj.hessian(lambda x: (x ** 3).sum())(X)
    assert type(h) is np.ndarray
    near(h, np.diag(6 * X))
    value, moved = aj.jvp(lambda x: x * x, (3.0,), (1.0,))
    assert (type(value), value, moved) == (float, 9.0, 6.0)
    assert aj.jacobian(lambda x: x * x)(2.0) == 4.0 and aj.hvp(lambda x: x ** 3, (2.0,), (1.0,)) == 12.0
    out = aj.jacrev(lambda d: d["a"] * d["b"])({"a": X, "b": 2.0})
    near(out["a"], 2 * np.eye(3))
    near(out["b"], X)


def test_functions_may_look_at_the_values_of_this_call():
    f = lambda x: x * 2 if x.sum() > 0 else -x  # noqa: E731
    assert aj.jvp(f, (aj.tensor([1.0]),), (aj.tensor([1.0]),))[1].item() == 2.0
    assert aj.jacrev(f)(aj.tensor([-1.0])).item() == -1.0
    assert aj.hessian(lambda x: x ** 3 if x.item() > 0 else x)(aj.tensor(2.0)).item() == 12.0
    k = aj.tensor([3.0])
    assert aj.vmap(lambda r: aj.grad(lambda x: x * k.item())(r))(aj.ones(2)).tolist() == [3.0, 3.0]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_other_dtypes(dtype):
    d = getattr(aj, dtype)
    x = aj.tensor([0.5, 1.5], dtype=d)
    out, moved = aj.jvp(lambda x: (x.sin() * x).sum(), (x,), (x,))
    h, m = aj.hessian(lambda x: (x.sin() * x).sum())(x), aj.vmap(aj.grad(lambda x: x.sin() * x))(x)
    assert out.dtype is d and moved.dtype is d and h.dtype is d and m.dtype is d
    y = np.array([0.5, 1.5])
    tolerance = {"float16": 4e-3, "bfloat16": 4e-2, "float32": 1e-6}[dtype]
    np.testing.assert_allclose(moved.float().item(), ((np.cos(y) * y + np.sin(y)) * y).sum(), rtol=tolerance)
    np.testing.assert_allclose(m.float().numpy(), np.cos(y) * y + np.sin(y), rtol=tolerance)
    np.testing.assert_allclose(h.float().numpy(), np.diag(2 * np.cos(y) - np.sin(y) * y), rtol=tolerance, atol=tolerance)


def test_loops_and_branches_nest():
    x = aj.tensor([1.0, 2.0, 3.0])

    def loop(a):
        return aj.scan(lambda c, t: ((c * t).sin(), c), a, x)[0]

    def unrolled(a):
        for t in (1.0, 2.0, 3.0):
            a = (a * t).sin()
        return a

    both = lambda g, rtol=1e-5: near(g(loop), g(unrolled), rtol)  # noqa: E731
    both(lambda f: aj.vmap(f)(x))
    both(lambda f: aj.vmap(aj.grad(f))(x))
    both(lambda f: aj.jvp(f, (x,), (x,)))
    both(lambda f: aj.hessian(f)(x[0]), 1e-4)
    both(lambda f: aj.jacrev(aj.vmap(f))(x))
    both(lambda f: aj.trace(aj.vmap(aj.grad(aj.trace(f))))(x))
    side = lambda a: aj.cond(a > 1.5, lambda a: a * a, lambda a: a.sin(), a)  # noqa: E731
    near(aj.vmap(aj.grad(side))(x), np.array([np.cos(1.0), 4.0, 6.0], "float32"), 1e-6)
    near(aj.trace(aj.vmap(aj.grad(aj.grad(side))))(x), np.array([-np.sin(1.0), 2.0, 2.0], "float32"), 1e-6)


def test_other_sizes_of_a_traced_function():
    """Light recordings give way to transforms."""
    mapped = aj.value_and_grad(aj.trace(lambda x: aj.vmap(lambda r: (r ** 2).sum())(x).sum()))
    moved = aj.value_and_grad(aj.trace(lambda x: aj.jvp(lambda r: (r ** 2).sum(), (x,), (x,))[1]))
    for n in range(2, 12):
        value, g = mapped(aj.ones(n, 3))
        assert value.item() == 3 * n and g.shape == (n, 3) and bool((g == 2).all())
        value, g = moved(aj.ones(n))
        assert value.item() == 2 * n and bool((g == 4).all())


def test_backward_of_ones_own_inside():
    def f(a):
        z = a.detach().requires_grad_()
        (z ** 2).backward()
        return z.grad
    assert aj.vmap(f)(aj.tensor([1.0, 2.0])).tolist() == [2.0, 4.0]
    assert aj.jacfwd(f)(aj.tensor(1.0)).item() == 0.0


def test_training_with_a_map():
    """Paths of the eager face and ops that stand for graphs."""
    def train(m):
        w = m.tensor(np.linspace(0.1, 1, 6).reshape(2, 3), requires_grad=True)
        x, out = m.tensor(np.arange(12.0).reshape(4, 3) / 10), []
        for _ in range(6):
            w.grad = None
            loss = m.vmap(lambda r: (r @ w.T).sin().sum())(x).square().mean() + (w ** 2).sum()
            loss.backward()
            out.append(loss.item())
            with m.no_grad():
                w -= 0.1 * w.grad
        return np.array(out)
    np.testing.assert_allclose(train(aj), train(torch), rtol=1e-12)


def test_bound():
    b = aj.value_and_grad(lambda x: aj.vmap(lambda r: (r ** 3).sum())(x).sum()).bind(np.ones((3, 2)))
    assert b().item() == 6.0 and bool((b.grads == 3.0).all())


# ---------------------------------------------------------------- what only the tape knows
def test_custom_functions():
    x = aj.tensor(X)
    near(aj.jacrev(Tenfold.apply)(x), np.diag(10 * X))
    near(aj.jacfwd(Tenfold.apply)(x), np.diag(10 * X))
    near(aj.jvp(Tenfold.apply, (x,), (x,)), (X * X, 10 * X * X))
    near(aj.hessian(lambda x: Tenfold.apply(x).sum())(x), 10 * np.eye(3))
    y, push = aj.linearize(Tenfold.apply, x)
    near((y, push(x)), (X * X, 10 * X * X))
    near(aj.vmap(aj.grad(Tenfold.apply))(x), 10 * X)
    near(aj.trace(aj.jacrev(Tenfold.apply))(x), np.diag(10 * X))
    near(aj.vmap(aj.hessian(Tenfold.apply))(x), np.full(3, 10.0))


def test_constants_of_the_tape_are_constants_forward_too():
    x = aj.tensor(X)

    def f(x):
        with aj.no_grad():
            y = x * x
            z = y[1:]
        return y * x + z.sum() + aj.stop_gradient(x) * 3

    near(aj.jvp(f, (x,), (aj.ones(3, dtype=aj.float64),))[1], X * X)
    near(aj.jacrev(f)(x), np.diag(X * X))

    def written(x):                                       # behind the tape's back
        y = x * 1
        y.detach().mul_(2)
        return (y * x).sum()

    near(aj.jacfwd(written)(x), aj.grad(written)(x))
    hooked = lambda x: _hooked(x * x).sum()  # noqa: E731
    near(aj.jacfwd(hooked)(x), 6 * X)


def _hooked(y):
    y.register_hook(lambda g: g * 3)
    return y


def test_stop_gradient():
    x = aj.tensor(X)
    near(aj.hessian(lambda x: (x * x * aj.stop_gradient(x)).sum())(x), np.diag(2 * X))
    f = aj.trace(lambda x: (x * x * aj.stop_gradient(x)).sum())
    z = aj.tensor(X, requires_grad=True)
    g, = aj.autograd.grad(f(z), z, create_graph=True)
    near(aj.autograd.grad(g.sum(), z), (2 * X,))
    assert not aj.stop_gradient(z).requires_grad and aj.stop_gradient([z, 3])[1] == 3


# ---------------------------------------------------------------- what it costs
def chain(x):
    for _ in range(100):
        x = (x * 1.01).sin()
    return x


def test_forward_mode_keeps_nothing():
    """A chain of 200 operations and its tangent: one kernel, no memory between; no node is there for a reverse pass."""
    pushed = aj.trace(lambda x, t: aj.jvp(chain, (x,), (t,)))
    pushed(aj.ones(10_000), aj.ones(10_000))
    graph = pushed.last.graph
    made = pipeline.prepare(graph)
    assert len(made.schedule.steps) == 1
    assert {b.kind for b in made.schedule.buffers.values()} == {"input", "output"}
    assert sum(n.op == "sin" for n in graph.order) == sum(n.op == "cos" for n in graph.order) == 100
    ops = [n for n in graph.order if n.prim.kind != LEAF and n.op not in ("expand", "reshape")]
    assert len(ops) <= 5 * 100


def test_a_jacobian_of_few_inputs_is_forward():
    wide = aj.trace(aj.jacobian(lambda x: (x.sum() * aj.ones(50)).sin()))
    wide(aj.ones(2))
    assert max(n.aval.size for n in wide.last.graph.order) <= 2 * 50


def test_linearize_computes_values_once():
    calls = []

    def f(x):
        calls.append(1)
        return (x.sin().exp() @ aj.tensor(W)).tanh()

    x = aj.tensor(X)
    y, push = aj.linearize(f, x)
    from autojit.eager import evaluate as lazy
    programs = []
    old, lazy.programs.find = lazy.programs.find, lambda key, make, **how: programs.append(make()) or old(key, make, **how)
    try:
        moved = push(aj.ones(3, dtype=aj.float64))
        moved.numpy()
    finally:
        lazy.programs.find = old
    assert calls == [1]
    assert not {"sin", "exp", "tanh", "cos"} & {n.op for g in programs for n in g.order}
    near(moved, aj.jvp(f, (x,), (aj.ones(3, dtype=aj.float64),))[1])
    near(y, f(x))
    for k in range(3):
        near(push(aj.eye(3, dtype=aj.float64)[k]), aj.jacfwd(f)(x)[:, k])


def test_linearize_can_be_differentiated_and_traced():
    z = aj.tensor(X, requires_grad=True)
    y, push = aj.linearize(lambda x: x ** 3, z)
    push(aj.ones(3, dtype=aj.float64)).sum().backward()
    near(z.grad, 6 * X)
    g = aj.trace(lambda x: aj.linearize(lambda x: x ** 3, x)[1](x))
    near(g(aj.tensor(X)), 3 * X ** 3)
    rows = aj.vmap(lambda v: aj.linearize(lambda x: x ** 3, aj.tensor(X))[1](v))(aj.eye(3, dtype=aj.float64))
    near(rows, np.diag(3 * X ** 2))


# ---------------------------------------------------------------- refusals
Y = [1.0, 2.0]
REFUSED = [
    (RuntimeError, "Expected primals to be a tuple", lambda m: m.jvp(lambda x: x, m.t(Y), m.t(Y))),
    (RuntimeError, "to have the same python structure", lambda m: m.jvp(lambda x: x, (m.t(Y),), (m.t(Y), m.t(Y)))),
    (RuntimeError, "has a different size than that of the original Tensor",
     lambda m: m.jvp(lambda x: x, (m.t(Y),), (m.t([1.0, 2.0, 3.0]),))),
    (RuntimeError, "return only tensors, got unsupported type <class 'int'>",
     lambda m: m.jvp(lambda x: 3, (m.t(Y),), (m.t(Y),))),
    (RuntimeError, "at least one Tensor", lambda m: m.jvp(lambda: 3, (), ())),
    (RuntimeError, "return only tensors, got unsupported type <class 'int'>", lambda m: m.jacrev(lambda x: 3)(m.t(Y))),
    (RuntimeError, "Got argnum=2, but only 1 positional inputs", lambda m: m.jacrev(lambda x: x, argnums=2)(m.t(Y))),
    (RuntimeError, "Got argnum=2, but only 1 positional inputs", lambda m: m.jacfwd(lambda x: x, argnums=2)(m.t(Y))),
    (RuntimeError, "floating point dtype", lambda m: m.jacrev(lambda x: x)(m.t([1, 2]))),
    (RuntimeError, "doesn't match the shape", lambda m: m.linearize(lambda x: x, m.t(Y))[1](m.t([1.0, 2.0, 3.0]))),
    (ValueError, "chunk_size", lambda m: m.jacrev(lambda x: x, chunk_size=0)(m.t(Y))),
]


class Ours:
    t = staticmethod(aj.tensor)
    jvp, jacrev, jacfwd, linearize = map(staticmethod, (aj.jvp, aj.jacrev, aj.jacfwd, aj.linearize))


class Theirs:
    t = staticmethod(torch.tensor)
    jvp, jacrev, jacfwd, linearize = map(staticmethod, (func.jvp, func.jacrev, func.jacfwd, func.linearize))


@pytest.mark.parametrize("error, words, call", REFUSED, ids=[f"{k}-{r[1][:30]}" for k, r in enumerate(REFUSED)])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_refusals_are_torchs(error, words, call):
    for module in (Ours, Theirs):
        with pytest.raises(error, match=words):
            call(module)


def test_more_refusals():
    x = aj.tensor(Y)
    with pytest.raises(RuntimeError, match="floating"):
        aj.jvp(lambda x: x, (aj.tensor([1]),), (aj.tensor([1]),))
    with pytest.raises(TypeError, match="not int"):
        aj.jacrev(lambda x: x)(3)
    with pytest.raises(TypeError, match="argnums"):
        aj.jacrev(lambda x: x, argnums="x")(x)
    with pytest.raises(RuntimeError, match="unique"):
        aj.jacrev(lambda x: x, argnums=(0, 0))(x)
    with pytest.raises(RuntimeError, match="aux"):
        aj.jacrev(lambda x: x, has_aux=True)(x)
    with pytest.raises(RuntimeError, match="dtype torch.int64"):
        aj.jacrev(lambda x: x.long())(x)
    with pytest.raises(RuntimeError, match="changes .grad"):
        w = aj.tensor(Y, requires_grad=True)
        aj.jacrev(lambda x: (x * w).sum().backward() or x)(x)
    assert w.grad is None
    with pytest.raises(RuntimeError, match="grad needs a function that returns one floating number"):
        aj.hvp(lambda x: x, (x,), (x,))


def test_graphs_share_their_rules():
    """The same program again is neither differentiated nor compiled again."""
    from autojit.transforms import recording
    x = aj.tensor(X, requires_grad=True)
    aj.vmap(lambda r: r.sin() * 2.5)(x).sum().backward()
    before = len(recording._RULES)
    for k in range(5):
        aj.vmap(lambda r, k=k: r.sin() * (2.5 + k))(x).sum().backward()
    assert len(recording._RULES) == before
    assert Graph([], [P.iota((2,), 0)]).key                # no leaf: still a graph


# ---------------------------------------------------------------- every public op
def _drawn(rng, n):
    x = rng.uniform(-1, 1, n.shape)
    return x + 1j * rng.uniform(-1, 1, n.shape) if n.dtype.category == COMPLEX else x


def _inner(a, b):
    """The inner product of two tensors: of complex ones that of their parts, as torch's gradients are."""
    return (np.conj(a) * b).real.sum()


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_tangents_of_public_ops(name):
    """<ct, J t> is <J^T ct, t>: forward and reverse speak of one Jacobian."""
    if name == "index_put":
        return                                            # of equal places each gets the whole cotangent, as in torch
    for s in SAMPLES[name]:
        arrays = s.arrays("float64")
        leaves = [leaf(a, "float64") for a in arrays]
        outs = [o for o in outputs(s.call(*leaves)) if o.dtype.category >= FLOAT]
        floats = [n for n, a in zip(leaves, arrays) if isinstance(a, np.ndarray) and n.dtype.category >= FLOAT]
        if not floats or not all(n.aval.size for n in floats):
            continue
        rng = np.random.default_rng(0)
        cts, ways = [placeholder(o.aval) for o in outs], [placeholder(n.aval) for n in floats]
        numbers = [_drawn(rng, n) for n in (*cts, *ways)]
        pulled, pushed = reverse(outs, cts, floats), forward(outs, dict(zip(floats, ways)))
        roots = [*pulled, *pushed]
        there = iter(evaluate([r for r in roots if r is not None], [*leaves, *cts, *ways], [*arrays, *numbers]))
        values = [None if r is None else next(there) for r in roots]
        back = sum([_inner(g, t) for g, t in zip(values, numbers[len(cts):]) if g is not None])
        ahead = sum([_inner(t, c) for t, c in zip(values[len(floats):], numbers) if t is not None])
        np.testing.assert_allclose(ahead, back, rtol=1e-8, atol=1e-10)
