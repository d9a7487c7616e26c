"""Branches on values under `@trace`: each path is a program of its own, and traced agrees with eager on all of them."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import autojit as aj
from autojit.errors import TraceError


def arrays(nest):
    return aj.tree.tree_map(lambda t: np.asarray(t.detach()) if isinstance(t, aj.Tensor) else t, nest)


def agree(a, b):
    a, b = aj.tree.flatten(arrays(a)), aj.tree.flatten(arrays(b))
    assert a[1] == b[1]
    for x, y in zip(a[0], b[0]):
        assert type(x) is type(y)
        if isinstance(x, np.ndarray):
            assert x.shape == y.shape and x.dtype == y.dtype
            np.testing.assert_allclose(x, y, 1e-5, 1e-6)
        else:
            assert x == y


def runs_of(fn):
    """The function, and a list that grows whenever its Python runs."""
    runs = []

    def counted(*args):
        runs.append(1)
        return fn(*args)
    return counted, runs


# ---------------------------------------------------------------- programs, each run on inputs that take all of its ways
def two_ways(x):
    if x.sum() > 0:
        return (x.sin() * x).sum()
    return (x ** 3).sum()


def halving(x):
    turns = 0
    while (x * x).sum() > 0.5:
        x = x * 0.5
        turns += 1
    return (x * turns).cos().sum()


def breaking(x):
    total = x.sum() * 0
    for k in range(6):
        total = total + (x ** (k + 1)).sum()
        if total > 4 or total < -4:
            break
    return total * total


def nested(x):
    if x[0] > 0:
        y = x * 2 if x[1] > 0 else x.exp()
    elif x[1] > 0 and x[2] > 0 or not x[2] < 1:
        y = x.tanh()
    else:
        y = 1 - x
    return (y * y).mean()


def asked_of_numbers(x):
    n = (x > 0).sum()
    if n == 0:
        return x.sum()
    if n in (1, 2):
        return (x * n).prod()
    return max(x[0], x[1]) * min(x[1], x[2]) * sorted([x[0], x[1], x[2]])[1]


PROGRAMS = [two_ways, halving, breaking, nested, asked_of_numbers]


@pytest.mark.parametrize("f", PROGRAMS)
def test_value_gradient_and_second_gradient(f):
    r = np.random.default_rng(7)
    g, runs = runs_of(f)
    traced, both = aj.trace(g), aj.value_and_grad(aj.trace(f))
    for _ in range(14):
        a = r.standard_normal(3) * 2
        x, y = aj.tensor(a, requires_grad=True), aj.tensor(a, requires_grad=True)
        agree(f(x.detach()), traced(y.detach()))
        e, t = f(x), traced(y)
        agree(e, t)
        (ge,), (gt,) = aj.autograd.grad(e, x, create_graph=True), aj.autograd.grad(t, y, create_graph=True)
        agree(ge, gt)
        agree(both(y.detach()), (e, ge))
        if ge.requires_grad:
            agree(aj.autograd.grad((ge * ge).sum(), x), aj.autograd.grad((gt * gt).sum(), y))
    assert 2 <= len(runs) < 28                            # each way once, with a history and without


def test_python_runs_once_for_each_path():
    f, runs = runs_of(two_ways)
    f = aj.trace(f)
    up, down = aj.tensor([1.0, 2.0]), aj.tensor([-1.0, -2.0])
    for x in (up, up, down, up, down, down):
        agree(f(x), two_ways(x))
    assert len(runs) == 2 and [len(p) for p in f.plans.values()] == [2]


def test_compiled_paths_take_turns(compiled):
    for wrap in (aj.trace, lambda f: aj.value_and_grad(aj.trace(f))):
        f, plain = wrap(nested), nested if wrap is aj.trace else aj.value_and_grad(nested)
        xs = [aj.tensor([a, b, 0.5]) for a in (1.0, -1.0) for b in (1.0, -1.0)]
        for k in range(60):
            agree(f(xs[k * k % 4]), plain(xs[k * k % 4]))
        for x in xs * 12:
            agree(f(x), plain(x))
        assert len(f._short.calls) == 4                   # the short way of each path
        for x in [*xs, *xs[::-1]]:
            agree(f(x), plain(x))


def test_results_may_differ_in_structure_and_shape():
    def f(x):
        if x.sum() > 3:
            return x
        if x[0] > 0:
            return {"a": (x, x[:1] * 2), "n": 3}
        if x.isnan().any():
            return None
        return [x.reshape(3, 1), "low"]
    traced = aj.trace(f)
    for v in ([3.0, 1, 1], [1.0, 0, 0], [-1.0, 0, 0], [float("nan"), 0, 0], [2.0, 0, 0], [9.0, 0, 0]):
        agree(traced(aj.tensor(v)), f(aj.tensor(v)))


def test_all_that_asks_for_a_truth():
    def f(x, y):
        said = [bool(x[0]), x[0] == y[0] and 1, 2.0 in x, any(x > 5), all([x[0] < 1, x[1] < 1]), (x > 0).all().item(),
                aj.allclose(x, y), aj.equal(x, y), int(x[0] > 0), float((x > 0).any()), aj.is_nonzero(x[:1].reshape(1, 1))]
        return x, [bool(s) if not isinstance(s, bool) else s for s in said]
    traced = aj.trace(f)
    r = np.random.default_rng(0)
    for _ in range(24):
        x, y = [aj.tensor(np.array([0.0, 2, 7, -1, float("nan")])[r.integers(0, 5, 2)]) for _ in range(2)]
        agree(traced(x, y), f(x, y))
        agree(traced(x, x), f(x, x))


@pytest.mark.parametrize("v", [float("nan"), -0.0, float("inf"), 0, 1 << 40, True])
def test_truth_of_special_numbers(v):
    f = aj.trace(lambda x: (x, "yes" if x else "no"))
    assert f(aj.tensor([v]))[1] == ("yes" if bool(aj.tensor([v])) else "no")


@pytest.mark.parametrize("shape", [(0,), (2,), (1, 3)])
def test_no_truth_has_none(shape):
    f = aj.trace(lambda x: x if x else -x)
    for g in (f, f.fn):
        with pytest.raises(RuntimeError, match="Boolean value of Tensor with .* is ambiguous"):
            g(aj.ones(shape))


@pytest.mark.parametrize("read", [float, int, aj.Tensor.item, aj.Tensor.tolist, "{:.2f}".format])
def test_numbers_are_not_read(read):
    f = aj.trace(lambda x: x * 2 if read(x.sum()) else x)
    with pytest.raises(TraceError, match="value of a tensor is read") as e:
        f(aj.ones(2))
    assert "if t > 0" in "".join(e.value.__notes__)


def test_the_65th_path_is_an_error_that_names_the_line():
    def f(x):
        while x < 1:
            x = x * 2
        return x
    traced = aj.trace(f)
    known = [aj.tensor(2.0 ** -k) for k in range(64)]
    for x in known:
        assert traced(x).item() == 1
    line = inspect.getsourcelines(f)[1] + 1
    for _ in range(2):
        with pytest.raises(TraceError, match="more than 64 paths") as e:
            traced(aj.tensor(2.0 ** -70))
        notes = "\n".join(e.value.__notes__)
        assert f"test_paths.py:{line}" in notes and "aj.cond" in notes and "aj.while_loop" in notes
    assert all([traced(x).item() == 1 for x in known])    # the known ones go on


def test_a_path_that_raises_does_so_each_time():
    w = aj.zeros(1)

    def f(x):
        w.add_(1)
        if x.sum() < 0:
            raise ValueError("negative")
        assert not x.sum() > 100, "large"
        return x + w
    f, runs = runs_of(f)
    traced = aj.trace(f)
    for _ in range(2):
        with pytest.raises(ValueError, match="negative"):
            traced(-aj.ones(2))
        assert w.item() == 0                              # it changed nothing
    assert traced(aj.ones(2)).tolist() == [2, 2] and w.item() == 1
    for _ in range(2):
        with pytest.raises(ValueError, match="negative"):
            traced(-aj.ones(2))
        with pytest.raises(AssertionError, match="large"):
            traced(aj.ones(2) * 99)
    assert traced(aj.ones(2)).tolist() == [3, 3] and len(runs) == 7


# ---------------------------------------------------------------- what functions change
def test_a_training_step_that_decides():
    def make():
        p = aj.tensor([2.0, -1.0], requires_grad=True)
        best, kept, rate = aj.tensor(1e9), aj.zeros(2), aj.tensor(0.1)

        def step(x):
            loss = ((x * p - 1) ** 2).sum()
            p.grad = None
            loss.backward()
            with aj.no_grad():
                if loss < best:
                    best.copy_(loss)
                    kept.copy_(p)
                else:
                    rate.mul_(0.5)
                if (p.grad * p.grad).sum().sqrt() > 3:
                    p.grad.mul_(0.1)
                p.sub_(rate * p.grad)
            return loss
        return step, [p, best, kept, rate]
    eager, e = make()
    step, t = make()
    traced = aj.trace(step)
    for k in range(16):
        x = aj.tensor([1.0 + k % 3, 0.5 * (k % 5)])
        agree(eager(x), traced(x))
        agree([*e, e[0].grad], [*t, t[0].grad])
        assert [a._version for a in e] == [a._version for a in t]
    assert 3 <= sum(map(len, traced.plans.values())) <= 8


def test_captured_tensors_of_each_path():
    def make():
        a, b = aj.tensor([1.0, 2.0], requires_grad=True), aj.tensor([3.0, 4.0], requires_grad=True)
        return lambda x: (a * x).sum() if x.sum() > 0 else (b * b * x).sum(), a, b
    f, *es = make()
    g, *ts = make()
    g = aj.trace(g)
    for v in (1.0, -1.0, 2.0, -3.0):
        x = aj.tensor([v, v])
        f(x).backward(), g(x).backward()
        agree([p.grad for p in es if p.grad is not None], [p.grad for p in ts if p.grad is not None])
        with aj.no_grad():
            es[0].add_(1), ts[0].add_(1)


def test_arguments_are_written_on_one_path():
    def f(x):
        y = x[::2]
        if x.sum() > 3:
            y.mul_(2)
        return y.sum() if y.sum() < 9 else x.zero_()
    traced = aj.trace(f)
    for k in range(8):
        x, y = aj.arange(4.0) * k * 0.3, aj.arange(4.0) * k * 0.3
        agree((f(x), x, x._version), (traced(y), y, y._version))


def test_random_numbers_are_those_of_an_eager_run():
    def f(x):
        u = aj.rand(2)
        if u.sum() + x.sum() > 1:
            u = u + aj.randn(2)
            if u[0] > 0.5:
                return u * aj.rand(1), 1
            return u, 2
        while u.sum() < 0.8:
            u = u + aj.rand(2)
        return u, 3
    def draws(g):
        aj.manual_seed(3)
        out = []
        for k in range(24):
            x = aj.full((2,), (k % 5 - 2) * 0.2, requires_grad=k % 2 == 0)
            out += [g(x), aj.get_rng_state()]
        return out
    agree(draws(f), draws(aj.trace(f)))


def test_modes_inside_of_paths():
    def f(x):
        with aj.no_grad():
            if x.sum() > 0:
                s = x * 3
            else:
                s = x.detach() * 2
        return (s * x).sum()
    traced = aj.trace(f)
    for v in (1.0, -1.0, 2.0):
        x, y = aj.tensor([v], requires_grad=True), aj.tensor([v], requires_grad=True)
        f(x).backward(), traced(y).backward()
        agree(x.grad, y.grad)


# ---------------------------------------------------------------- a path that is tried may be the wrong one
def test_errors_of_another_path_are_nobodys(compiled):
    def f(a, i):
        if a[0, 0] > 0:
            return aj.linalg.cholesky(a).sum() + a.reshape(-1)[i].sum() + a.reshape(-1)[(i * 2) // 2].sum()
        return a.sum()
    traced, both = aj.trace(f), aj.value_and_grad(aj.trace(f))
    good, bad = aj.eye(2) * 2, -aj.eye(2)
    inside, outside = aj.tensor([1, 2]), aj.tensor([1, 9])
    for _ in range(12):
        agree(traced(good, inside), f(good, inside))
        agree(traced(bad, outside), f(bad, outside))
        agree(both(bad, outside)[1], aj.ones(2, 2))
        agree(both(good, inside)[0], f(good, inside))
        x = bad.clone().requires_grad_()
        traced(x, outside).backward()
        agree(x.grad, aj.ones(2, 2))
    indefinite = aj.tensor([[1.0, 2], [2, 1]])
    for g in (traced, both):
        for _ in range(2):
            with pytest.raises(IndexError):
                g(good, outside)
            with pytest.raises(RuntimeError, match="positive-definite"):
                g(indefinite, inside)
        g(bad, outside)


def test_a_computed_place_out_of_range():
    def f(x, i):
        y = x[(i * i) // i]                               # looked at after the run
        if i[0] < 3:
            return y
        return y * 2 if i[0] < 5 else x[i - 5]
    traced = aj.trace(f)
    x = aj.arange(4.0)
    for k in (1, 2, 3, 1, 3):
        agree(traced(x, aj.tensor([k])), f(x, aj.tensor([k])))
    for k in (4, 7, 4):                                   # the place is wrong before the branches that follow count
        for g in (traced, f):
            with pytest.raises(IndexError):
                g(x, aj.tensor([k]))
    agree(traced(x, aj.tensor([1])), f(x, aj.tensor([1])))


def test_a_loop_that_ends_on_its_own_path_only():
    def f(x):
        if x > 0:
            return aj.while_loop(lambda v: v < 10, lambda v: v + x, x)
        return x
    traced = aj.trace(f)
    for v in (1.0, -1.0, 2.0, 0.0, 3.0):
        agree(traced(aj.tensor(v)), f(aj.tensor(v)))


def test_where_recording_and_program_disagree_the_program_counts(monkeypatch):
    from autojit.tracing.prefix import Prefix
    f = aj.trace(two_ways)
    right = Prefix.outcome

    def wrong(self, flag, place):
        if self.asked.outcomes:
            return right(self, flag, place)
        found = not right(self, flag, place)
        self.asked.outcomes[:] = [found]
        return found
    monkeypatch.setattr(Prefix, "outcome", wrong)
    up = aj.tensor([1.0, 2.0])
    assert f(up).item() == 9                              # as if rounding had put it on the other side
    monkeypatch.setattr(Prefix, "outcome", right)
    for _ in range(3):
        agree(f(up), two_ways(up))
        agree(f(-up), two_ways(-up))
    assert [len(p) for p in f.plans.values()] == [2]


# ---------------------------------------------------------------- among transforms
def test_traced_in_traced():
    inner = aj.trace(two_ways)

    def f(x):
        y = inner(x) + inner(x - 1)
        return y if y > 0 else inner(-x)
    traced = aj.trace(f)
    for v in (2.0, 0.5, -1.0, -0.2, 3.0):
        x = aj.tensor([v, v / 2])
        agree(traced(x), f(x))
        agree(aj.value_and_grad(traced)(x), aj.value_and_grad(f)(x))


def test_transforms_inside_and_outside():
    def gradient(x):
        return aj.grad(two_ways)(x)
    def pushed(x):
        return aj.jvp(two_ways, (x,), (aj.ones_like(x),))
    def mapped(x):                                        # the branch is the same for all rows
        return aj.vmap(lambda row: row * 2 if x.sum() > 0 else row)(x.reshape(2, 1))
    def kept(x):
        return aj.grad(lambda y: aj.checkpoint(two_ways)(y))(x)
    for f in (gradient, pushed, mapped, kept):
        traced = aj.trace(f)
        for v in (1.0, -1.0, 0.5, -2.0):
            x = aj.tensor([v, v * 2])
            agree(traced(x), f(x))
    h = aj.trace(two_ways)
    for v in (1.0, -1.0):
        x = aj.tensor([v, v * 2])
        for transform in (aj.grad, aj.jacrev, aj.jacfwd, aj.hessian):
            agree(transform(h)(x), transform(two_ways)(x))
        agree(aj.grad(lambda y: aj.grad(h)(y).sum())(x), aj.grad(lambda y: aj.grad(two_ways)(y).sum())(x))


def test_a_branch_by_example_or_by_turn_is_refused():
    with pytest.raises(RuntimeError, match="vmap") as e:
        aj.vmap(aj.trace(two_ways))(aj.ones(3, 2))
    assert "aj.where" in "".join(e.value.__notes__) and "aj.cond" in "".join(e.value.__notes__)
    with pytest.raises(RuntimeError, match="vmap"):
        aj.trace(lambda x: aj.vmap(two_ways)(x))(aj.ones(3, 2))
    with pytest.raises(TraceError, match="body of a scan"):
        aj.trace(lambda x: aj.scan(lambda c, v: (c if v > 0 else -c, v), x[0], x))(aj.ones(3))


# ---------------------------------------------------------------- the rest of a traced function's face
threshold = 0.0


def test_a_watched_value_starts_anew():
    global threshold
    f, runs = runs_of(lambda x: x * 2 if x.sum() > threshold else -x)
    traced = aj.trace(lambda x: f(x) if threshold < 100 else x)
    try:
        for threshold in (0.0, 2.0, 0.0):
            for v in (1.0, -1.0, 3.0, 1.0):
                x = aj.tensor([v])
                agree(traced(x), x * 2 if v > threshold else -x)
    finally:
        threshold = 0.0


def test_it_tells_its_paths():
    f = aj.trace(halving)
    f(aj.ones(3) * 0.1), f(aj.ones(3)), f(aj.ones(3) * 9)
    line = f"test_paths.py:{inspect.getsourcelines(halving)[1] + 2}"
    said = f.explain()
    assert said.count(f"{line} False") == 3 and f"{line} True x 5, " in said and f"another way at {__file__[:1]}" in said
    f(aj.ones(3) * 0.1)
    for text in (f.source(), f.graph()):
        assert text.startswith("# path: ") and text.splitlines()[0].endswith(f"{line} False")


def test_one_program_is_what_binding_and_export_need(tmp_path):
    x = np.ones(3)
    for bind in (aj.trace(two_ways).bind, aj.value_and_grad(aj.trace(two_ways)).bind,
                 lambda x: aj.export(aj.trace(two_ways), x, path=tmp_path / "f.py")):
        with pytest.raises(TraceError, match="branches on the value of a tensor") as e:
            bind(x)
        assert "test_paths.py" in e.value.__notes__[0] and "aj.cond" in e.value.__notes__[1]
