"""`@trace`: recorded once a signature, captured tensors followed, writes written again, the same numbers as eager."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import autojit as aj
from autojit import tree
from autojit.errors import TraceError


def close(a, b, tol=1e-5):
    return np.allclose(np.asarray(a.detach() if isinstance(a, aj.Tensor) else a), np.asarray(
        b.detach() if isinstance(b, aj.Tensor) else b), tol, tol)


def test_value_and_backward_agree_with_eager():
    def f(w, x):
        return ((x @ w).tanh() ** 2).mean()
    x = aj.tensor(np.random.default_rng(0).standard_normal((5, 3)))
    w1 = aj.tensor([1.0, -2.0, 0.5], dtype=aj.float64, requires_grad=True)
    w2 = w1.detach().clone().requires_grad_()
    traced = aj.trace(f)
    for _ in range(3):
        y1, y2 = f(w1, x), traced(w2, x)
        y1.backward(), y2.backward()
    assert close(y1, y2) and close(w1.grad, w2.grad)
    assert y2.requires_grad and "Backward" in y2.grad_fn.name()


def test_recorded_once_a_signature():
    runs = []

    @aj.trace
    def f(x, scale, mode):
        runs.append(1)
        return x * scale if mode == "times" else x + scale
    for k in range(4):
        assert close(f(aj.ones(3), 2.0 + k, "times"), [2.0 + k] * 3)
    assert len(runs) == 1                                 # floats are data
    f(aj.ones(3), 2.0, "plus"), f(aj.ones(4), 2.0, "times")
    assert len(runs) == 3                                 # strings and shapes are part of the program
    f(aj.ones(3), 9.0, "times")
    assert len(runs) == 3


def test_a_third_int_warns():
    @aj.trace
    def f(x, n):
        return x * n
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        f(aj.ones(2), 1), f(aj.ones(2), 2)
    with pytest.warns(UserWarning, match="int argument"):
        f(aj.ones(2), 3)


def test_captured_tensors_are_inputs():
    w = aj.tensor([1.0, 2.0], requires_grad=True)

    @aj.trace
    def f(x):
        return (w * x).sum()
    assert f(aj.ones(2)).item() == 3
    with aj.no_grad():
        w += 1
    assert f(aj.ones(2)).item() == 5
    w.data = aj.tensor([10.0, 20.0])
    y = f(aj.ones(2))
    y.backward()
    assert y.item() == 30 and w.grad.tolist() == [1, 1]


def test_a_captured_view_is_captured_with_its_storage():
    base = aj.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    row, cut = base[1], base.detach()[:, 0]

    @aj.trace
    def f(x):
        return (row * x * cut).sum()
    f(aj.ones(2)).backward()
    assert base.grad.tolist() == [[0, 0], [1, 3]]
    with aj.no_grad():
        base[0, 0] = 5
    assert f(aj.ones(2)).item() == 3 * 5 + 4 * 3


def test_a_write_to_an_argument_that_is_a_view():
    @aj.trace
    def f(x):
        x.mul_(2)
        return x.sum()
    base = aj.arange(6.0).reshape(3, 2)
    assert f(base[1]).item() == 10 and f(base.t()[1]).item() == 2 * (1 + 6 + 5)
    assert base.tolist() == [[0, 2], [4, 12], [4, 10]]


def test_floats_take_the_dtype_of_arrays_beside_them():
    y = aj.trace(lambda x, s: x * s)(np.ones(1), 0.1)
    assert y.tolist() == [0.1]


def test_python_values_it_names_are_watched():
    class Holder:
        factor = 1.0
    holder = Holder()
    holder.factor = 2.0
    runs = []

    @aj.trace
    def f(x):
        runs.append(1)
        return x * holder.factor
    assert f(aj.ones(1)).item() == 2 and f(aj.ones(1)).item() == 2 and len(runs) == 1
    holder.factor = 5.0
    assert f(aj.ones(1)).item() == 5 and len(runs) == 2


def test_a_training_step_inside():
    def make():
        p = aj.tensor([1.0, 1.0], requires_grad=True)
        m = aj.zeros(2)

        def step(x):
            loss = ((x * p) ** 2).sum()
            p.grad = None
            loss.backward()
            with aj.no_grad():
                m.mul_(0.9).add_(p.grad)
                p.sub_(0.1 * m)
            return loss
        return p, m, step
    p1, m1, eager = make()
    p2, m2, step = make()
    traced = aj.trace(step)
    for k in range(5):
        x = aj.tensor([1.0, 0.5 * k])
        assert close(eager(x), traced(x))
        assert close(p1, p2) and close(m1, m2) and close(p1.grad, p2.grad)
    assert p1._version == p2._version and p2.is_leaf
    assert sum(map(len, traced.plans.values())) == 2     # .grad is None at first, and not later


def test_in_place_on_arguments_is_written_back():
    @aj.trace
    def f(x):
        x.mul_(2)
        return x.sum()
    x = aj.ones(3)
    assert f(x).item() == 6 and x.tolist() == [2, 2, 2] and x._version == 1
    assert f(x).item() == 12 and x.tolist() == [4, 4, 4]


def test_gradients_from_outside_are_followed_through_their_tensors():
    def make():
        a, b = (aj.tensor([v, 1.0], requires_grad=True) for v in (1.0, 2.0))

        def change():
            with aj.no_grad():
                b.grad.mul_(0.5)
                for p in (a, b):
                    p.sub_(p.grad if p.grad.sum() < 3 else p.grad * 0.1)
        return a, b, change
    a, b, eager = make()
    c, d, change = make()
    traced = aj.trace(change)
    for k in range(6):
        for p, q in ((a, c), (b, d)):
            p.grad, q.grad = aj.ones(2) * k, aj.ones(2) * k
        before = d.grad._version
        eager(), traced()
        assert close(a, c) and close(b, d) and close(b.grad, d.grad) and d.grad._version == before + 1
    assert sum(map(len, traced.plans.values())) == 3      # one for each way
    shared = aj.ones(2)
    a.grad = b.grad = shared
    c.grad = d.grad = aj.ones(2)
    for _ in range(2):
        eager(), traced()
        assert close(a, c) and close(b, d)
    a.grad, b.grad, c.grad, d.grad = shared, aj.ones(2) * 7, aj.ones(2) * c.grad, aj.ones(2) * 7
    eager(), traced()
    assert close(a, c) and close(b, d)
    d.grad = None
    with pytest.raises(AttributeError):
        traced()


def test_what_it_writes_may_have_been_read_before():
    def make():
        c, w = aj.tensor([1.0, 3.0]), aj.tensor([2.0, -1.0], requires_grad=True)

        def f(x):
            y = (w * x.mul_(2) + c).square().sum()
            with aj.no_grad():
                c.mul_(0.5)
            return y, (w * w).sum()
        return f, w
    (f, w), (g, v) = make(), make()
    g = aj.trace(g)
    for k in range(3):
        a, b = f(aj.tensor([1.0, k])), g(aj.tensor([1.0, k]))
        (a[0] * a[1]).backward(), (b[0] * b[1]).backward()
        assert close(a[0], b[0]) and close(w.grad, v.grad)
    other = aj.trace(lambda x: (v * x).sum())
    x = aj.ones(2)
    y = other(x)
    x.zero_()                                             # what others write is still refused
    with pytest.raises(RuntimeError, match="modified by an inplace"):
        y.backward()


def test_nests_in_and_out():
    @aj.trace
    def f(tree, n):
        return {"sum": tree["a"] + tree["b"][0], "rest": (tree["b"][1] * 2, n, None)}
    out = f({"a": aj.ones(2), "b": [aj.ones(2), aj.ones(1)]}, 7)
    assert out["sum"].tolist() == [2, 2] and out["rest"][0].tolist() == [2] and out["rest"][1:] == (7, None)


def test_arrays_and_floats_are_data():
    @aj.trace
    def f(a, s):
        return (a * s).sum()
    assert f(np.ones(3), 2.0).dtype is aj.float64
    assert f(np.ones(3, np.float32), np.float32(0.1)).dtype is aj.float32


def test_a_value_read_inside_says_where_and_what_to_do():
    @aj.trace
    def f(x):
        return x * x.sum().item()
    with pytest.raises(TraceError, match="traced function") as e:
        f(aj.ones(2))
    notes = "\n".join(e.value.__notes__)
    assert "test_tracing.py" in notes and "aj.where" in notes
    assert f.fn(aj.ones(2)).tolist() == [2, 2]            # nothing is left behind


def test_a_leaked_tensor_is_an_error():
    kept = []

    @aj.trace
    def f(x):
        kept.append(x * 2)
        return x
    f(aj.ones(2))
    with pytest.raises(TraceError, match="after the trace"):
        kept[0] + 1


def test_an_error_inside_leaves_the_world_as_it_was():
    w = aj.tensor([1.0], requires_grad=True)

    @aj.trace
    def f(x):
        with aj.no_grad():
            w.add_(1)
        raise KeyError("user")
    with pytest.raises(KeyError):
        f(aj.ones(1))
    assert w.tolist() == [1.0] and w._version == 0


def test_no_grad_and_detach_inside_are_respected():
    def f(x):
        with aj.no_grad():
            c = x * x
        return (c * x + x.detach() * x).sum()
    x = aj.tensor([2.0, 3.0], requires_grad=True)
    y = aj.tensor([2.0, 3.0], requires_grad=True)
    f(x).backward(), aj.trace(f)(y).backward()
    assert x.grad.tolist() == y.grad.tolist() == [6.0, 12.0]
    value, g = aj.value_and_grad(aj.trace(f))(aj.tensor([2.0, 3.0]))
    assert g.tolist() == [6.0, 12.0] and value.item() == f(x).item()


def test_second_derivatives_through_a_traced_call():
    @aj.trace
    def f(x):
        return (x ** 3).sum()
    x = aj.tensor([1.0, 2.0], requires_grad=True)
    g, = aj.autograd.grad(f(x), x, create_graph=True)
    h, = aj.autograd.grad(g.sum(), x)
    assert g.tolist() == [3, 12] and h.tolist() == [6, 12]


def test_traced_in_traced():
    @aj.trace
    def inner(x):
        return x.exp()

    @aj.trace
    def outer(x):
        return (inner(x) * inner(x)).sum()
    x = aj.zeros(2, requires_grad=True)
    outer(x).backward()
    assert x.grad.tolist() == [2, 2]


def test_value_and_grad_forms():
    def f(w, x):
        return (w["a"] * x).sum() + w["b"] ** 2, x * 2
    for g in (f, aj.trace(f)):
        (value, aux), grads = aj.value_and_grad(g, has_aux=True)({"a": aj.ones(2), "b": aj.tensor(3.0)}, aj.tensor([1.0, 2.0]))
        assert value.item() == 12 and grads["a"].tolist() == [1, 2] and grads["b"].item() == 6 and aux.tolist() == [2, 4]
    for g in (lambda x, y: x * y, aj.trace(lambda x, y: x * y)):
        assert aj.grad(g, argnums=(0, 1))(2.0, 3.0) == (3.0, 2.0)
    value, g = aj.value_and_grad(aj.trace(lambda a: (a ** 2).sum()))(np.array([1.0, 2.0]))
    assert isinstance(g, np.ndarray) and g.tolist() == [2, 4]


def test_grad_refuses_what_has_none():
    with pytest.raises(RuntimeError, match="one floating number"):
        aj.grad(lambda x: x * 2)(aj.ones(3))
    with pytest.raises(RuntimeError, match="floating"):
        aj.grad(lambda x: x.sum())(aj.tensor([1, 2]))
    with pytest.raises(RuntimeError, match="one floating number"):
        aj.grad(aj.trace(lambda x: x * 2))(aj.ones(3))
    for bad in (3, "a", True):
        with pytest.raises(TypeError, match="only floating numbers"):
            aj.grad(lambda x: x ** 2)(bad)
    with pytest.raises(TypeError, match="argnums"):
        aj.grad(lambda x: x.sum(), argnums="a")(aj.ones(3))
    with pytest.raises(ValueError, match="argnums"):
        aj.grad(lambda x: x.sum(), argnums=2)(aj.ones(3))


def test_vjp_pulls_more_than_once():
    y, pull = aj.vjp(lambda a, b: (a * b, a.sum()), aj.ones(2), aj.tensor([2.0, 3.0]))
    for _ in range(2):
        ga, gb = pull((aj.tensor([1.0, 10.0]), aj.tensor(5.0)))
        assert ga.tolist() == [7, 35] and gb.tolist() == [1, 10]


def test_grad_of_grad_nests_and_traces():
    f = lambda x: (x ** 4).sum()
    want = [12.0, 48.0]
    inner = aj.grad(f)
    second = aj.grad(lambda x: inner(x).sum())
    assert second(aj.tensor([1.0, 2.0])).tolist() == want
    assert aj.trace(second)(aj.tensor([1.0, 2.0])).tolist() == want


def test_methods_and_trace_of_a_matrix():
    class Model:
        def __init__(self):
            self.w = aj.tensor(2.0)

        @aj.trace
        def __call__(self, x):
            return x * self.w
    m = Model()
    assert m(aj.ones(2)).tolist() == [2, 2]
    assert aj.trace(aj.eye(3)).item() == 3


def test_static_argnums():
    @aj.trace
    def f(x, kind):
        return x * len(kind)
    with pytest.raises(TypeError, match="hashable"):
        f(aj.ones(1), bytearray(b"abc"))
    g = aj.trace(lambda x, kind: x * kind[1], static_argnums=(1,))
    assert g(aj.ones(1), ("a", 4)).item() == 4


def test_places_and_divisors_are_checked_at_each_run():
    pick = aj.trace(lambda x, i: x[i] * 1)
    assert pick(aj.tensor([1.0, 2.0]), aj.tensor([1, 0])).tolist() == [2, 1]
    with pytest.raises(IndexError, match="index 7 is out of bounds") as e:
        pick(aj.tensor([1.0, 2.0]), aj.tensor([0, 7]))
    assert "test_tracing.py" in "".join(e.value.__notes__)
    computed = aj.trace(lambda x, i: (x[i + 1] ** 2).sum())
    x = aj.tensor([1.0, 2.0, 3.0], requires_grad=True)
    assert computed(x, aj.tensor([0, 1])).item() == 13
    with pytest.raises(IndexError, match="index 3 is out of bounds"):
        computed(x, aj.tensor([0, 2]))
    for f in (aj.value_and_grad(computed), aj.value_and_grad(aj.trace(lambda x, i: (x[i] ** 2).sum()))):
        f(aj.tensor([1.0, 2.0]), aj.tensor([0])), f(aj.tensor([1.0, 2.0]), aj.tensor([0]))
        with pytest.raises(IndexError):
            f(aj.tensor([1.0, 2.0]), aj.tensor([5]))
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        aj.trace(lambda a, b: a // b)(aj.tensor([1, 2]), aj.tensor([1, 0]))


def test_computed_places_never_leave_memory(compiled):
    f = aj.trace(lambda x, i: x[i * 1000])
    with pytest.raises(IndexError):
        f(aj.ones(4), aj.tensor([1 << 40, -(1 << 40)]))


def test_second_derivatives_are_refused_where_the_recording_has_lost_them():
    f = aj.trace(lambda x: (x.detach() * x * x).sum())
    x = aj.tensor([1.0, 2.0], requires_grad=True)
    assert aj.autograd.grad(f(x), x)[0].tolist() == [2, 8]
    with pytest.raises(RuntimeError, match="keeps only its first derivative"):
        aj.autograd.grad(f(x), x, create_graph=True)


def test_arrays_made_inside_and_random_draws():
    f = aj.trace(lambda x: (x * aj.tensor([1.0, 2.0, 3.0])).sum())
    x = aj.ones(3, requires_grad=True)
    f(x).backward()
    assert x.grad.tolist() == [1, 2, 3]
    draw = aj.trace(lambda x: x * aj.rand(50))
    aj.manual_seed(3)
    a, b = draw(aj.ones(50)), draw(aj.ones(50))
    aj.manual_seed(3)
    assert a.tolist() != b.tolist() and aj.rand(50).tolist() == a.tolist()


def test_the_short_way_gives_way(compiled):
    """The function written for a signature answers for it alone; everything else goes the general way, with equal results."""
    scale = 2.0
    f = aj.trace(lambda x, y: ((x * y) ** 2).sum() * scale)
    for argnums in (0, (0, 1)):
        g = aj.value_and_grad(f, argnums=argnums)
        x, y = aj.tensor([1.0, 2.0]), aj.tensor([3.0, 4.0])
        want = g(x, y)
        for _ in range(12):
            got = g(x, y)
        assert g._short.calls and f.last.program.native is not None
        assert got[0].item() == want[0].item() == 146.0
        grads = [got[1]] if argnums == 0 else list(got[1])
        assert [t.tolist() for t in grads] == ([[36.0, 128.0]] if argnums == 0 else [[36.0, 128.0], [12.0, 64.0]])
        kept = got[0]
        x.add_(1)                                             # other memory
        assert g(x, y)[0].item() == 2 * (36 + 144) and kept.item() == 146
        assert g(aj.tensor([[1.0, 1.0], [2.0, 2.0]])[0], y)[0].item() == 50   # a view
        assert g(aj.ones(3), aj.ones(3))[0].item() == 6        # another shape
        assert g(np.ones(2), np.ones(2))[0].item() == 4        # arrays
        assert g(aj.ones(2, dtype=aj.float64), aj.ones(2, dtype=aj.float64))[0].dtype is aj.float64
        wants = aj.ones(2, requires_grad=True)                 # an outer derivative
        assert g(wants, y)[0].requires_grad
        with pytest.raises((TypeError, ValueError)):
            g(x)
    scale = 3.0
    assert g(aj.ones(2), aj.ones(2))[0].item() == 6


HELPER_SCALE = 2.0


def helper(x, power=2):
    return x ** power * HELPER_SCALE


def test_values_behind_the_function_are_watched_too():
    global HELPER_SCALE
    f = aj.trace(lambda x: helper(x).sum())
    assert f(aj.ones(2)).item() == 4
    HELPER_SCALE = 5.0
    assert f(aj.ones(2)).item() == 10
    helper.__defaults__ = (3,)
    assert f(aj.ones(2) * 2).item() == 80
    helper.__defaults__, HELPER_SCALE = (2,), 2.0

    box, table, array = [2.0], {"k": 3.0}, np.ones(2, np.float32)
    g = aj.trace(lambda x: (x * box[0] + table["k"]) * array[0])
    assert g(aj.ones(1)).item() == 5
    box[0] = 4.0
    assert g(aj.ones(1)).item() == 7
    table["k"] = 0.0
    assert g(aj.ones(1)).item() == 4
    array[0] = 10
    assert g(aj.ones(1)).item() == 40


def test_methods_follow_their_object():
    class M:
        def __init__(self):
            self.w, self.k = aj.ones(2), 1.0

        @aj.trace
        def f(self, x):
            return x * self.w * self.k
    m = M()
    assert m.f(aj.ones(2)).tolist() == [1, 1]
    m.w = aj.ones(2) * 5
    assert m.f(aj.ones(2)).tolist() == [5, 5]
    m.k = 2.0
    assert m.f(aj.ones(2)).tolist() == [10, 10]


def test_methods_tell_of_themselves_and_bind():
    class M:
        def __init__(self):
            self.w = np.array([1.0, 2.0])

        @aj.trace
        def f(self, x):
            return (x * self.w).sin()
    m, x = M(), np.ones(2)
    assert np.allclose(m.f(x).numpy(), np.sin(m.w))
    assert "sin" in m.f.source() and "sin" in m.f.graph() and m.f.explain().startswith("f: 1 recordings")
    assert m.f.explain() == M.f.explain()
    step = m.f.bind(x)
    x[:] = 2.0
    assert np.allclose(step().numpy(), np.sin(2 * m.w))


@pytest.mark.parametrize("argnums", [0, -1, (0, 1), (-1,)])
def test_a_method_and_its_gradient_are_one_program(argnums):
    class M:
        def __init__(self, k):
            self.w, self.k = np.array([1.0, 2.0]), k

        @aj.trace
        def loss(self, x, y):
            return ((x * self.w).sin() * y * self.k).sum()

    def direct(m, x, y):
        return aj.value_and_grad(lambda x, y: ((x * aj.tensor(m.w)).sin() * y * m.k).sum(), argnums)(x, y)

    def close(a, b):
        return all(np.allclose(p, q) for p, q in zip(tree.flatten(a)[0], tree.flatten(b)[0], strict=True))
    x, y, m, n = np.array([0.3, 0.5]), np.array([2.0, 3.0]), M(1.0), M(3.0)
    f, g = aj.value_and_grad(m.loss, argnums), aj.value_and_grad(n.loss, argnums)
    for _ in range(4):
        assert close(f(x, y), direct(m, x, y)) and close(g(x, y), direct(n, x, y))
    assert "with its gradient" in m.loss.explain()        # not the tape over a recorded forward pass
    m.w, m.k = np.array([5.0, 6.0]), 2.0
    assert close(f(x, y), direct(m, x, y))
    assert close(aj.grad(m.loss, argnums)(x, y), direct(m, x, y)[1])
    assert close(f.bind(x, y).grads, direct(m, x, y)[1])
    with pytest.raises(ValueError, match="argnums says 2, but the function was called with 2 positional"):
        aj.value_and_grad(m.loss, 2)(x, y)
    with pytest.raises(ValueError, match="argnums says -3, but the function was called with 2 positional"):
        aj.value_and_grad(m.loss, -3)(x, y)


def test_what_cannot_be_traced_says_so():
    def numbers(x):
        yield x
    for bad in (5, numbers):
        with pytest.raises(TypeError):
            aj.trace(bad)


def test_zero_dimensions_stay_zero():
    y = aj.trace(lambda x: (x * 2).sum())(aj.ones(()))
    assert y.shape == y.numpy().shape == () and y.tolist() == 2.0


def test_constant_programs_run_twice(compiled):
    for tier in ("auto", "compile", "numpy"):
        aj.config.tier = tier
        for _ in range(3):
            w = aj.ones(3, requires_grad=True)
            (w * w).sum().backward()
            c = aj.ones(3) * 2 + 1
            assert w.grad.tolist() == [2, 2, 2] and (aj.ones(2, 3) @ aj.ones(3, 2)).tolist() == [[3, 3], [3, 3]]
            assert (aj.tensor([1.0, 2.0, 3.0]) + c).tolist() == [4, 5, 6] and c.tolist() == [3, 3, 3]
            aj.wait_compiled()


def test_explain_says_what_was_new():
    @aj.trace
    def f(x, how):
        return x * len(how)
    f(aj.ones(3), "ab"), f(aj.ones(4), "ab"), f(aj.ones(4), "abc"), f(aj.ones(4, requires_grad=True), "abc")
    aj.value_and_grad(f)(aj.ones(1), "abc")
    text = f.explain()
    for word in ("the first call", "argument 0 is f32[4], was f32[3]", "argument 1 is 'abc', was 'ab'",
                 "argument 0 is f32[4] that requires grad, was f32[4]", "with its gradient"):
        assert word in text


def test_random_numbers_are_drawn_once_a_call():
    """A function that writes and returns something differentiable: value and gradient see the same numbers."""
    count = aj.zeros(())

    @aj.trace
    def f(x):
        with aj.no_grad():
            count.add_(1)
        return (x * aj.rand(20)).sum()
    for _ in range(3):
        x = aj.ones(20, requires_grad=True)
        y = f(x)
        y.backward()
        assert abs(x.grad.sum().item() - y.item()) < 1e-5
    assert count.item() == 3
