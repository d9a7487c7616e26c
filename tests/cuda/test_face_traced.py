"""Traced functions on a device: signatures, arguments that are moved, draws, writes, places, the short way."""

from __future__ import annotations

import numpy as np
import pytest

import autojit as aj
from autojit.backends import devices
from autojit.config import config
from autojit.errors import TraceError

from .front import KINDS, opened, quiet


@pytest.fixture(autouse=True, params=KINDS)
def device(request):
    yield from opened(request)


def test_a_traced_function_works_where_its_tensors_are(device):
    @aj.trace
    def f(w, x, rate):
        return ((w * x).sin() ** 2).sum() * rate

    w, x = aj.tensor([1.0, 2.0], device="cuda", requires_grad=True), aj.tensor([0.5, 2.0], device="cuda")
    c, d = w.detach().cpu().requires_grad_(), x.cpu()
    quiet(device)
    for rate in (0.5, 0.25, 0.25):
        f(w, x, rate).backward()
        f(c, d, rate).backward()
    assert quiet(device) == (0, 0) and w.grad.is_cuda
    np.testing.assert_allclose(w.grad.tolist(), c.grad.tolist(), rtol=1e-6)
    assert "@cuda" in f.graph() or "cuda" not in f.graph()
    assert sum(map(len, f.plans.values())) == 2           # one for each device
    value, grad = aj.value_and_grad(f)(x, x, 0.5)
    assert value.is_cuda and grad.is_cuda and isinstance(aj.grad(f, 2)(x, x, 0.5), float)
    out, pull = aj.vjp(lambda x: x.sin(), x)
    assert out.is_cuda and pull(x)[0].is_cuda
    assert ("kernels of the fake device" in f.source() or "def kernel0(" in f.source()) and "on cuda" in f.explain()
    with pytest.raises(RuntimeError, match="same device"):
        f(w, d, 0.5)


def test_trace_moves_arguments():
    @aj.trace(device="cuda")
    def f(x, y):
        return (x * y).sum(), aj.zeros(2), 3

    c = aj.tensor([1.0, 2.0], requires_grad=True)
    a, z, three = f(c, np.array([3.0, 4.0], np.float32))
    assert a.is_cuda and z.is_cuda and three == 3 and a.item() == 11
    a.backward()
    assert c.grad.tolist() == [3, 4] and not c.grad.is_cuda
    value, grad = aj.value_and_grad(aj.trace(lambda x: (x ** 2).sum(), device="cuda"))(np.array([1.0, 2.0]))
    assert value.is_cuda and grad.is_cuda and grad.tolist() == [2, 4]


def test_a_traced_function_over_two_devices(device):
    @aj.trace
    def f(c, x):
        y = (c.exp().cuda() * x).log()
        return (y.cpu() + c).sum(), y

    c, x = aj.tensor([1.0, 2.0], requires_grad=True), aj.tensor([1.0, 1.0], device="cuda")
    total, y = f(c, x)
    assert not total.is_cuda and y.is_cuda and total.item() == pytest.approx(6) and y.tolist() == pytest.approx([1, 2])
    total.backward()
    assert c.grad.tolist() == pytest.approx([2, 2])
    assert f.source().count("# part") == 3


def test_draws_and_writes_of_traced_functions(device):
    @aj.trace
    def f(x):
        return x * aj.rand(3, device="cuda")

    x = aj.ones(3, device="cuda")
    aj.manual_seed(5)
    first, second = f(x).tolist(), f(x).tolist()
    aj.manual_seed(5)
    assert [aj.rand(3).tolist(), aj.rand(3).tolist()] == [first, second] and first != second

    @aj.trace
    def step(w, x):
        w.grad = None
        loss = ((w * x) ** 2).sum()
        loss.backward()
        with aj.no_grad():
            w -= 0.1 * w.grad
        return loss

    w = aj.ones(3, device="cuda", requires_grad=True)
    losses = [step(w, x).item() for _ in range(3)]
    assert losses == pytest.approx([3, 3 * 0.8 ** 2, 3 * 0.8 ** 4]) and w.is_cuda and w._version == 3
    assert w.tolist() == pytest.approx([0.8 ** 3] * 3) and w.grad.is_cuda

    kept = aj.tensor([1.0, 2.0, 3.0], device="cuda")

    @aj.trace
    def captured(x):
        return x + kept + aj.tensor([1.0, 1.0, 1.0], device="cuda")
    assert captured(x).tolist() == [3, 4, 5] and captured(x).tolist() == [3, 4, 5]


def test_places_among_the_arguments_of_a_traced_function(device):
    f = aj.trace(lambda x, i: x[i])
    x, i = aj.arange(3.0, device="cuda"), aj.tensor([0, 2], device="cuda")
    assert f(x, i).tolist() == [0, 2]
    quiet(device)
    f(x, i)
    assert quiet(device) == (0, 0)                        # it has been looked at
    with pytest.raises(IndexError, match="index 3"):
        f(x, aj.tensor([3, 0], device="cuda"))
    with pytest.raises(IndexError, match="index 4"):
        aj.trace(lambda x, i: x[i * 2])(x, i)


def test_branches_on_a_device_s_values(device):
    def f(x, y):
        while (x * x).sum() > 3:
            x = x / 2
        return (x * y).sum() if y.sum() > 0 and x[0] > 0 else (x + y.to("cuda")).sum()

    traced, both = aj.trace(f), aj.value_and_grad(aj.trace(f))
    for k, v in ((1.0, 1.0), (5.0, 1.0), (1.0, -1.0), (-5.0, 1.0), (5.0, 1.0), (1.0, 1.0)):
        x, y = aj.tensor([k, k], device="cuda", requires_grad=True), aj.tensor(v)       # a flag of each device
        wanted = f(x, y)
        wanted.backward()
        assert both(x.detach(), y)[0].item() == traced(x.detach(), y).item() == wanted.item()
        g, x.grad = x.grad, None
        traced(x, y).backward()
        assert x.grad.tolist() == g.tolist() == both(x.detach(), y)[1].tolist()


def test_what_a_device_cannot():
    f = aj.trace(lambda x: (x ** 2).sum())
    x = aj.ones(2, device="cuda")
    for call in (lambda: aj.value_and_grad(f).bind(x), lambda: f.bind(x), lambda: aj.export(f, x, path="x.py")):
        with pytest.raises(RuntimeError, match="works on a device"):
            call()
    with pytest.raises(TraceError, match="read inside a traced function"):
        aj.trace(lambda x: x * x.sum().item())(x)


def test_without_a_gpu_the_words_say_what_is_missing():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "_opened", {})
        patch.setattr(config, "cuda", "off")
        with pytest.raises(RuntimeError, match="AUTOJIT_CUDA|CUDA"):
            aj.zeros(1, device="cuda")
        with pytest.raises(RuntimeError, match="Cannot access accelerator device when none is available"):
            aj.ones(1).to(0)
        f = aj.trace(lambda x: x + 1, device="cuda")      # a module with it can be imported
        with pytest.raises(RuntimeError, match="CUDA"):
            f(aj.ones(1))
        with pytest.raises(RuntimeError, match="device type at start of device string: tpu"):
            aj.trace(lambda x: x, device="tpu")


def test_the_short_way_on_a_device(device):
    f = aj.trace(lambda w, x, rate: ((w * x).sin() ** 2).sum() * rate)
    w, x = aj.tensor([1.0, 2.0], device="cuda"), aj.tensor([0.5, 2.0], device="cuda")
    joint = aj.value_and_grad(f, (0, 2))
    want = joint(w, x, 0.5)
    for _ in range(12):
        value, (grad, rate) = joint(w, x, 0.5)
        plain = f(w, x, 0.5)
    assert joint._short.calls and f._short.calls
    quiet(device)
    found = joint._short.calls[0]((w, x, 0.25))
    assert found is not None and found[0].is_cuda and found[0].item() == want[0].item() / 2
    value, (grad, rate) = joint(w, x, 0.5)
    assert grad.tolist() == want[1][0].tolist() and grad.is_cuda and rate == want[1][1] and type(rate) is float
    assert plain.item() == want[0].item() and device.bytes("in") == 0
    c = aj.ones(2)
    with pytest.raises(RuntimeError, match="same device"):
        joint(w, c, 0.5)
    moved = aj.trace(lambda x: x * 2, device="cuda")
    c = aj.tensor([3.0, 4.0])
    for _ in range(12):
        assert moved(np.ones(2)).is_cuda and moved(c).is_cuda
    quiet(device)
    assert len(moved._short.calls) == 2 and moved(np.ones(2)).tolist() == [2, 2] and moved(c).tolist() == [6, 8]
    assert quiet(device) == (16 + 8, 16 + 8) and [call((c,)) is None for call in moved._short.calls].count(False) == 1
    assert moved(x).is_cuda and device.bytes("in") == 8   # the last line's copy: what is there is not sent
    slope = aj.value_and_grad(aj.trace(lambda x, i: (x[i] ** 2).sum(), device="cuda"))
    for _ in range(12):
        value, grad = slope(np.array([1.0, 2.0]), aj.tensor([1, 1]))
        assert grad.is_cuda and grad.tolist() == [0, 8] and value.item() == 8
    assert slope._short.calls
    with pytest.raises(IndexError, match="index 2 is out of bounds"):
        slope(np.array([1.0, 2.0]), aj.tensor([1, 2]))
    index = aj.trace(lambda x, i: x[i])
    i = aj.tensor([1, 0], device="cuda")
    for _ in range(12):
        assert index(x, i).tolist() == [2, 0.5]
    assert index._short.calls
    with pytest.raises(IndexError):
        index(x, aj.tensor([1, 2], device="cuda"))
    computed = aj.trace(lambda x, i: x[i * 2])
    first = aj.tensor([0, 0], device="cuda")
    for _ in range(12):
        assert computed(x, first).tolist() == [0.5, 0.5]
    with pytest.raises(IndexError):
        computed._short.calls[0]((x, i))


