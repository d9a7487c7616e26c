"""scan, fori_loop, while_loop, cond: values, gradients and second gradients against the same loop written in Python."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest

import autojit as aj
from autojit import tree
from autojit.config import config
from autojit.dtypes import float64
from autojit.errors import CompileError
from autojit.ir.aval import aval
from autojit.ir.graph import Graph, node, placeholder
from autojit.ops.declare import P
from autojit.ops.loops import SCAN, scan_spec
from autojit.schedule.cost import Target
from autojit.schedule.plan import schedule

RNG = np.random.default_rng(9)
W, U, B = (RNG.normal(size=s) * 0.4 for s in ((5, 5), (3, 5), (5,)))
XS, H = RNG.normal(size=(7, 2, 3)), RNG.normal(size=(2, 5)) * 0.1


@pytest.fixture(params=["numpy", "compile"])
def tier(request, monkeypatch):
    monkeypatch.setattr(config, "tier", request.param)
    return request.param


def plainly(f, args, argnums):
    """`orders` of a loop in Python, by NumPy."""
    before, config.tier = config.tier, "numpy"
    try:
        found = orders(f, lambda g: g, args, argnums)
        tree.tree_map(lambda t: t.numpy(), found)
        return found
    finally:
        config.tier = before


WRAPS = [pytest.param(lambda f: f, id="eager"), pytest.param(aj.trace, id="traced")]


def same(a, b, tol=1e-12):
    xs, ys = tree.flatten(a)[0], tree.flatten(b)[0]
    assert len(xs) == len(ys) > 0
    for x, y in zip(xs, ys):
        x, y = (t.detach().numpy() if isinstance(t, aj.Tensor) else np.asarray(t) for t in (x, y))
        assert x.shape == y.shape and x.dtype == y.dtype
        np.testing.assert_allclose(x, y, rtol=tol, atol=tol)


def unrolled(f, init, xs=None, length=None, reverse=False):
    n = length if xs is None else len(tree.flatten(xs)[0][0])
    ys, c = [None] * n, init
    for t in reversed(range(n)) if reverse else range(n):
        c, ys[t] = f(tree.tree_map(lambda x: x.clone(), c), tree.tree_map(lambda x, t=t: x[t].clone(), xs))
    return c, tree.tree_map(lambda *parts: aj.stack(parts), *ys)


def rnn(scan, reverse=False):
    def loss(params, h, xs):
        w, u, b = params

        def turn(h, x):
            h = (h @ w + x @ u + b).tanh()
            return h, (h * h).sum(-1)
        h, ys = scan(turn, h, xs, reverse=reverse)
        return (ys * ys).mean() + (h * h).sum()
    return loss


def orders(f, wrap, args, argnums):
    """Value, gradient, gradient of the gradient's square."""
    def squared(*a):
        g = aj.grad(f, argnums=argnums)(*a)
        return sum((x * x).sum() for x in tree.flatten(g)[0])
    return wrap(f)(*args), aj.value_and_grad(wrap(f), argnums=argnums)(*args), aj.grad(wrap(squared), argnums=argnums)(*args)


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("reverse", [False, True])
def test_a_recurrent_network(tier, wrap, reverse):
    args = tuple(map(aj.tensor, (W, U, B))), aj.tensor(H), aj.tensor(XS)
    same(orders(rnn(aj.scan, reverse), wrap, args, (0, 1, 2)), plainly(rnn(unrolled, reverse), args, (0, 1, 2)))


BODIES = {                                                # (body, init, xs)
    "numbers": (lambda c, x: (c * x.sin() + 1, c.exp() * x), 0.3, XS[:, 0, 0]),
    "a carry that no turn changes": (lambda c, x: ((c[0], c[1] * c[0] + x), c[1]), (0.7, XS[0]), XS),
    "stacked: carry, slice, constant": (lambda c, x: (c + x, {"c": c, "x": x, "one": aj.ones(2, dtype=aj.float64)}),
                                        H[:, :3], XS),
    "a counter": (lambda c, x: ((c[0] + 1, c[1] * 0.5 + x * c[0]), c[1] / (c[0] + 1)), (0, XS[0]), XS),
    "places": (lambda c, x: ((c[0] + 1, c[1] + x[0, c[0] % 3]), x.take(c[0] % 6) * c[1]), (0, 0.5), XS),
    "products, sums, a where": (lambda c, x: (aj.where(c > 0, c * 0.9, c.exp()) @ aj.tensor(U) @ aj.tensor(U).T + x, c.sum(0)),
                                XS[0], XS),
    "sorting and running sums": (lambda c, x: ((c + x.cumsum(1)).sort(1)[0] * 0.5, c.cumsum(0)), XS[0], XS),
    "operations by NumPy": (lambda c, x: (aj.polygamma(101, c * c + x * x + 1) * 1e-160, c.sum(0)), XS[0], XS),
    "a function that is traced": (lambda c, x: (aj.trace(lambda a, b: (a * b).sin() + b)(c, x), c * c), XS[0], XS),
    "a checkpoint": (lambda c, x: (aj.checkpoint(lambda a, b: (a * b).sin() + b, c, x), c * c), XS[0], XS),
    "detached": (lambda c, x: (c * 0.5 + (c.detach() * x).sin(), (c * x).detach() * x), XS[0], XS),
    "changes in place": (lambda c, x: (c.mul_(0.5).add_(x.sin_()), x.add_(c)), XS[0], XS),
    "a matrix as the carry": (lambda c, x: (c @ c.T @ c * 0.05 + x, aj.trace(lambda m: m.sum())(c)), XS[0], XS),
}


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("name", BODIES)
def test_bodies(tier, wrap, name):
    body, init, xs = BODIES[name]

    def loss(scan):
        def f(init, xs):
            c, ys = scan(body, init, xs)
            return sum((t.to(aj.float64) ** 2).sum() * 0.1 for t in tree.flatten((c, ys))[0])
        return f

    def given(v):
        return aj.tensor(v, dtype=None if isinstance(v, int) else aj.float64)

    init, xs = tree.tree_map(given, init), given(xs)
    argnums = 1 if name == "a counter" or name == "places" else (0, 1)
    same(orders(loss(aj.scan), wrap, (init, xs), argnums), plainly(loss(unrolled), (init, xs), argnums))


def test_backward_and_captured_parameters(tier):
    w = aj.tensor(W, requires_grad=True)
    frozen = aj.tensor(U)
    found = []
    for scan in (aj.scan, unrolled):
        _, ys = scan(lambda h, x: ((h @ w + x @ frozen).tanh(), h), aj.tensor(H), aj.tensor(XS))
        assert ys.requires_grad
        ys.pow(2).sum().backward()
        found.append(w.grad)
        w.grad = None
    same(*found)
    with aj.no_grad():
        assert not aj.scan(lambda h, x: (h @ w, h), aj.tensor(H), length=3)[0].requires_grad


@pytest.mark.parametrize("wrap", WRAPS)
def test_loops_in_loops(tier, wrap):
    def loss(scan, fori, while_loop, cond):
        def f(x):
            def turn(c, x):
                c = fori(0, 3, lambda i, v: (v * x + i).sin(), c)
                c = cond(c > 0.2, lambda q: q * 2, lambda q: q * q - 1, c)
                return c, scan(lambda a, b: (a * b, a), c, aj.stack([x, c, x]))[1]
            c, ys = scan(turn, x[0] * 0.1, x)
            return c + (ys * ys).sum()
        return f

    def fori(lo, hi, body, v):
        for i in range(lo, hi):
            v = body(aj.tensor(i), v)
        return v

    def while_loop(test, body, v):
        while test(v):
            v = body(v)
        return v

    x = aj.tensor(RNG.normal(size=4))
    want = plainly(loss(unrolled, fori, while_loop, lambda p, a, b, v: a(v) if p else b(v)), (x,), 0)
    same(orders(loss(aj.scan, aj.fori_loop, aj.while_loop, aj.cond), wrap, (x,), 0), want)


@pytest.mark.parametrize("wrap", WRAPS)
def test_cond_takes_one_side(tier, wrap):
    f = wrap(lambda p, x, y: aj.cond(p, lambda x, y: (x.log() * y, x), lambda x, y: (y * y, y + 1), x, y))
    g = wrap(lambda p, x, y: sum(f(p, x, y)))
    for flag, x, y in ((True, 2.0, 3.0), (False, -1.0, 4.0)):
        p, x, y = aj.tensor(flag), aj.tensor(x, dtype=aj.float64), aj.tensor(y, dtype=aj.float64)
        same(f(p, x, y), (x.log() * y, x) if flag else (y * y, y + 1))
        want = (y / x + 1, x.log()) if flag else (aj.tensor(0.0, dtype=aj.float64), 2 * y + 1)
        same(aj.grad(g, argnums=(1, 2))(p, x, y), want)
        same(aj.grad(aj.grad(g, argnums=2), argnums=2)(p, x, y), aj.tensor(0.0 if flag else 2.0, dtype=aj.float64))
    same(aj.cond(True, lambda: aj.tensor(1), lambda: aj.tensor(2)), aj.tensor(1))
    same(aj.cond(0, lambda x: x + 1, lambda x: x, np.ones(2)), np.ones(2))
    assert isinstance(aj.cond(0, lambda x: x + 1, lambda x: x, np.ones(2)), np.ndarray)


@pytest.mark.parametrize("wrap", WRAPS)
def test_while_loops(tier, wrap):
    def loop(x):
        v = aj.while_loop(lambda v: (v[1] < 50) & (v[0] < 20), lambda v: (v[0] + 1, v[1] * x[0] + x[1], v[2]),
                          (0, x.sum(), x))
        return v[0], v[1]

    def plain(x):
        n, v = 0, x.sum()
        while v < 50 and n < 20:
            n, v = n + 1, v * x[0] + x[1]
        return aj.tensor(n), v

    f = wrap(loop)
    for start in ((3.0, 1.0), (1.1, 0.01), (60.0, 1.0)):   # a few turns, all that may be, none
        x = aj.tensor(start, dtype=aj.float64)
        same(f(x), plain(x))
        same(aj.grad(wrap(lambda x: f(x)[1]))(x), aj.grad(lambda x: plain(x)[1])(x))
    n = wrap(lambda n, x: aj.fori_loop(1, n, lambda i, v: v * x + i, x))
    for k in (0, 1, 4, 5):
        x = aj.tensor(2.0, dtype=aj.float64)
        want = n(aj.tensor(k), x)
        got = x
        for i in range(1, k):
            got = got * x + i
        same(want, got)
    same(aj.grad(n, argnums=1)(aj.tensor(3), aj.tensor(2.0)), aj.tensor(13.0))     # (x² + 1) x + 2


class State(NamedTuple):
    position: object
    rest: object


@pytest.mark.parametrize("wrap", WRAPS)
def test_nests_and_kinds(tier, wrap):
    init = State(aj.tensor(1.0), {"a": [aj.tensor(2), None]})
    f = wrap(lambda s, xs: aj.scan(lambda s, x: (State(s.position + x["x"], {"a": [s.rest["a"][0] + 1, None]}), None), s, xs))
    out, none = f(init, {"x": aj.arange(3.0)})
    assert none is None and isinstance(out, State)
    same(out, State(aj.tensor(4.0), {"a": [aj.tensor(5), None]}))
    assert aj.scan(lambda c, x: (c + x, c), 0.0, np.arange(3.0))[0] == 3.0
    total, parts = aj.scan(lambda c, x: (c + x, c), np.float32(0), np.arange(3, dtype=np.float32))
    assert parts.dtype == np.float32 and isinstance(parts, np.ndarray)
    same(aj.scan(lambda c, _: (c * 2, c), aj.tensor(1.0), length=3), (aj.tensor(8.0), aj.tensor([1.0, 2.0, 4.0])))
    c, ys = aj.scan(lambda c, x: (c + x, (c, x.sum())), aj.tensor([1.0]), aj.zeros(0, 1))
    same((c, ys), (aj.tensor([1.0]), (aj.zeros(0, 1), aj.zeros(0))))
    same(aj.fori_loop(5, 2, lambda i, v: v + i, aj.tensor(1.0)), aj.tensor(1.0))
    same(aj.scan(lambda c, x: (c, x[:0]), aj.tensor(1.0), aj.ones(2, 3))[1], aj.zeros(2, 0))


@pytest.mark.parametrize("dtype", [aj.float16, aj.bfloat16])
def test_halves(tier, dtype):
    w, xs = aj.tensor(B[:3], dtype=dtype), aj.tensor(XS[:, 0], dtype=dtype)

    def loss(scan):
        def f(w, xs):
            c, ys = scan(lambda c, x: ((c * w + x).tanh(), aj.cond(c[0] > 0, lambda c: c * x, lambda c: x, c)), xs[0], xs)
            return (c + ys.sum(0)).sum()
        return aj.value_and_grad(aj.trace(f), argnums=(0, 1))
    (value, grads), (wanted, want) = loss(aj.scan)(w, xs), loss(unrolled)(w, xs)
    for a, b in zip((value, *grads), (wanted, *want)):
        assert a.dtype is dtype
        np.testing.assert_allclose(a.float().numpy(), b.float().numpy(), rtol=0.03, atol=0.03)


def test_large_bodies_run_in_parallel(monkeypatch):
    monkeypatch.setattr(config, "tier", "compile")
    w, xs = aj.tensor(RNG.normal(size=(256, 256)) * 0.05), aj.tensor(RNG.normal(size=(4, 500, 256)))

    def loss(scan):
        def f(w, xs):
            c, ys = scan(lambda c, x: ((c @ w).tanh() + x, (c * c).sum(1)), xs[0], xs)
            return (ys.sum(0) * c.sum(1)).mean()
        return aj.trace(f)
    f = loss(aj.scan)
    same(aj.value_and_grad(f, argnums=(0, 1))(w, xs), aj.value_and_grad(loss(unrolled), argnums=(0, 1))(w, xs))
    assert any(s.chunks > 1 for step in f.last.program.prepared.schedule.steps if hasattr(step, "bodies")
               for s in step.bodies[0].steps if hasattr(s, "chunks"))


def test_a_number_takes_the_dtype_of_what_it_becomes():
    x = aj.tensor([1.0, 2.0], dtype=aj.float64)
    assert aj.scan(lambda c, x: (c + x, None), 0.0, x)[0].dtype is aj.float64
    assert aj.while_loop(lambda c: c < 5, lambda c: c + x[1], 0).dtype is aj.float64


@pytest.mark.parametrize("call, error, words", [
    (lambda x: aj.scan(lambda c, x: (c.sum(), None), x, x), TypeError, r"carry has type float32\[3\].*so the shapes"),
    (lambda x: aj.scan(lambda c, x: ({"a": c["a"].long()}, 0), {"a": x}, x), TypeError, r"carry\['a'\] has .*dtypes"),
    (lambda x: aj.scan(lambda c, x: ((c, c), None), x, x), TypeError, "same pytree structure"),
    (lambda x: aj.scan(lambda c, x: c, x, x), TypeError, "must be a pair, got a tensor"),
    (lambda x: aj.scan(lambda c, x: (c, x), x), ValueError, "no values to scan over"),
    (lambda x: aj.scan(lambda c, x: (c, x), x, (x, x[:2])), ValueError, "different leading axis sizes"),
    (lambda x: aj.scan(lambda c, x: (c, x), x, x, length=2), ValueError, "disagrees with leading axis"),
    (lambda x: aj.scan(lambda c, x: (c, x), x, x.sum()), ValueError, "no leading axis"),
    (lambda x: aj.scan(lambda c, x: (c, x), x, length=-1), TypeError, "non-negative"),
    (lambda x: aj.scan(lambda c, x: (c, x), "a", x), TypeError, "not a valid tensor type"),
    (lambda x: aj.scan(lambda c, x: (c if x > 0 else -c, x), x, x), aj.TraceError, "aj.where or aj.cond"),
    (lambda x: aj.fori_loop(0, 2.5, lambda i, v: v, x), TypeError, "must be integers"),
    (lambda x: aj.fori_loop(0, 3, lambda i, v: v[:2], x), TypeError, "so the shapes do not match"),
    (lambda x: aj.while_loop(lambda v: v, lambda v: v, x), TypeError, "boolean scalar"),
    (lambda x: aj.while_loop(lambda v: v.sum() > 0, lambda v: v.long(), x), TypeError, "so the dtypes do not match"),
    (lambda x: aj.cond(x > 0, lambda v: v, lambda v: v, x), TypeError, "Pred must be a scalar"),
    (lambda x: aj.cond("yes", lambda v: v, lambda v: v, x), TypeError, "Pred must be a scalar"),
    (lambda x: aj.cond(True, lambda v: v, lambda v: v.sum(), x), TypeError, "equal output types"),
    (lambda x: aj.cond(True, lambda v: v, lambda v: (v, v), x), TypeError, "same type structure"),
    (lambda x: aj.cond(True, None, lambda v: v, x), TypeError, "callable"),
    (lambda x: aj.scan(lambda c, i: (c, x[i]), x, aj.tensor([0, 3])), IndexError, "out of bounds"),
    (lambda x: aj.fori_loop(0, 5, lambda i, v: v + x[i], aj.tensor(0.0)), IndexError, "out of bounds"),
])
def test_what_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        tree.tree_map(lambda t: t.numpy(), call(aj.tensor([1.0, 2.0, 3.0])))


def test_a_place_out_of_range_is_never_read(tier):
    table = aj.tensor([1.0, 2.0, 3.0])
    walk = aj.trace(lambda start, steps: aj.scan(lambda c, s: (c + s, table[c]), start, steps)[1])
    same(walk(aj.tensor(0), aj.tensor([1, 1, -2])), aj.tensor([1.0, 2.0, 3.0]))
    with pytest.raises(IndexError, match="out of bounds"):
        walk(aj.tensor(0), aj.tensor([1, 1000, -2]))


def test_random_sides_of_a_cond_draw_afresh():
    aj.manual_seed(0)
    f = aj.trace(lambda p: aj.cond(p, lambda: aj.rand(2), lambda: aj.zeros(2)))
    a, b = f(aj.tensor(True)), f(aj.tensor(True))
    assert a.tolist() != b.tolist() and f(aj.tensor(False)).tolist() == [0, 0]


def test_many_turns_compile_as_few(monkeypatch):
    """The same kernels and as many words of plan, forward and reverse, for 10 turns and for 10,000."""
    monkeypatch.setattr(config, "tier", "compile")
    found = []
    for n in (10, 10_000):
        def loss(w, xs):
            return (aj.scan(lambda h, x: ((h * w + x).sin(), h), aj.zeros(3), xs)[0] ** 2).sum()
        f = aj.value_and_grad(aj.trace(loss))
        f(aj.tensor([0.1, 0.2, 0.3]), aj.ones(n, 3))
        assert "2 loops" in f.fn.explain() and "host" not in f.fn.explain()
        program = f.fn.last.program
        loops = [s for s in program.prepared.schedule.steps if type(s).__name__ == "LoopStep"]
        found.append(([len(s.bodies[0].steps) for s in loops], len(program.native.plan._template.words),
                      len(program.prepared.texts), [len(s.spec.body.order) for s in loops]))
    assert found[0] == found[1]


def stacked(f, kind="LoopStep"):
    """Of each loop of a traced function's last program: elements of what it leaves turn by turn, and the loop."""
    plan = f.last.program.prepared.schedule
    return [(sum(plan.buffers[name].size for name in s.outputs[s.spec.carries:]), s) for s in plan.steps
            if type(s).__name__ == kind]


def test_sums_over_turns_store_nothing(monkeypatch):
    """Of what is summed over the turns the reverse pass needs no trajectory."""
    monkeypatch.setattr(config, "tier", "compile")
    w, xs = aj.tensor(B), aj.tensor(RNG.normal(size=(50, 5)))

    def loss(scan):
        zero = aj.zeros((), dtype=aj.float64)
        return aj.trace(lambda w, xs: scan(lambda c, x: (c + (w * x).sin().sum() * 2, None), zero, xs)[0])
    f = loss(aj.scan)
    same(aj.value_and_grad(f)(w, xs), aj.value_and_grad(loss(unrolled))(w, xs), 1e-12)
    assert len(stacked(f)) == 2 and all(size == 0 for size, _ in stacked(f))


def test_invariants_are_computed_and_stored_once(monkeypatch):
    """What no turn changes: one product before the loop, none of it in a turn, nothing of it stacked."""
    monkeypatch.setattr(config, "tier", "compile")
    w, xs = aj.tensor(W), aj.tensor(RNG.normal(size=(50, 5)))

    def loss(scan):
        def turn_of(w):
            return lambda c, x: (c * (w @ w).exp().sum(0).sin() + x, None)
        return aj.trace(lambda w, xs: scan(turn_of(w), xs[0], xs)[0].sum())
    f = loss(aj.scan)
    same(aj.value_and_grad(f)(w, xs), aj.value_and_grad(loss(unrolled))(w, xs), 1e-12)
    found = stacked(f)
    assert [size for size, _ in found] == [50 * 5, 0]      # the carry alone, for the derivative by the factor
    assert not any(n.op in ("matmul", "exp", "sin") for _, s in found for n in s.spec.body.order)


def test_what_a_reverse_pass_keeps(monkeypatch):
    """Of a recurrent network one state a turn; no invariants, and the weights' gradient is carried."""
    monkeypatch.setattr(config, "tier", "compile")
    f = aj.trace(rnn(aj.scan))
    aj.value_and_grad(f, argnums=0)(tuple(map(aj.tensor, (W, U, B))), aj.tensor(H), aj.tensor(XS))
    plan = f.last.program.prepared.schedule
    loops = [s for s in plan.steps if type(s).__name__ == "LoopStep"]
    assert len(loops) == 2
    stacked = [plan.buffers[name] for name in loops[0].outputs[loops[0].spec.carries:]]
    assert sum(b.size for b in stacked) <= 7 * (2 * 5 * 3 + 2)
    assert len(loops[1].outputs) == 4 and loops[1].spec.carries == 4


def test_threads_run_one_program(monkeypatch):
    from concurrent.futures import ThreadPoolExecutor
    monkeypatch.setattr(config, "tier", "compile")
    f = aj.value_and_grad(aj.trace(rnn(aj.scan)), argnums=(0, 2))
    args = [(tuple(map(aj.tensor, (W * k, U, B))), aj.tensor(H), aj.tensor(XS)) for k in (0.5, 1.0, 1.5, 2.0)]
    want = [f(*a) for a in args]
    with ThreadPoolExecutor(4) as pool:
        for k, got in enumerate(pool.map(lambda k: f(*args[k % 4]), range(40))):
            same(got, want[k % 4])


JAX = """
import sys, numpy as np, jax, jax.numpy as jnp
jax.config.update("jax_enable_x64", True)
def loss(w, u, b, h, xs):
    def turn(h, x):
        h = jnp.tanh(h @ w + x @ u + b)
        return h, (h * h).sum(-1)
    h, ys = jax.lax.scan(turn, h, xs, reverse=True)
    return (ys * ys).mean() + (h * h).sum()
data = np.load(sys.argv[1])
value, grads = jax.value_and_grad(loss, argnums=(0, 1, 2, 3, 4))(*[data[k] for k in data])
np.savez(sys.argv[2], value, *grads)
"""


def test_against_jax(tmp_path):
    """In a process of its own: one with jax in it does not fork well."""
    if importlib.util.find_spec("jax") is None:
        pytest.skip("jax is not installed")
    np.savez(tmp_path / "in.npz", W, U, B, H, XS)
    subprocess.run([sys.executable, "-c", JAX, tmp_path / "in.npz", tmp_path / "out.npz"], check=True)
    found = np.load(tmp_path / "out.npz")
    args = tuple(map(aj.tensor, (W, U, B))), aj.tensor(H), aj.tensor(XS)
    got = aj.value_and_grad(aj.trace(rnn(aj.scan, True)), argnums=(0, 1, 2))(*args)
    same(tree.flatten(got)[0], [found[k] for k in found])


def test_bound_and_profiled(monkeypatch):
    monkeypatch.setattr(config, "tier", "compile")
    def walk(w, xs):
        def turn(h, x):
            return aj.cond(h.sum() > 0, lambda h: (h * w + x).sin(), lambda h: x, h), h
        return aj.scan(turn, xs[0], xs)[1]

    f = aj.trace(walk)
    w, xs = aj.tensor([0.5, 0.2]), aj.tensor(RNG.normal(size=(5, 2)), dtype=aj.float32)
    want = f(w, xs)
    g = aj.value_and_grad(aj.trace(lambda w, xs: f(w, xs).sum()))
    bound = g.bind(w, xs)
    bound()
    same((bound.value, bound.grads), g(w, xs), 1e-6)
    outs, steps = f.last.program.native.profile([w.numpy(), xs.numpy()])
    same(outs[0], want, 1e-6)
    assert [name for name, _, _ in steps].count("loop") == 1
    assert "5 turns" in f.source() and "= if " in f.source()


def test_no_kernel_for_other_devices():
    x, y = (placeholder(aval((3,), float64)) for _ in range(2))
    spec = scan_spec(Graph([x], [P.sin(x)]), 5, 0, 1, False)
    with pytest.raises(CompileError, match="scan has no kernel for GPUs"):
        schedule(Graph([y], [node(SCAN, (y,), (spec, 0))]), Target(simt=True))


def test_every_kth_carry(monkeypatch):
    """A checkpoint around an inner scan: one carry a block is kept between the passes."""
    monkeypatch.setattr(config, "tier", "compile")
    w, xs = aj.tensor(W), aj.tensor(RNG.normal(size=(12, 4, 2, 5)))

    def turn(c, x):
        return (c @ w).tanh() + x, c.sum()

    block = aj.checkpoint(lambda c, x: aj.scan(turn, c, x))
    f = aj.trace(lambda c, xs: aj.scan(block, c, xs)[0].pow(2).sum())
    g = aj.trace(lambda c, xs: aj.scan(turn, c, xs.reshape(48, 2, 5))[0].pow(2).sum())
    same(aj.value_and_grad(f, argnums=(0, 1))(xs[0, 0], xs), aj.value_and_grad(g, argnums=(0, 1))(xs[0, 0], xs))

    def kept(traced):
        plan = traced.last.program.prepared.schedule
        first = next(s for s in plan.steps if type(s).__name__ == "LoopStep")
        return sum(plan.buffers[name].size for name in first.outputs[first.spec.carries:])
    assert kept(f) == 12 * 10 and kept(g) >= 48 * 10
