"""New sizes: what a form makes is what scheduling makes, bit for bit; what has no form goes the long way."""

from __future__ import annotations

import threading
import weakref

import numpy as np
import pytest

import autojit as aj
from autojit.backends.cpu.instance import difference
from autojit.backends.cpu.series import Series, follow
from autojit.config import config
from autojit.engine import compile as pipeline
from autojit.engine import families, programs
from autojit.errors import VerifyError
from autojit.ir.graph import Graph, forget
from autojit.ir.outline import outline, rebuilt
from autojit.tracing.likeness import CONFIRMED, LightPlan

from . import graphs
from .graphs import random_graph

SIZES = (36, 41, 52, 63, 33, 47, 50)                      # of one class


@pytest.fixture
def forms():
    """Every program of a form is held against the long way's."""
    old = config.tier, config.forms
    config.tier, config.forms = "compile", 2
    families.clear()
    programs.clear()
    yield
    config.tier, config.forms = old
    families.clear()
    programs.clear()


# ------------------------------------------------------------------------------------------------ numbers
def test_series_go_through_all_samples_or_say_so():
    sizes = [5, 8, 11, 14, 17]
    rows = [[7, 3 * n - 2, n * n + n, n // 2, n ** 3, 10 - n, 2 ** 40 * n] for n in sizes]
    series = Series(sizes, rows)
    assert series.bad.tolist() == [3, 4]
    for n in (6, 13):
        found = series.at(n).tolist()
        assert [found[k] for k in (0, 1, 2, 5, 6)] == [7, 3 * n - 2, n * n + n, 10 - n, 2 ** 40 * n]


def test_series_of_few_samples_are_refused():
    with pytest.raises(ValueError, match="3 samples"):
        Series([1, 2, 3], [[1], [2], [3]])


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_floating_numbers_are_followed_exactly(kind):
    sizes = [33, 40, 50, 63]
    bases = [[kind(1) / kind(n * 10) for n in sizes]]

    def value(f, n):
        return f(n) if callable(f) else kind(f[1] * bases[f[0]][sizes.index(n)])

    for wanted in (lambda n: kind(3 * n + 1), lambda n: kind(1) / kind(7 * n), lambda n: kind(-2) * (kind(1) / kind(n * 10))):
        f = follow(sizes, [wanted(n) for n in sizes], kind, bases)
        assert all(value(f, n).tobytes() == wanted(n).tobytes() for n in sizes)
    assert follow(sizes, [kind(np.sin(n)) for n in sizes], kind, bases) is None


# ------------------------------------------------------------------------------------------------ graphs
@pytest.mark.parametrize("seed", range(60))
def test_an_outline_and_its_numbers_are_the_graph(seed):
    graph, _ = random_graph(seed, size=10)
    line = outline(graph)
    again = rebuilt(graph, line.ints, [v for v, _ in line.floats])
    assert again.key == graph.key and outline(again).exact == line.exact
    forget()


def resized(seed: int, n: int) -> Graph:
    """The random graph of a seed with n in the place of its large extents."""
    old = graphs.EXTENTS
    graphs.EXTENTS = [1, 2, 3, 3, 3, 4, 5, n, n]
    try:
        return random_graph(seed, size=8)[0]
    finally:
        graphs.EXTENTS = old
        forget()


def test_random_graphs_of_new_sizes_have_the_plans_of_the_long_way():
    """Whole plans are compared, all words but the places of temporaries."""
    families.clear()
    found = 0
    for seed in range(3000, 3040):
        for n in SIZES[:5]:
            graph = resized(seed, n)
            native = families.find(graph, pipeline.prepare)
            prepared = pipeline.prepare(graph)
            wanted = prepared.link()
            if native is None:
                families.learn(graph, wanted, prepared.texts, pipeline.prepare)
            else:
                assert difference(native, wanted) is None, f"seed {seed}, size {n}: {difference(native, wanted)}"
                found += 1
    families.clear()
    assert found >= 10                                    # most graphs read a number from their extents, and are others


# ------------------------------------------------------------------------------------------------ functions
def mlp(w, b, v, x, y):
    z = (x @ w + b).tanh() @ v
    return aj.nn.functional.cross_entropy(z, y)


def attention(w, u, v, x, y):
    q, k = x @ w, x @ u
    s = (q @ k.transpose(-1, -2) / 3.0).softmax(-1)
    return ((s @ x - y) ** 2).mean()


def pieces(w, b, v, x, y):
    d = x[1:] - x[:-1]
    e = aj.cat([d * w.sum(), x * 0.3], 0)
    return (e.var() + (e * e).mean() + x.reshape(-1).std()) * b.sum() * v.sum()


def heads(w, u, v, x, y):
    """Views whose memory has another order, and what copies them."""
    n, length, width = x.shape
    h = (x @ w).reshape(n, length, 4, width // 4).permute(0, 2, 1, 3)
    p = (h @ h.transpose(-1, -2)).exp()
    out = (p / p.sum(-1, keepdim=True) @ h).permute(0, 2, 1, 3).reshape(n, length, width)
    return ((out @ u - y) ** 2).mean() + out[:, 1:].tanh().sum() * v.sum()


def rows(w, b, v, x, y):
    h = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True) + 1e-5).sqrt()
    return ((h @ w + b).relu() / x.shape[0]).sum() + v.sum() / len(x)


def arguments(kind, n, width=20, classes=7):
    rng = np.random.default_rng(n)

    def f(*shape):
        return aj.from_numpy(rng.standard_normal(shape).astype(np.float32))
    if kind in (attention, heads):
        return [f(width, width), f(width, width), f(1), f(n, 9, width), f(n, 9, width)]
    return [f(width, width + 4), f(width + 4), f(width + 4, classes), f(n, width), aj.from_numpy(rng.integers(0, classes, n))]


def alone(kind, args):
    """The answer of a process that has seen nothing: bits must not depend on what came before."""
    families.clear()
    programs.clear()
    value, grads = aj.value_and_grad(aj.trace(kind), (0, 1, 2))(*args)
    return [a.numpy() for a in (value, *grads)]


@pytest.mark.parametrize("kind", [mlp, attention, heads, pieces, rows])
def test_new_sizes_are_recognised_and_have_the_bits_of_a_fresh_process(forms, kind):
    f = aj.trace(kind)
    joint = aj.value_and_grad(f, (0, 1, 2))
    light, answers = [], []
    for n in (*SIZES, 64):
        args = arguments(kind, n)
        value, grads = joint(*args)
        answers.append([a.numpy().copy() for a in (value, *grads)])
        light.append(type(f.last) is LightPlan)
    assert light == [k >= CONFIRMED for k in range(len(SIZES))] + [light[-1]]
    for n, found in zip((*SIZES, 64), answers):
        for a, b in zip(found, alone(kind, arguments(kind, n))):
            assert a.tobytes() == b.tobytes(), f"another answer for {n} after other sizes"


def test_a_batch_as_wide_as_a_layer_is_recognised(forms):
    f = aj.trace(rows)
    joint = aj.value_and_grad(f, (0, 1, 2))
    for n in (17, 18, 19, 21, 22, 20, 24):                # 20 and 24 are widths
        args = arguments(rows, n)
        value, _ = joint(*args)
        assert np.allclose(value.numpy(), rows(*args).numpy(), 1e-4)
    assert type(f.last) is LightPlan


def test_what_reads_the_size_is_not_taken_for_another(forms):
    @aj.trace
    def f(x):
        y = (x * x).sum()
        return y * 3.0 if x.shape[0] > 50 else y ** x.shape[0]

    joint = aj.value_and_grad(f)
    for n in (34, 36, 38, 40, 42, 44, 52, 54, 56, 58, 60, 62, 46):
        x = aj.from_numpy(np.full((n, 3), 0.05))
        value, grad = joint(x)
        s = (x.numpy() ** 2).sum()
        assert np.allclose(value.numpy(), s * 3 if n > 50 else s ** n)
        assert np.allclose(grad.numpy(), 0.3 if n > 50 else n * s ** (n - 1) * 0.1)


def test_detach_and_no_grad_are_seen(forms):
    def cut(x, flag):
        y = x.exp()
        if flag:
            y = y.detach()
        with aj.no_grad():
            z = x * 2
        return (y * x * z).sum()

    joint = aj.value_and_grad(aj.trace(cut))
    for n in SIZES:
        for flag in (False, True):
            x = aj.from_numpy(np.linspace(0, 1, 3 * n).reshape(n, 3))
            _, grad = joint(x, flag)
            a = x.numpy()
            assert np.allclose(grad.numpy(), np.exp(a) * 2 * a * (1 if flag else 1 + a))


def test_captured_tensors_are_inputs_of_recognised_plans(forms):
    w, b = aj.tensor([1.0, 2.0, 3.0]), aj.tensor([[0.5, 0.5, 0.5]], requires_grad=True)
    f = aj.trace(lambda x: ((x * w + b) * b).sum())
    joint = aj.value_and_grad(f)
    for n in (*SIZES, 55):
        if n == 55:
            w.mul_(2)
        x = aj.from_numpy(np.ones((n, 3), np.float32))
        value, grad = joint(x)
        assert np.allclose(value.numpy(), ((w.numpy() + 0.5) * 0.5).sum() * n)
        assert np.allclose(grad.numpy(), w.numpy() * 0.5)
    assert type(f.last) is LightPlan
    w.data = aj.ones(1)
    assert np.allclose(joint(x)[1].numpy(), 0.5) and type(f.last) is not LightPlan


def test_hooks_writes_and_views_from_outside_are_recorded_whole(forms):
    w = aj.tensor([[1.0], [2.0], [3.0]])[:, 0]

    def hooked(x):
        y = x * 2
        y.register_hook(lambda g: g * 10)
        return y.sum()

    def written(x):
        y = x * 2
        y.mul_(x)
        return y.sum()

    def captured(x):
        return (x * w).sum()

    for f, want in ((hooked, lambda a: np.full_like(a, 20)), (written, lambda a: 4 * a),
                    (captured, lambda a: np.broadcast_to(np.array([1, 2, 3]), a.shape))):
        traced = aj.trace(f)
        joint = aj.value_and_grad(traced)
        for n in SIZES:
            x = aj.from_numpy(np.linspace(1, 2, 3 * n, dtype=np.float32).reshape(n, 3))
            _, grad = joint(x)
            assert np.allclose(grad.numpy(), want(x.numpy()))
            assert type(traced.last) is not LightPlan


def test_user_code_that_catches_everything_does_not_hide_what_is_refused(forms):
    def f(x):
        y = x * 2
        try:
            y.mul_(x)
        except:  # noqa: E722
            pass
        return y.sum()

    traced = aj.trace(f)
    joint = aj.value_and_grad(traced)
    for n in SIZES:
        x = aj.from_numpy(np.linspace(1, 2, 3 * n).reshape(n, 3))
        assert np.allclose(joint(x)[1].numpy(), 4 * x.numpy())


def test_errors_of_recognised_functions_are_the_ordinary_ones(forms):
    joint = aj.value_and_grad(aj.trace(rows), (0, 1, 2))
    for n in SIZES:
        joint(*arguments(rows, n))
    args = arguments(rows, 45)
    args[3] = aj.from_numpy(np.ones((45, 21), np.float32))
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"):
        joint(*args)


def test_checks_of_places_hold_for_recognised_sizes(forms):
    f = aj.trace(mlp)
    joint = aj.value_and_grad(f, (0, 1, 2))
    for n in SIZES:
        joint(*arguments(mlp, n))
    args = arguments(mlp, 55)
    args[4] = aj.from_numpy(np.full(55, 7))
    with pytest.raises(IndexError):
        joint(*args)
    assert type(f.last) is LightPlan


def test_a_recognised_plan_shows_its_graph_and_source(forms):
    f = aj.trace(mlp)
    joint = aj.value_and_grad(f, (0, 1, 2))
    for n in SIZES:
        joint(*arguments(mlp, n))
    assert "f32[50,20]" in f.graph() and "def kernel" in f.source()
    assert "known form" in f.explain() and "sizes 33 to 64, of which 50 is one: of one form" in f.explain()


def test_a_wrong_form_is_caught(forms, monkeypatch):
    f = aj.trace(rows)
    joint = aj.value_and_grad(f, (0, 1, 2))
    for n in SIZES[:4]:
        joint(*arguments(rows, n))
    monkeypatch.setattr(Series, "at", lambda self, n: self.base.copy())
    with pytest.raises(VerifyError, match="made from a form"):
        joint(*arguments(rows, 45))


def test_sizes_of_other_threads_do_not_disturb(forms):
    config.forms = 1
    joint = aj.value_and_grad(aj.trace(rows), (0, 1, 2))
    wrong: list[int] = []

    def work(start):
        for n in range(start, 64, 4):
            args = arguments(rows, n)
            value, _ = joint(*args)
            if not np.allclose(value.numpy(), rows(*args).numpy(), 1e-4):
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(33 + k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_what_is_remembered_is_bounded(forms, monkeypatch):
    monkeypatch.setattr(families, "KEPT", 5)
    for k in range(12):
        x = aj.from_numpy(np.ones((34, 3), np.float32))
        f = aj.trace(lambda x, k=k: sum([x.sin() for _ in range(k)], x).cos().sum() if k % 2 else sum([x * x] * k, x).sum())
        aj.value_and_grad(f)(x)
    assert len(families._KIN) <= 5


def test_temporaries_of_many_sizes_are_bounded(forms, monkeypatch):
    joint = aj.value_and_grad(aj.trace(mlp), (0, 1, 2))
    for n in SIZES:
        joint(*arguments(mlp, n))
    f = joint.fn
    each = f.last.held
    assert each > 0
    monkeypatch.setattr("autojit.tracing.traced.ROOM", 3 * each)
    for n in (34, 35, 37, 38, 39, 40, 42, 43):
        joint(*arguments(mlp, n))
        assert f._held == sum([p.held for plans in f.plans.values() for p in plans]) <= 3 * each
    gone = [weakref.ref(p) for plans in f.plans.values() for p in plans]
    for n in (44, 45, 46, 48, 49):
        joint(*arguments(mlp, n))
    assert sum([r() is not None for r in gone]) <= 1      # nothing else holds them
    first, again = joint(*arguments(mlp, 34)), alone(mlp, arguments(mlp, 34))
    assert [a.numpy().tobytes() for a in (first[0], *first[1])] == [a.tobytes() for a in again]


@pytest.mark.parametrize("sizes", [(33, 64, 50, 41, 39, 37), (64, 33, 40, 41, 39, 37), (40, 33, 41, 48, 39, 37)])
def test_the_end_of_a_class_and_chance_do_not_spoil_its_form(forms, sizes):
    f = aj.trace(lambda w, b, x: (x @ w + b).tanh().mean())         # a width of 40: a batch of 40 has other kernels
    joint = aj.value_and_grad(f, (0, 1))
    rng = np.random.default_rng(0)
    for n in sizes:
        w, b, x = rng.random((40, 40)), rng.random(40), rng.random((n, 40))
        value, _ = joint(w, b, x)
        np.testing.assert_allclose(float(value), np.tanh(x @ w + b).mean(), rtol=1e-12)
    assert "of one form" in f.explain()


@pytest.mark.parametrize("sizes", [(0, 13, 0, 9, 12), (13, 0, 1, 12)])
def test_empty_arguments_among_others(forms, sizes):
    joint = aj.value_and_grad(aj.trace(lambda x: (x * x.sin()).sum()))
    for n in sizes:
        x = np.linspace(0.0, 1.0, n)
        value, grad = joint(x)
        assert np.isclose(float(value), (x * np.sin(x)).sum())
        assert np.allclose(grad, np.sin(x) + x * np.cos(x))


@pytest.mark.filterwarnings("error")
def test_a_law_that_divides_by_zero_is_quiet():
    law = families._float_law(36, np.float64(1 / 16), 41, np.float64(1 / 21), np.float64)
    assert law(52) == 1 / 32 and law(20) == np.inf


def test_sizes_of_which_others_would_be_negative(forms):
    """5 at 63 and 4 at 62 are -25 at 33, which no program has."""
    f = aj.trace(lambda a, b, c: (a @ b) @ c.T)
    for m, k in ((63, 5), (62, 4), (61, 3), (60, 2), (59, 1)):
        a, b, c = (np.random.default_rng(m).standard_normal(shape) for shape in ((m, k), (k, 17), (m, 17)))
        assert np.allclose(f(a, b, c).numpy(), a @ b @ c.T)
