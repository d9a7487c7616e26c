"""Random numbers: one stream, the same bits eager, traced, compiled and on NumPy; each call draws anew, in its kernels."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

import autojit as aj
from autojit.backends.cpu import interpret
from autojit.config import config
from autojit.dtypes import bfloat16, float16, float32, float64, int64
from autojit.eager import random as eager
from autojit.ir.aval import aval
from autojit.ir.graph import Graph, placeholder
from autojit.nn import functional as F
from autojit.ops import philox, random

from .test_cpu_compile import run

KEYS = ((0, 0), (12345678901234567890, 3), (1 << 63, 1 << 40), (2147483647, (1 << 32) + 7))
SPANS = ((-5, 7), (0, 1 << 20), (-3, (1 << 40) + 1), (-5, (1 << 63) - 1), (-(1 << 63), (1 << 63) - 1))


@pytest.fixture(params=["numpy", "compile"])
def tier(request, monkeypatch):
    monkeypatch.setattr(config, "tier", request.param)
    return request.param


def number(key):
    return np.array(key, np.uint64).view(np.int64)


def close(a, b):
    a, b = np.asarray(a), np.asarray(b)
    return bool((np.abs(a - b) <= 4 * np.spacing(np.abs(b))).all())


# ---------------------------------------------------------------- the function of key and place
@pytest.mark.parametrize("key", KEYS)
def test_numbers_at_places_are_the_streams(key):
    places = np.array([0, 5, 2, 1 << 33, (1 << 34) + 3, 7, 1])
    seed, draw = (np.full(places.shape, k) for k in number(key))
    at = {kind: philox.at(places, seed, draw, kind) for kind in ("i64", "f32", "f64")}
    near = places < 100
    for kind, stream in (("i64", philox.longs(*key, 8).view(np.int64)), ("f32", philox.uniform32(*key, 8)),
                         ("f64", philox.uniform64(*key, 8))):
        assert (at[kind][near] == stream[places[near]]).all() and len(set(at[kind].tolist())) == places.size
    run_of = np.arange(200)
    whole = philox.at(run_of, np.broadcast_to(seed[0], 200), np.broadcast_to(draw[0], 200), "i64")
    assert (whole == philox.at(run_of, np.full(200, seed[0]), np.full(200, draw[0]), "i64")).all()
    assert (philox.at(run_of[1::2], *[np.broadcast_to(k[0], 100) for k in (seed, draw)], "i64") == whole[1::2]).all()


def test_the_word_is_the_reference():
    text = """
def kernel(args, lo, hi, chunk):
    key = i64(args, 0, 5)
    place = i64(args, 1, 5)
    a = i64(args, 2, 5)
    b = f32(args, 3, 5)
    c = f64(args, 4, 5)
    for i in range(lo, hi):
        a[i] = philox_i64(place[i], key[0], key[1])
        b[i] = philox_f32(place[i], key[0], key[1])
        c[i] = philox_f64(place[i], key[0], key[1])
"""
    places = np.concatenate([np.arange(70), np.array([1 << 33, (1 << 34) + 3, (1 << 62) + 5])])
    for key in KEYS:
        def table(key=key):
            return [number(key), places, np.zeros(73, "i8"), np.zeros(73, "f4"), np.zeros(73)]
        got, slow = table(), table()
        run(text, got, 0, 73)
        interpret.load(text)(slow, 0, 73)
        for g, s, kind in zip(got[2:], slow[2:], ("i64", "f32", "f64")):
            want = philox.at(places, np.full(73, number(key)[0]), np.full(73, number(key)[1]), kind)
            assert (g == want).all() and (s == want).all()


@pytest.mark.parametrize("key", KEYS[:2])
def test_nodes_are_the_host_s_numbers(key, tier):
    def of(build, shape):
        n = placeholder(aval((2,), int64))
        return eager.programs.Program(Graph([n], [build(n, shape)]), False)([number(key)])[0]

    for shape in ((), (7,), (3, 5), (0, 2)):
        count = int(np.prod(shape))
        for d, make in ((float32, philox.uniform32), (float64, philox.uniform64)):
            assert (of(lambda n, s, d=d: random.uniform(n, s, d), shape) == make(*key, count).reshape(shape)).all()
            assert close(of(lambda n, s, d=d: random.normal(n, s, d), shape), philox.normal(*key, count, d.np).reshape(shape))
        assert (of(random.bits, shape).reshape(-1) == philox.longs(*key, count).view(np.int64)).all()
    with np.errstate(over="ignore"):
        for low, high in SPANS:
            got = of(lambda n, s, low=low, high=high: random.integers(n, s, low, high), (33,))
            assert (got == philox.integers(*key, 33, low, high)).all()


# ---------------------------------------------------------------- eager and traced
def several():
    return (aj.rand(3, 5), aj.randn(7), aj.randn(4, dtype=aj.float64), aj.randint(-3, 12, (6,)), aj.rand(2, dtype=aj.float64),
            aj.bernoulli(aj.full((9,), 0.3)), aj.randn(3, dtype=aj.float16), aj.rand(4, dtype=aj.bfloat16), aj.randperm(8),
            aj.zeros(5).exponential_(), aj.zeros(5).cauchy_(), aj.zeros(5).uniform_(-1, 1), aj.zeros(3).log_normal_(),
            aj.zeros(4, dtype=aj.int32).random_(0, 9), aj.normal(aj.zeros(3), 2.0), aj.rand_like(aj.zeros(2, 2)))


def test_a_seed_gives_the_same_numbers_traced(tier):
    f = aj.trace(several)
    aj.manual_seed(11)
    eagerly = [several(), several()]
    aj.manual_seed(11)
    traced = [f(), f()]
    for a, b in zip(eagerly, traced):
        for x, y in zip(a, b):
            assert x.dtype is y.dtype and x.shape == y.shape
            assert aj.equal(x, y) or x.dtype in (aj.float32, aj.float64) and close(x.numpy(), y.numpy())
    assert not any([aj.equal(x, y) for k, (x, y) in enumerate(zip(*traced)) if k not in (5,)])
    assert aj.get_rng_state().tolist() == [11, 2 * len(several())]


def test_many_numbers_are_those_of_few(monkeypatch, tier):
    for d in (float32, float64, float16, bfloat16):
        for make in (aj.rand, aj.randn):
            aj.manual_seed(3)
            want = make(300, dtype=d)
            aj.manual_seed(3)
            with monkeypatch.context() as m:
                m.setattr(eager, "FEW", 8)
                got = make(20, 15, dtype=d).reshape(300)
            a, b = got.to(float64).numpy(), want.to(float64).numpy()
            ulps = np.abs(a - b) / np.spacing(np.abs(b).astype(d.number))
            assert (ulps <= (0 if make is aj.rand or d.half else 4)).all()


def test_generators_keep_their_streams(tier):
    def f(x):
        return x + aj.rand(3, generator=g), aj.rand(3)

    g = aj.Generator().manual_seed(4)
    traced = aj.trace(f)
    aj.manual_seed(4)
    a, b = traced(aj.zeros(3))
    assert aj.equal(a, b)
    c, d = traced(aj.zeros(3))
    assert aj.equal(c, d) and not aj.equal(a, c)
    g.manual_seed(4)
    assert aj.equal(traced(aj.zeros(3))[0], a)


# ---------------------------------------------------------------- dropout
def test_dropout_is_part_of_the_kernel_that_reads_it(monkeypatch):
    lin = aj.nn.Linear(24, 20).requires_grad_(False)
    f = aj.trace(lambda x: F.relu(F.dropout(lin(x), 0.5)))
    x = aj.ones(17, 24)
    f(x)
    steps = f.source().split("# steps")[1].strip().split("\n")
    assert len(steps) == 2 and "@" in steps[0] and "kernel0(" in steps[1] and f.source().count("philox_f32") == 1
    monkeypatch.setattr(philox, "words", None)             # nothing is drawn outside of the program
    monkeypatch.setattr(config, "tier", "compile")
    a, b = f(x), f(x)
    assert not aj.equal(a, b)


@pytest.mark.parametrize("p", [0.0, 0.25, 1.0])
def test_dropout_and_its_gradient_have_one_mask(p, tier):
    x = aj.randn(50, 4).requires_grad_()
    f = aj.trace(lambda x: F.dropout(x.sin(), p))
    y = f(x)
    y.sum().backward()
    mask = y.detach() / x.detach().sin()
    assert np.allclose(x.grad.numpy(), (mask * x.detach().cos()).numpy(), atol=1e-5)
    kept = float((mask != 0).to(float32).mean())
    assert abs(kept - (1 - p)) < 0.15
    aj.manual_seed(2)
    eagerly = F.dropout(x.detach(), p)
    aj.manual_seed(2)
    assert aj.equal(aj.trace(lambda x: F.dropout(x, p))(x.detach()), eagerly)


LAYERS = {
    "dropout1d": (2, 3, 5), "dropout2d": (2, 3, 4, 4), "dropout3d": (2, 3, 2, 2, 2), "alpha_dropout": (4, 6),
    "feature_alpha_dropout": (2, 3, 4), "rrelu": (4, 6), "gumbel_softmax": (4, 6),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_that_draw_are_one_program(name, tier):
    x = -aj.rand(*LAYERS[name])
    function = getattr(F, name)
    call = (lambda x: function(x)) if name == "gumbel_softmax" else lambda x: function(x, training=True)
    traced = aj.trace(call)
    aj.manual_seed(5)
    want = call(x)
    aj.manual_seed(5)
    got, other = traced(x), traced(x)
    assert np.allclose(got.numpy(), want.numpy(), rtol=1e-5, atol=1e-6) and not aj.equal(got, other)
    assert "philox" in traced.source()


# ---------------------------------------------------------------- transforms, loops, checkpoints
def test_examples_of_vmap_draw_their_own(tier):
    x = aj.ones(5, 40)
    other = aj.vmap(lambda r: F.dropout(r, 0.5), randomness="different")(x)
    same = aj.vmap(lambda r: F.dropout(r, 0.5), randomness="same")(x)
    assert len({tuple(r) for r in other.tolist()}) == 5 and bool((same == same[0]).all())
    nested = aj.vmap(lambda r: aj.vmap(lambda e: e + aj.rand(2), randomness="different")(r), randomness="different")
    assert len(set(nested(aj.zeros(3, 4)).reshape(-1).tolist())) == 24
    before = aj.get_rng_state()[1].item()
    aj.vmap(lambda r: r + aj.rand(40), randomness="different")(x)
    assert aj.get_rng_state()[1].item() == before + 1


def test_turns_of_a_loop_draw_their_own(tier):
    def f(x):
        return aj.scan(lambda c, _: (c + aj.rand(3), F.dropout(c, 0.5)), x, length=4)

    g = aj.trace(f)
    aj.manual_seed(1)
    a, b = f(aj.ones(3)), f(aj.ones(3))
    aj.manual_seed(1)
    c, d = g(aj.ones(3)), g(aj.ones(3))
    for x, y in zip((*a, *b), (*c, *d)):
        assert aj.equal(x, y)
    assert not aj.equal(a[0], b[0])
    turns = aj.scan(lambda c, _: (c, aj.rand(3)), aj.tensor(0.0), length=5)[1]
    assert len(set(turns.reshape(-1).tolist())) == 15
    inner = aj.fori_loop(0, 3, lambda i, v: v, aj.tensor(0.0))
    nested = aj.scan(lambda c, _: (c, aj.scan(lambda c, _: (c, aj.rand(2)), c, length=3)[1]), inner, length=3)[1]
    assert len(set(nested.reshape(-1).tolist())) == 18
    count = aj.trace(lambda x: aj.while_loop(lambda v: v[0] < 1, lambda v: (v[0] + 0.3, v[1] / 2 + aj.rand(())), (x, x + x)))
    assert not aj.equal(count(aj.zeros(()))[1], count(aj.zeros(()))[1])


def test_a_loop_s_reverse_has_its_masks(tier):
    def loss(x):
        return aj.scan(lambda c, _: (c, (F.dropout(c, 0.5) * aj.rand(6)).sum()), x, length=5)[1].sum()

    for f in (loss, aj.trace(loss), aj.trace(lambda x: aj.checkpoint(loss)(x))):
        value, grad = aj.value_and_grad(f)(aj.ones(6))     # linear in x: the gradient says what was drawn
        assert abs(float(value) - float(grad.sum())) < 1e-5


def test_a_checkpoint_draws_once(tier):
    f = aj.trace(lambda x: aj.checkpoint(lambda x: F.dropout(x, 0.5) * x)(x).sum())
    x = aj.full((30,), 3.0)
    value, grad = aj.value_and_grad(f)(x)
    assert abs(float(value) - float((grad * x).sum()) / 2) < 1e-4 and 0 < float(value) < 540


# ---------------------------------------------------------------- bound and exported
def test_bound_calls_draw_from_a_stream_of_their_own():
    def loss(x):
        return (F.dropout(x, 0.5) * aj.rand(8)).sum()

    def calls():
        aj.manual_seed(3)
        b = aj.value_and_grad(loss).bind(aj.ones(8))
        return [(b().item(), b.grads.sum().item()) for _ in range(4)]

    first = calls()
    assert len({v for v, _ in first}) == 4 and all([abs(v - g) < 1e-5 for v, g in first])
    assert calls() == first
    total = aj.zeros(2)
    step = aj.trace(lambda: total.add_(aj.rand(2))).bind()
    step()
    one = total.tolist()
    step()
    assert 0 < one[0] < 1 and one[0] < total[0].item() and total[0].item() - one[0] != one[0]


def test_exported_modules_take_keys(tmp_path):
    def noisy(x):
        return F.dropout(x, 0.5) + aj.randn(5, dtype=aj.float64)

    aj.manual_seed(7)
    want = noisy(aj.ones(5, dtype=aj.float64))
    file = aj.export(aj.trace(noisy), np.ones(5), path=str(tmp_path / "noisy_module.py"))
    spec = importlib.util.spec_from_file_location("noisy_module", file or tmp_path / "noisy_module.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    got = module.noisy(np.ones(5), np.array([7, 0]), np.array([7, 1]))
    assert np.allclose(got, want.numpy(), rtol=1e-14, atol=0)
    with pytest.raises(ValueError, match="key0"):
        module.noisy(np.ones(5), np.array([7]), np.array([7, 1]))


def test_permutations_in_programs(tier):
    f = aj.trace(lambda: aj.scan(lambda c, _: (c, aj.randperm(9)), aj.tensor(0.0), length=3)[1])
    a = f().tolist()
    assert all([sorted(p) == list(range(9)) for p in a]) and len({tuple(p) for p in a}) == 3
    rows = aj.vmap(lambda x: x[aj.randperm(6)], randomness="different")(aj.arange(12).reshape(2, 6)).tolist()
    assert [sorted(r) for r in rows] == [list(range(6)), list(range(6, 12))]
    b = aj.trace(lambda x: x[aj.randperm(5)]).bind(aj.arange(5))
    assert sorted(b().tolist()) == list(range(5)) and len({tuple(b().tolist()) for _ in range(20)}) > 3


def test_places_are_drawn_in_programs(tier):
    weights = aj.tensor([[0.0, 3.0, 1.0, 0.0], [2.0, 0.0, 0.0, 2.0]])
    for replacement, count in ((True, 9), (False, 2)):
        f = aj.trace(lambda w, r=replacement, n=count: aj.multinomial(w, n, r))
        aj.manual_seed(6)
        want = [aj.multinomial(weights, count, replacement) for _ in range(2)]
        aj.manual_seed(6)
        assert all([aj.equal(f(weights), w) for w in want])
