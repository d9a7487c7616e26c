"""float16 and bfloat16 on the device: products of half operands stay products, all else is what the CPU computes."""

from __future__ import annotations

import numpy as np
import pytest

import autojit as aj
from autojit.dtypes import bfloat16, float16, float32
from autojit.engine import compile as pipeline
from autojit.schedule.loops import GemmStep

HALVES = [float16, bfloat16]
EPS = {float16: 2.0 ** -11, bfloat16: 2.0 ** -8}


@pytest.fixture
def prepared(standin, monkeypatch):
    """The device's programs, as they are made."""
    made = []
    original = pipeline.prepare_for

    def spy(graph, device):
        made.append(original(graph, device))
        return made[-1]

    monkeypatch.setattr(pipeline, "prepare_for", spy)
    return made


def products(made) -> set:
    """(dtype of the operands, dtype of the result) of each product."""
    return {(s.dtype, m.schedule.buffers[s.c].dtype) for m in made for s in m.schedule.steps if isinstance(s, GemmStep)}


def attention(x, wq, wk, wv, wo):
    b, s, width = x.shape

    def heads(t):
        return t.reshape(b, s, 4, width // 4).transpose(1, 2)

    q, k, v = heads(x @ wq), heads(x @ wk), heads(x @ wv)
    p = aj.softmax(q @ k.transpose(-1, -2) * 0.25, dim=-1)
    o = (p @ v).transpose(1, 2).reshape(b, s, width)
    return ((o @ wo) ** 2).mean()


@pytest.mark.parametrize("d", HALVES, ids=lambda d: d.name)
def test_attention_multiplies_halves_alone(prepared, d):
    rng = np.random.default_rng(0)
    args = [aj.tensor(rng.standard_normal((2, 8, 32)), dtype=d)]
    args += [aj.tensor(rng.standard_normal((32, 32)) * 0.2, dtype=d) for _ in range(4)]
    step = aj.value_and_grad(attention, argnums=(0, 1, 2, 3, 4))
    value, grads = step(*[a.cuda() for a in args])
    want, theirs = step(*args)
    assert value.dtype is d and abs(value.item() - want.item()) <= 2 * EPS[d] * want.item()
    for g, w in zip(grads, theirs):
        assert g.dtype is d and g.device.type == "cuda"
        assert (g.cpu().float() - w.float()).abs().max().item() <= 8 * EPS[d] * w.float().abs().max().item()
    assert products(prepared) == {(d, d)}


@pytest.mark.parametrize("d", HALVES, ids=lambda d: d.name)
def test_what_follows_inside_the_op_sees_the_sums_unrounded(prepared, d):
    rng = np.random.default_rng(1)
    x, w = aj.tensor(rng.standard_normal((9, 40)), dtype=d), aj.tensor(rng.standard_normal((17, 40)), dtype=d)
    b = aj.tensor(rng.standard_normal(17) * 30, dtype=d)
    out = aj.nn.functional.linear(x.cuda(), w.cuda(), b.cuda()).cpu()
    exact = x.double() @ w.double().T + b.double()
    room = EPS[d] * (exact.abs() + 0.01)
    assert ((out.double() - exact).abs() <= room).all().item()
    assert products(prepared) == {(d, float32)}


@pytest.mark.parametrize("d", HALVES, ids=lambda d: d.name)
def test_memory_and_numbers(standin, d):
    x = aj.tensor([1.5, -2.25, float("nan")], dtype=d)
    y = x.cuda()
    assert repr(y) == repr(x)[:-1].replace(", dtype", ", device='cuda:0', dtype") + ")"
    assert (y * 1e-3 * 1e3)[0].item() == (x * 1e-3 * 1e3)[0].item() and y.float().dtype is float32
    assert y[:2].tolist() == [1.5, -2.25] and (y[:2] * 0.1).cpu().tolist() == (x[:2] * 0.1).tolist()
    z = y.clone()
    z[0] = 7
    assert z.cpu()[0].item() == 7 and y.cpu()[0].item() == 1.5
    aj.manual_seed(0)
    here = [aj.rand(50, dtype=d), aj.randn(50, dtype=d)]
    aj.manual_seed(0)
    there = [aj.rand(50, dtype=d, device="cuda"), aj.randn(50, dtype=d, device="cuda")]
    assert there[0].cpu().tolist() == here[0].tolist()
    assert ((there[1].cpu() - here[1]).abs() <= 2 * EPS[d] * here[1].abs()).all().item()
