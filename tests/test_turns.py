"""Unrolled loops over tiny values: found among the nodes, planned once, and still the program that was written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import autojit as aj
from autojit.backends.numpy.run import NumpyProgram
from autojit.config import config
from autojit.ir.graph import Graph, forget
from autojit.rewrite.inline import inline
from autojit.rewrite.simplify import simplify
from autojit.schedule.loops import Begin, Loop
from autojit.schedule.plan import schedule
from autojit.schedule.verify import verify_schedule

from .graphs import agree
from .plain import run_plain, texts


def traced(program: Callable[..., Any], arrays: list[np.ndarray], wrt: int) -> Graph:
    """The graph of value and gradients, as it comes to the scheduler."""
    config.tier = "numpy"
    try:
        f = aj.trace(program)
        aj.value_and_grad(f, argnums=tuple(range(wrt)))(*[aj.from_numpy(a) for a in arrays])
        forget()
        return simplify(inline(f.last.program.graph))
    finally:
        config.reset()


def numbers(*shapes: tuple[int, ...], dtype: Any = np.float32) -> list[np.ndarray]:
    rng = np.random.default_rng(len(shapes))
    return [(0.4 * rng.standard_normal(s)).astype(dtype) for s in shapes]


def predator(steps: int):
    def f(p):
        a, b, c, d = p[0], p[1], p[2], p[3]
        x, y = 1.0 + 0 * a, 0.5 + 0 * a
        for _ in range(steps):
            x, y = x + 0.01 * (a * x - b * x * y), y + 0.01 * (-c * y + d * x * y)
        return x * x + y * y
    return f, numbers((4,)), 1


def matrices(steps: int):
    def f(A, q, z):
        P, x, loss = A * 0, q * 0, 0 * q[0]
        for t in range(steps):
            x = (A @ x + z[t]).tanh()
            P = 0.3 * (A @ P @ A.permute(1, 0)) + q.exp()[:, None] * x[None, :]
            loss = loss + (P[0, 0] * P[1, 2]).sin() + (x * x).sum()
        return loss
    return f, numbers((3, 3), (3,), (steps, 3)), 2


def two_back(steps: int):
    def f(p):
        x, y = p[0], p[1]
        for _ in range(steps):
            x, y = y, 0.9 * (p[2] * y + p[3] * x).sin()
        return x * y
    return f, numbers((4,)), 1


def every_state(steps: int):
    """What each turn computed is wanted at the end; the sums go along with the reverse loop."""
    def f(p):
        x, total = p[0], 0 * p[0]
        seen = []
        for _ in range(steps):
            x = x + 0.1 * (p[1] * x - p[2] * x * x * x)
            seen.append(x)
        for s in seen:
            total = total + s * s
        return total
    return f, numbers((3,)), 1


def inputs_too(steps: int):
    """The gradient of what is sliced turn by turn is put together from many pieces."""
    def f(w, z):
        h = 0 * w[0]
        for t in range(steps):
            h = (h * w[0] + z[t] * w[1]).tanh()
        return h * h
    return f, numbers((2,), (steps,)), 2


def changing_places(steps: int):
    def f(p):
        x, y, z = p[0], p[1], p[2]
        for _ in range(steps):
            x, y, z = y, z, (x * p[3]).sin() + 0.5 * x
        return x + 2 * y * z
    return f, numbers((4,)), 1


def wide(steps: int):
    f, arrays, wrt = matrices(steps)
    return f, [a.astype(np.float64) for a in arrays], wrt


def every_input(steps: int):
    f, arrays, _ = matrices(steps)
    return f, arrays, 3


PROGRAMS = [predator, matrices, two_back, every_state, inputs_too, every_input, changing_places, wide]


@pytest.mark.parametrize("make", PROGRAMS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("steps", [9, 40])
def test_a_loop_computes_what_was_written(make, steps):
    f, arrays, wrt = make(steps)
    graph = traced(f, arrays, wrt)
    verify_schedule(schedule(graph))
    assert agree(run_plain(graph, arrays), NumpyProgram(graph)(arrays), rtol=1e-4, atol=1e-5) is None


def loops(graph: Graph) -> list[Loop]:
    """Loops that carry something from turn to turn."""
    plan = schedule(graph)
    return [s for step in plan.steps for k, s in enumerate(step.kernel.body)
            if isinstance(s, Loop) and any(isinstance(q, Begin) for q in step.kernel.body[:k])]


@pytest.mark.parametrize("make, most", [(predator, 2), (matrices, 2), (every_state, 2)], ids=["numbers", "matrices", "sums"])
def test_text_does_not_depend_on_the_number_of_turns(make, most):
    found = []
    for steps in (100, 150):
        graph = traced(*make(steps))
        assert 1 <= len(loops(graph)) <= most
        found.append(texts(schedule(graph)))
    assert found[0] == found[1]
    assert sum(t.count("\n") for t in found[0]) < 900


def test_numbers_between_the_loops_stay_in_registers():
    graph = traced(*predator(120))
    plan = schedule(graph)
    (step,) = plan.steps
    assert len(plan.buffers) < 16 and len(step.kernel.body) < 260


def test_planning_takes_no_longer_for_more_turns():
    import cProfile

    calls = []
    for steps in (60, 240):
        graph = traced(*matrices(steps))
        profile = cProfile.Profile()
        profile.runcall(schedule, graph)
        calls.append(sum(e.callcount for e in profile.getstats()))
    assert calls[1] < 4 * calls[0]


def test_the_gradient_of_sliced_inputs_is_added_by_one_loop():
    for make in (inputs_too, every_input):
        found = []
        for steps in (100, 1300):
            graph = traced(*make(steps))
            assert loops(graph)
            found.append(texts(schedule(graph)))
        assert found[0] == found[1] and sum(t.count("\n") for t in found[0]) < 900
