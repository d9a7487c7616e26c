"""Loops whose number of turns is data, in reverse, to any order: against loops in Python.  Memory, and Ctrl-C."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import autojit as aj
from autojit.backends.cpu.runner import PlanBuilder
from autojit.backends.cpu.runtime import FAILED, failure
from autojit.backends.cpu.steps import NO_MEMORY
from autojit.config import config

from .test_control import WRAPS, orders, plainly, same, tier  # noqa: F401  (a fixture)

RNG = np.random.default_rng(11)
W = RNG.normal(size=(3, 3)) * 0.4


def in_python(test, body, v):
    while test(v):
        v = body(v)
    return v


def growing(loop, a, x):
    """Numbers."""
    return loop(lambda v: v[0] < 50, lambda v: (v[0] * a + a.sin(), v[1] + v[0] * x), (x, a))[1]


def settling(loop, w, x):
    """An array, products, a carry that the test alone reads, a carry that no turn changes."""
    def turn(v):
        x, n, b = v
        return (x @ w).tanh() + b, n + 1, b
    x, _, _ = loop(lambda v: (v[1] < 7) & (v[0].sum() < 4), turn, (x, 0, w.sum(0)))
    return (x * x).sum()


def inside(loop, w, x):
    """A loop of its own number of turns in each turn of another."""
    def turn(v):
        y, n = loop(lambda u: u[1] < v[1], lambda u: ((u[0] * w[0]).sin() + u[0], u[1] + 1), (v[0], 0))
        return y * 0.9, n + 1
    return (loop(lambda v: v[1] < 4, turn, (x, 1))[0] ** 2).sum()


LOOPS = {"growing": (growing, (1.7, 1.3)), "settling": (settling, (W, W[0])), "inside": (inside, (W, W[1]))}


def tensors(args):
    return tuple([aj.tensor(a, dtype=aj.float64) for a in args])


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("name", LOOPS)
def test_orders(tier, wrap, name):  # noqa: F811
    f, args = LOOPS[name]
    args = tensors(args)
    want = plainly(lambda *a: f(in_python, *a), args, (0, 1))
    same(orders(lambda *a: f(aj.while_loop, *a), wrap, args, (0, 1)), want, 1e-10)


def test_third_order_and_no_turn(tier):  # noqa: F811
    def third(loop):
        f = lambda x: growing(loop, x * 0 + 1.7, x)  # noqa: E731
        return aj.grad(aj.grad(aj.grad(lambda x: f(x) ** 2 * x)))
    for x in (1.3, 60.0):
        x = aj.tensor(x, dtype=aj.float64)
        same(third(aj.while_loop)(x), third(in_python)(x))


def test_a_bound_that_is_data(tier):  # noqa: F811
    f = aj.trace(lambda n, x: aj.fori_loop(1, n, lambda i, v: v * x + i, x))
    for n in (0, 1, 4, 5):
        n, x = aj.tensor(n), aj.tensor(2.0, dtype=aj.float64)
        got = aj.grad(aj.grad(f, argnums=1), argnums=1)(n, x)
        same(got, aj.tensor(poly(int(n), 2.0), dtype=aj.float64))


def poly(n, x):
    """The second derivative of ((x * x + 1) x + 2) ... with n - 1 turns."""
    p = np.polynomial.Polynomial([0, 1])
    v = p
    for i in range(1, n):
        v = v * p + i
    return v.deriv(2)(x)


def test_transforms(tier):  # noqa: F811
    a, xs = aj.tensor(1.7, dtype=aj.float64), aj.tensor([1.3, 60.0, 2.0, 0.5], dtype=aj.float64)
    f, g = (lambda loop: lambda x, a: growing(loop, a, x))(aj.while_loop), lambda x, a: growing(in_python, a, x)
    singles = [aj.tensor(x) for x in xs.numpy()]
    for one, two in ((aj.grad(f), aj.grad(g)), (aj.grad(aj.grad(f), argnums=1), aj.grad(aj.grad(g), argnums=1))):
        want = aj.tensor([two(x, a).item() for x in singles], dtype=aj.float64)
        same(aj.vmap(one, in_dims=(0, None))(xs, a), want)             # examples differ in how many turns they have
        whole = aj.grad(lambda xs, a, one=one: aj.vmap(one, in_dims=(0, None))(xs, a).pow(2).sum(), argnums=1)
        each = [aj.grad(lambda x, a, two=two: two(x, a) ** 2, argnums=1)(x, a).item() for x in singles]
        same(whole(xs, a), aj.tensor(sum(each), dtype=aj.float64), 1e-9)
    many = aj.vmap(aj.grad(f), (0, None))
    same(aj.vmap(many, (0, None))(xs.reshape(2, 2), a).reshape(4), many(xs, a))
    same(aj.jvp(aj.grad(f), (singles[0], a), (a, a))[1], aj.jvp(aj.grad(g), (singles[0], a), (a, a))[1])
    same(aj.hessian(f)(singles[0], a), aj.hessian(g)(singles[0], a))


def test_a_part_of_a_tensor_as_the_argument(tier):  # noqa: F811
    """The body captures it: its gradient is its own."""
    xs = aj.tensor([1.0, 2.0, 3.0], dtype=aj.float64)
    f = lambda x: aj.while_loop(lambda v: v < 10, lambda v: v * 2 + x, x)  # noqa: E731
    same(aj.grad(f)(xs[1]), aj.tensor(7.0, dtype=aj.float64))
    same(aj.grad(lambda x: aj.scan(lambda c, _: (c * x, None), x, length=2)[0].sum())(xs[:2]), 3 * xs[:2] ** 2)


def stacked(f, c, xs):
    ys = []
    for x in xs:
        c, y = f(c, x)
        ys.append(y)
    return c, aj.stack(ys)


COMPLEX = {
    "scan": (lambda scan, z: sum(t.abs().pow(2).sum() for t in scan(lambda c, x: (c * z + x, c * x), z, aj.stack([z, z]))),
             aj.scan, stacked),
    "while": (lambda loop, z: loop(lambda v: v.abs().sum() < 30, lambda v: v * z + z, z).abs().sum(), aj.while_loop, in_python),
    "cond": (lambda cond, z: cond(z.abs().sum() > 1, lambda z: z * z, lambda z: z, z).abs().sum(), aj.cond,
             lambda p, yes, no, z: yes(z) if p else no(z)),
}


@pytest.mark.parametrize("name", COMPLEX)
def test_complex_values(tier, name):  # noqa: F811
    f, ours, plain = COMPLEX[name]
    z = aj.tensor([1 + 1j, 2 - 1j], dtype=aj.complex128)
    g = aj.trace(lambda z: f(ours, z))
    same((g(z), aj.value_and_grad(g)(z)), (f(plain, z), aj.value_and_grad(lambda z: f(plain, z))(z)))
    second = [aj.grad(lambda z, h=h: aj.grad(lambda z: f(h, z))(z).abs().sum())(z) for h in (ours, plain)]
    same(*second, 1e-10)


def test_nothing_in_it(tier):  # noqa: F811
    """Operands without elements have no memory of their own."""
    x = aj.zeros(0, 3, dtype=aj.float64)
    f = lambda x: (aj.while_loop(lambda v: v[1] < 3, lambda v: (v[0] * 2, v[1] + 1), (x + 1, 0))[0]).sum()  # noqa: E731
    same(aj.value_and_grad(aj.trace(f))(x), (aj.tensor(0.0, dtype=aj.float64), x))


def test_native_and_nothing_twice(monkeypatch):
    """Value and gradient are one loop that counts, and two over as many turns."""
    monkeypatch.setattr(config, "tier", "compile")
    args = tensors(LOOPS["settling"][1])
    f = aj.trace(lambda w, x: settling(aj.while_loop, w, x))
    aj.value_and_grad(f, argnums=(0, 1))(*args)
    steps = f.last.program.prepared.schedule.steps
    assert f.last.program.native.plan is not None         # one call, no Python in between
    kinds = [type(s).__name__ for s in steps]
    assert kinds.count("WhileStep") == kinds.count("CountedStep") == 1
    (counted,) = [s for s in steps if type(s).__name__ == "CountedStep"]
    loops = [s for s in counted.bodies[0].steps if type(s).__name__ == "LoopStep"]
    assert len(loops) == 2
    rows = loops[0].outputs[loops[0].spec.carries:]
    assert 1 <= len(rows) <= 2                            # of a turn: the state, or it and the tanh
    f(*args)
    (only,) = [s for s in f.last.program.prepared.schedule.steps if type(s).__name__ == "WhileStep"]
    assert only.spec.carries == 2                         # without a gradient nothing counts the turns


def test_memory_that_is_not_there():
    made = PlanBuilder()
    count = made.argument()
    made.tape(count, 64, lambda: None)
    plan = made.build()
    assert plan.run(np.array([3])) == plan.run(np.array([0])) == 0
    for n in (1 << 52, 1 << 62, -1):
        assert plan.run(np.array([n])) == FAILED + NO_MEMORY
    assert isinstance(failure(FAILED + NO_MEMORY), MemoryError)


def test_many_turns(monkeypatch):
    """More than any memory that is planned beforehand would hold for all loops alike."""
    monkeypatch.setattr(config, "tier", "compile")
    f = aj.grad(aj.trace(lambda n, x: aj.fori_loop(0, n, lambda i, v: v + (x - v) * 0.5, x * 0)), argnums=1)
    for n in (3, 1_000_000, 10):
        same(f(aj.tensor(n), aj.tensor(2.0, dtype=aj.float64)), aj.tensor(1 - 0.5 ** n, dtype=aj.float64))


INTERRUPTED = """
import signal, sys, threading
import autojit as aj
from autojit.config import config
config.tier = "compile"
body = lambda i, v: v + (v * 0.5).sin()
run = aj.trace(lambda n, x: aj.fori_loop(0, n, body, x))
walk = aj.trace(lambda x: aj.fori_loop(0, 1 << 50, body, x))
back = aj.value_and_grad(lambda n, x: aj.fori_loop(0, n, lambda i, v: aj.fori_loop(0, n, body, v), x), argnums=1)
x, few, many = aj.tensor(0.3), aj.tensor(5), aj.tensor(1 << 40)
want = run(few, x).item()
turns = aj.tensor(5)
bound = run.bind(turns, x)                                # which runs once
turns.fill_(1 << 40)
calls = [lambda: run(many, x), lambda: walk(x), lambda: back(many, x), bound]
for call in calls:
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        call()
        print("not interrupted")
    except KeyboardInterrupt:
        print("interrupted", run(few, x).item() == want)
seen = []
def handler(*_):                                          # one that returns: the loop goes on
    seen.append(1)
    if len(seen) < 3:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
    else:
        raise ValueError("enough")
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.05)
try:
    run(many, x)
except ValueError as e:
    print(e, len(seen))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no timers")
def test_interrupts():
    """A signal ends a loop that runs natively; the program is whole afterwards.  In a process of its own, with an end."""
    found = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=120)
    assert found.stdout.splitlines() == ["interrupted True"] * 4 + ["enough 3"], found.stderr
    assert not found.stderr
