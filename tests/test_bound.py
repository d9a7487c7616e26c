"""Bound calls: arguments and results fixed in memory, no Python in between, nothing copied, nothing lost."""

from __future__ import annotations

import ctypes
import gc
import os
import threading
import weakref

import numpy as np
import pytest

import autojit as aj
from autojit.errors import TraceError

RNG = np.random.default_rng(0)


def squares(w, x, y):
    return ((x @ w - y) ** 2).mean()


def data(n=5, k=3):
    return RNG.standard_normal(k), RNG.standard_normal((n, k)), RNG.standard_normal(n)


def test_arrays_are_read_where_they_lie():
    w, x, y = data()
    vg = aj.value_and_grad(aj.trace(squares), argnums=(0, 1))
    b = vg.bind(w, x, y)
    value, (gw, gx) = b.value, b.grads
    assert type(gw) is np.ndarray and isinstance(value, aj.Tensor)
    for _ in range(3):
        w += RNG.standard_normal(3)
        y[0] += 1
        assert b() is value and b.grads[0] is gw and b.grads[1] is gx
        wanted, (ww, wx) = vg(w, x, y)
        assert np.allclose(value.item(), wanted.item()) and np.allclose(gw, ww) and np.allclose(gx, wx)
    assert b.run() is value


def test_tensors_are_read_where_they_lie():
    w, x, y = map(aj.tensor, data())
    w.requires_grad_()
    b = aj.value_and_grad(squares).bind(w, x, y)
    before = b.grads.clone()
    with aj.no_grad():
        w -= 0.1 * b.grads
    b()
    fresh = w.detach().clone().requires_grad_()
    loss = squares(fresh, x, y)
    loss.backward()
    assert np.allclose(b.value.item(), loss.item()) and np.allclose(b.grads, fresh.grad)
    assert not np.allclose(before, b.grads) and not b.grads.requires_grad and w.requires_grad
    expression = b.grads * 2                              # what was read before a call is what it was
    old = b.grads.tolist()
    x.mul_(2)
    b()
    assert expression.tolist() == [2 * v for v in old] != (b.grads * 2).tolist()


def test_a_training_loop_in_place():
    w, x, y = data(40)
    b = aj.value_and_grad(squares).bind(w, x, y)
    first = b.value.item()
    for _ in range(200):
        w -= 0.1 * b.grads
        b()
    assert b.value.item() < first and np.abs(b.grads).max() < 1e-3


def test_nests_floats_and_static_arguments():
    params = {"w": np.array([1.0, 2.0]), "b": [np.array(0.5), np.ones(2)]}

    def f(p, scale, mode):
        out = (p["w"] * p["b"][1]).sum() + p["b"][0]
        return out * scale if mode == "times" else out
    b = aj.value_and_grad(f, argnums=(0, 1)).bind(params, 3.0, "times")
    g, gs = b.grads
    assert b.value.item() == 10.5 and g["w"].tolist() == [3, 3] and float(g["b"][0]) == 3 and gs.item() == 3.5
    params["w"][0] = 5
    b()
    assert b.value.item() == 22.5 and gs.item() == 7.5


def test_aux_values_alone_and_gradients_of_gradients():
    x = np.array([1.0, 2.0])
    b = aj.value_and_grad(lambda x: ((x ** 3).sum(), x * 2), has_aux=True).bind(x)
    x[0] = 3
    value, aux = b()
    assert value.item() == 35 and aux.tolist() == [6, 4] and b.grads.tolist() == [27, 12]
    t = aj.trace(lambda x: {"twice": x * 2, "n": 3}).bind(x)
    x[1] = 7
    assert t()["twice"].tolist() == [6, 14] and t.value["n"] == 3 and t.grads is None
    s = np.array(2.0)
    h = aj.grad(aj.grad(lambda x: x ** 3)).bind(s)
    s[...] = 5.0
    assert h().item() == 75 and float(h.grads) == 30


def test_captured_tensors_are_bound_by_memory():
    base = aj.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    row, fixed = base[1], aj.tensor([1.0, 1.0])
    b = aj.value_and_grad(lambda x: (x * row * fixed).sum()).bind(x := aj.ones(2))
    assert b().item() == 7
    with aj.no_grad():
        base[1] = aj.tensor([10.0, 20.0])
    fixed[0] = 2
    assert b().item() == 40 and b.grads.tolist() == [20, 20] and x.tolist() == [1, 1]


def test_the_c_function_from_ctypes_and_from_njit():
    import numba
    w, x, y = data()
    b = aj.value_and_grad(squares).bind(w, x, y)
    call = ctypes.CFUNCTYPE(ctypes.c_int64)(b.address)
    assert b.address == b.address
    w += 1
    assert call() == 0
    value, grads = b.value.item(), b.grads.copy()
    b()
    assert value == b.value.item() and (grads == b.grads).all()
    g = b.grads

    @numba.njit
    def descend(w, g, steps):
        status = 0
        for _ in range(steps):
            w -= 0.05 * g
            status |= call()
        return status
    expected = w.copy()
    for _ in range(50):
        expected -= 0.05 * aj.value_and_grad(squares)(expected, x, y)[1]
    b()
    assert descend(w, g, 50) == 0 and np.allclose(w, expected)


def test_the_builtin_keeps_all_it_needs():
    w, x, y = data()
    b = aj.value_and_grad(squares).bind(w, x, y)
    run, alive = b.run, weakref.ref(x)
    wanted = run().item()
    del b, x
    gc.collect()
    assert run().item() == wanted and alive() is not None
    del run
    gc.collect()
    assert alive() is None                                # and nothing else does


def test_memory_goes_with_the_binding():
    x = aj.trace(lambda x: x * 2).bind(np.ones(1 << 16))
    alive = weakref.ref(x.value)
    x.address
    del x
    assert alive() is None


# ---------------------------------------------------------------- indices
def nll(logits, labels):
    return -(logits.log_softmax(1)[aj.arange(logits.shape[0]), labels]).mean()


def test_an_index_out_of_range_raises_in_the_call():
    logits, labels = RNG.standard_normal((4, 3)), np.array([0, 1, 2, 0])
    vg = aj.value_and_grad(nll)
    b = vg.bind(logits, labels)
    labels[1] = 3
    with pytest.raises(IndexError) as e:
        b()
    line = nll.__code__.co_firstlineno + 1
    assert any(f"{__file__}:{line}" in note for note in e.value.__notes__)
    call = ctypes.CFUNCTYPE(ctypes.c_int64)(b.address)
    status = call()
    assert status != 0
    with pytest.raises(IndexError):
        b.check(status)
    labels[1] = -3                                        # from the end, as ever
    b()
    assert np.allclose(b.value.item(), vg(logits, labels)[0].item()) and np.allclose(b.grads, vg(logits, labels)[1])
    b.check(call())
    labels[0] = -4
    with pytest.raises(IndexError):
        b()


def test_labels_and_embeddings_with_computed_places():
    table, ids = RNG.standard_normal((5, 2)), np.array([0, 1, 1])
    b = aj.value_and_grad(lambda t, i: (t[i + 1] ** 2).sum()).bind(table, ids)
    ids[0] = 3
    b()
    assert np.allclose(b.value.item(), (table[ids + 1] ** 2).sum())
    ids[2] = 4
    with pytest.raises(IndexError):
        b()
    logits, labels = RNG.standard_normal((4, 3)), np.array([0, -100, 2, 0])
    c = aj.value_and_grad(lambda z, y: aj.nn.functional.cross_entropy(z, y)).bind(logits, labels)
    assert np.allclose(c.value.item(), aj.nn.functional.cross_entropy(aj.tensor(logits), aj.tensor(labels)).item())
    labels[0] = 3
    with pytest.raises(IndexError):
        c()
    with pytest.raises(IndexError):
        aj.value_and_grad(nll).bind(logits, labels)


# ---------------------------------------------------------------- writes
def test_a_step_of_an_integrator():
    def step(x, v, dt):
        v.sub_(x * dt)
        x.add_(v * dt)
        return (x ** 2 + v ** 2).sum()
    x, v = np.array([1.0, 0.5]), aj.tensor([0.0, 1.0], dtype=aj.float64)
    y, u = aj.tensor(x), v.clone()
    b = aj.trace(step).bind(x, v, 0.125)
    assert x.tolist() == [1, 0.5] and b.value.item() == 0      # binding takes no step
    for _ in range(20):
        wanted = step(y, u, 0.125)
        assert np.allclose(b().item(), wanted.item(), 1e-14)
    assert np.allclose(x, y, 1e-14) and np.allclose(v, u, 1e-14)
    call = ctypes.CFUNCTYPE(ctypes.c_int64)(b.address)
    step(y, u, 0.125), call()
    assert np.allclose(x, y, 1e-14)


@pytest.mark.parametrize("make", [lambda p: aj.optim.SGD(p, lr=0.1), lambda p: aj.optim.SGD(p, lr=0.1, momentum=0.9)])
def test_a_whole_training_step(make):
    x, y = aj.tensor(RNG.standard_normal((20, 3))), aj.tensor(RNG.standard_normal(20))

    def training():
        w = aj.tensor([1.0, 2.0, 3.0], dtype=aj.float64, requires_grad=True)
        optimiser = make([w])

        def step(x, y):
            loss = ((x @ w - y) ** 2).mean()
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            return loss
        return w, step
    (w, step), (v, bound) = training(), training()
    b = aj.trace(bound).bind(x, y)
    for _ in range(10):
        wanted = step(x, y)
        assert np.allclose(b().item(), wanted.item(), 1e-12)
    assert np.allclose(w.detach(), v.detach(), 1e-12) and v.grad is None and v.requires_grad


def test_writes_that_cannot_be_bound():
    w = aj.tensor([1.0], requires_grad=True)

    def backward(x):
        loss = (w * x).sum()
        loss.backward()
        return loss.detach()
    with pytest.raises(RuntimeError, match=".grad"):
        aj.trace(backward).bind(x := aj.ones(1))
    assert w.grad is None
    w.grad = aj.ones(1)
    b = aj.trace(backward).bind(x)                        # now it accumulates
    b(), b()
    assert w.grad.tolist() == [3]

    def add(x, y):
        x.add_(y)
        return x
    x = np.ones(4)
    with pytest.raises(RuntimeError, match="share"):
        aj.trace(add).bind(x, x)
    with pytest.raises(RuntimeError, match="share"):
        aj.trace(add).bind(x[:3], x[1:])
    aj.trace(add).bind(x[:2], x[2:])()
    assert x.tolist() == [2, 2, 1, 1]
    frozen = np.ones(2)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        aj.trace(add).bind(frozen, x[:2])

    def take(x, i):
        x.add_(1)
        return x[i]
    i = np.array([0])
    b = aj.trace(take).bind(x, i)
    i[0] = 4
    with pytest.raises(IndexError):
        b()
    assert x.tolist() == [2, 2, 1, 1]                     # nothing is written


# ---------------------------------------------------------------- refused
def test_what_has_no_memory_to_read_is_refused():
    vg = aj.value_and_grad(lambda x: (x ** 2).sum())
    x = np.ones((4, 4))
    for bad in (x.T[1:], x[:, :2], x.astype(">f8"), np.frombuffer(b"\0" * 17, np.uint8)[1:].view("f8")):
        with pytest.raises(ValueError) as e:
            vg.bind(bad)
        assert any("hint" in n for n in e.value.__notes__)
    with pytest.raises(ValueError, match="not contiguous"):
        vg.bind(aj.ones(4, 4)[:, 1])
    t = aj.zeros(4, 4)
    b = vg.bind(t[1])                                     # a view that lies in one piece
    t[1, 0] = 3
    assert b().item() == 9
    for bad in (np.ones(2, np.uint32), np.ma.masked_array([1.0], [True]), np.array([None])):
        with pytest.raises(TypeError):
            vg.bind(bad)
    for bad in (np.ones(2, int), np.ones(2, complex), 3, "x"):
        with pytest.raises((RuntimeError, TypeError)):
            vg.bind(bad)
    with pytest.raises(ValueError, match="argnums"):
        vg.bind()


def test_what_needs_python_is_refused_by_name():
    for f, word in ((lambda x: aj.polygamma(101, x).sum(), "polygamma"),):
        with pytest.raises(RuntimeError, match=word):
            aj.value_and_grad(f).bind(np.ones(2))
    with pytest.raises(TraceError, match="value"):
        aj.value_and_grad(lambda x: x.sum() if x.sum() > 0 else -x.sum()).bind(np.ones(2))
    with pytest.raises(TraceError, match="traced"):
        aj.trace(lambda x: aj.value_and_grad(lambda y: y.sum()).bind(x))(aj.ones(2))
    with pytest.raises(RuntimeError, match="one floating number"):
        aj.value_and_grad(lambda x: x * 2).bind(np.ones(2))
    b = aj.value_and_grad(lambda x: x.sum()).bind(np.ones(2))
    with pytest.raises(TypeError):
        b(1)


# ---------------------------------------------------------------- threads and forks
def test_two_threads_do_not_meet():
    x = RNG.standard_normal(20_000)
    b = aj.value_and_grad(lambda x: (x.sin() * x).sum()).bind(x)
    wanted, grads = b().item(), b.grads.copy()
    b.grads[:] = 0
    call = ctypes.CFUNCTYPE(ctypes.c_int64)(b.address)
    told = []

    def work(k):                                          # only what a run says: its results may be another's by now
        told.extend([call() if k else 0 if b() is b.value else 1 for _ in range(200)])
    threads = [threading.Thread(target=work, args=(k % 2,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert told == [0] * 800 and b.value.item() == wanted and (b.grads == grads).all()


def test_who_reads_under_a_lock_reads_their_own():
    x = RNG.standard_normal(20_000)
    b = aj.value_and_grad(lambda x: (x.sin() * x).sum()).bind(x)
    lock, read = threading.Lock(), []

    def work():
        for _ in range(100):
            with lock:
                read.append(b().item())
    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert set(read) == {b().item()} and len(read) == 400


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_may_call_it():
    x = np.ones(4)
    b = aj.value_and_grad(lambda x: (x ** 2).sum()).bind(x)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        x[:] = 2
        os.write(write, f"{b().item()} {b.grads.tolist()}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 100).decode() == "16.0 [4.0, 4.0, 4.0, 4.0]"
    os.close(read), os.close(write)
    assert b().item() == 4


def test_empty_and_0d():
    x = np.empty((0, 3))
    b = aj.value_and_grad(lambda x: x.sum()).bind(x)
    assert b().item() == 0 and b.grads.shape == (0, 3)
    s = np.array(2.0, np.float32)
    b = aj.value_and_grad(lambda s: s * s).bind(s)
    s[...] = 3
    assert b().item() == 9 and float(b.grads) == 6 and b.grads.dtype == np.float32
