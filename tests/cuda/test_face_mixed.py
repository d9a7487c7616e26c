"""Random programs over two devices give what the CPU gives alone: values and gradients, eager and traced."""

from __future__ import annotations

import random

import numpy as np
import pytest

import autojit as aj
from autojit.config import config
from autojit.engine.cuts import Cut
from autojit.ir.graph import Graph

from .fake import FakeBackend, installed


@pytest.fixture(autouse=True)
def device():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "tier", "numpy")
        with installed(FakeBackend()) as backend:
            yield backend


OPS = [lambda a, b: a + b, lambda a, b: a * b * 0.1, lambda a, b: a.sin(), lambda a, b: a.sum() * b,
       lambda a, b: aj.where(a > b, a, b * 0.5), lambda a, b: a / (b.abs() + 1), lambda a, b: (a.exp() * 0.01).mean() + b]


def leaves(seed, mixed):
    r = random.Random(seed)
    where = [("cpu", "cuda")[mixed and r.random() < 0.5] for _ in range(3)]
    return [aj.tensor(np.arange(1, 4) + k / 10, dtype=aj.float32, device=w, requires_grad=True) for k, w in enumerate(where)]


def program(seed, mixed):
    """A function of three tensors whose steps go to and fro between the devices, if `mixed`."""
    def f(*given):
        r = random.Random(seed + 1000)
        xs = list(given)
        for _ in range(25):
            op, a, b, flip = r.choice(OPS), r.choice(xs), r.choice(xs), r.random() < 0.4
            if mixed:
                if flip:
                    a = a.cpu() if a.is_cuda else a.cuda()
                b = b.to(a)
            xs.append(op(a, b))
        k, j = r.choice(xs[-5:]), r.choice(xs[-5:])
        return k.cpu().sum() + j.cpu().sum(), xs[-1], xs[-2]
    return f


def outcome(f, xs):
    loss, *others = f(*xs)
    loss.backward()
    grads = [[0.0] * 3 if x.grad is None else x.grad.tolist() for x in xs]    # a traced function's arguments all have one
    return [loss.item(), *grads, *[t.tolist() for t in others]]


@pytest.mark.parametrize("seed", range(40))
def test_a_program_over_two_devices(seed):
    want = outcome(program(seed, False), leaves(seed, False))
    xs = leaves(seed, True)
    for found in (outcome(program(seed, True), xs), outcome(aj.trace(program(seed, True)), leaves(seed, True))):
        for a, b in zip(found, want, strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5)
    assert all([x.grad is None or x.grad.device == x.device for x in xs])


def cut_of(f, *inputs):
    """The parts of a recorded function: device, numbers of inputs and outputs of each."""
    g = aj.trace(f)
    g(*inputs)
    graph: Graph = g.last.graph
    return [(p.device, len(p.inputs), len(p.outputs)) for p in Cut(graph).parts]


def test_where_a_graph_is_cut():
    c, x = aj.ones(3), aj.ones(3, device="cuda")
    s = aj.tensor(2.0)
    assert cut_of(lambda x: (x * 2).sin(), x) == [("cuda", 1, 1)]
    assert cut_of(lambda x, s: x * s, x, s) == [("cuda", 2, 1)]                   # numbers go along
    assert cut_of(lambda c, x: c.cuda() + x, c, x) == [("cuda", 2, 1)]            # an argument is sent before all else
    assert cut_of(lambda c, x: c.exp().cuda() + x, c, x) == [("cpu", 1, 1), ("cuda", 2, 1)]
    assert cut_of(lambda x: x.cpu().exp().cuda() * x, x) == [("cpu", 1, 1), ("cuda", 2, 1)]
    assert cut_of(lambda c, x: (c * 2, x * 2), c, x) == [("cpu", 1, 1), ("cuda", 1, 1)]
    assert cut_of(lambda x: (x * 2, aj.zeros(3)), x) == [("cpu", 0, 1), ("cuda", 1, 1)]
    assert cut_of(lambda x: x.cpu(), x) == []                                     # a copy and nothing else
    assert cut_of(lambda c: c.cuda().cpu().cuda(), c) == []
    both = aj.trace(lambda x: (x.cpu(), x.cpu(), x))
    a, b, y = both(x)
    a.add_(1.0)
    assert (a.tolist(), b.tolist(), y.tolist(), x.tolist()) == ([2, 2, 2], [1, 1, 1], [1, 1, 1], [1, 1, 1])
