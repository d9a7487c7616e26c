"""The front on a device that the host cannot see (tests/cuda/fake.py): whatever is done there gives what the CPU gives, and
nothing goes between host and device but where a value is looked at or moved."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import autojit as aj
from autojit.engine import programs

from .fake import FakeBackend
from .front import KINDS, opened, quiet


@pytest.fixture(autouse=True, params=KINDS)
def device(request):
    yield from opened(request)


@pytest.fixture
def fake(device):
    """For tests that look into the fake device."""
    if not isinstance(device, FakeBackend):
        pytest.skip("this looks into the fake device")
    return device


def test_creation_is_on_the_device(device):
    x = aj.tensor([1.0, 2.0], device="cuda")
    assert str(x.device) == "cuda:0" and x.is_cuda and x.get_device() == 0 and x.device == aj.device("cuda", 0)
    assert not aj.ones(1).is_cuda and aj.ones(1).get_device() == -1 and aj.ones(1).device == "cpu"
    assert quiet(device) == (8, 0)
    made = [aj.zeros(2, device="cuda"), aj.ones(2, device="cuda:0"), aj.full((2,), 3.5, device=aj.device("cuda")),
            aj.empty(2, device=0), aj.zeros_like(x), aj.ones_like(x), aj.full_like(x, 7.0), x.new_zeros(2), x.new_ones(2),
            x.new_full((2,), 2.0), aj.empty_like(x), x.new_empty(2)]
    assert all([t.is_cuda and str(t.device) == "cuda:0" for t in made])
    assert quiet(device) == (0, 0)                        # numbers alone are written by kernels
    want = [[0, 0], [1, 1], [3.5, 3.5], [0, 0], [0, 0], [1, 1], [7, 7], [0, 0], [1, 1], [2, 2], [0, 0], [0, 0]]
    assert [t.tolist() for t in made] == want
    for t, want in ((aj.arange(3, device="cuda"), [0, 1, 2]), (aj.eye(2, device="cuda"), [[1, 0], [0, 1]]),
                    (aj.linspace(0, 1, 3, device="cuda"), [0, 0.5, 1]), (x.new_tensor([5.0]), [5]),
                    (aj.logspace(0, 2, 3, device="cuda"), [1, 10, 100]), (aj.as_tensor([1], device="cuda"), [1]),
                    (aj.as_tensor(np.ones(2), device="cuda"), [1, 1]), (aj.scalar_tensor(2.0, device="cuda"), 2),
                    (aj.tril_indices(2, 2, device="cuda"), [[0, 1, 1], [0, 0, 1]])):
        assert t.is_cuda and t.tolist() == want
    assert not aj.zeros_like(x, device="cpu").is_cuda and not x.new_ones(2, device="cpu").is_cuda


def test_it_prints_as_torch_does():
    x = aj.tensor([1.0, 2.0], device="cuda", requires_grad=True)
    assert repr(x) == "tensor([1., 2.], device='cuda:0', requires_grad=True)"
    assert repr(x * 2) == "tensor([2., 4.], device='cuda:0', grad_fn=<MulBackward0>)"
    assert repr(x.detach().double()) == "tensor([1., 2.], device='cuda:0', dtype=torch.float64)"
    assert repr(x.cpu().detach()) == "tensor([1., 2.])" and repr(x.device) == "device(type='cuda', index=0)"
    assert f"{x[1]:.1f}" == "2.0" and float(x[0]) == 1.0 and int(x[1]) == 2 and bool(x[0]) and x[1].item() == 2.0
    assert [v.item() for v in x] == [1, 2] and len(x) == 2 and 2.0 in x.detach()


def test_arithmetic_stays_there(device):
    x, y = aj.tensor([[1.0, 2.0], [3.0, 4.0]], device="cuda"), aj.ones(2, device="cuda")
    quiet(device)
    z = ((x @ x + y) * 2.5 - x.sum(0)).exp().log().softmax(-1).T.reshape(-1)[1:]
    w = aj.where(z > 0.5, z, 0.0)
    assert z.is_cuda and w.is_cuda and (z > 0.5).is_cuda and x.max(1).values.is_cuda and x.argmax().is_cuda
    total = w.sum()
    assert quiet(device) == (0, 0)
    c, d = x.cpu(), y.cpu()
    want = ((c @ c + d) * 2.5 - c.sum(0)).exp().log().softmax(-1).T.reshape(-1)[1:]
    want = aj.where(want > 0.5, want, 0.0).sum().item()
    quiet(device)
    assert total.item() == pytest.approx(want, rel=1e-6)
    assert quiet(device) == (0, 4)                        # the one number that was looked at


WORDS = "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"


@pytest.mark.parametrize("op", [lambda a, b: a + b, lambda a, b: b * a, lambda a, b: a @ b, lambda a, b: aj.cat((b, a)),
                                lambda a, b: aj.where(a > 0, a, b), lambda a, b: a.add_(b), lambda a, b: b.mul_(a),
                                lambda a, b: aj.nn.functional.mse_loss(a, b), lambda a, b: b.gather(0, a.long())])
def test_two_devices_do_not_meet(op):
    with pytest.raises(RuntimeError) as e:
        op(aj.ones(2, device="cuda"), aj.ones(2))
    assert str(e.value) == WORDS and 'hint: move it: x.to("cuda")' in e.value.__notes__[-1]


def test_numbers_and_tensors_without_dimensions_go_along(device):
    x = aj.tensor([1.0, 2.0], device="cuda")
    s = aj.tensor(3.0, requires_grad=True)
    quiet(device)
    for k in (3.0, 0.25, True, 7):
        assert (x * k + k).is_cuda and (k - x).is_cuda
    y = x * s + aj.tensor(1.0) * aj.tensor(2.0)
    y.sum().backward()
    assert not s.grad.is_cuda and s.grad.item() == 3.0 and y.tolist() == [5, 8]
    assert device.bytes("in") == 0                        # numbers are no copies
    assert aj.where(x > 1, aj.tensor(5.0), 0.5).tolist() == [0.5, 5]
    pending = aj.tensor([1.0, 2.0]).sum()                 # no number but a result: it is moved
    assert (x + pending).tolist() == [4, 5]
    with pytest.raises(RuntimeError, match="same device"):
        aj.tensor(1.0).add_(x)


def test_moving(device):
    c = aj.tensor([1.0, 2.0])
    x = c.to("cuda")
    assert quiet(device) == (8, 0) and x.is_cuda and x.is_leaf
    assert c.to("cpu") is c and x.to("cuda") is x and x.cuda() is x and x.cpu().tolist() == [1, 2]
    assert x.to("cuda", copy=True) is not x
    assert x.to("cpu", aj.float64).dtype is aj.float64 and c.to(device="cuda", dtype=aj.int64).tolist() == [1, 2]
    assert c.to(x).is_cuda and x.to(c).device == "cpu" and c.to(0).is_cuda and c.cuda(0).is_cuda and c.type_as(x).is_cuda
    assert c.to("cuda", non_blocking=True).is_cuda and c.double().cuda().dtype is aj.float64
    assert c[1:].cuda().tolist() == [2] and x[1:].cpu().tolist() == [2]
    c.copy_(x * 3)
    assert c.tolist() == [3, 6] and not c.is_cuda
    x.copy_(c)
    x.fill_(aj.tensor(4.0))
    assert x.tolist() == [4, 4] and x.is_cuda
    y = c.cuda()
    c.add_(1.0)                                           # a copy is a copy
    assert y.tolist() == [3, 6]


def test_gradients_cross_devices():
    c = aj.tensor([1.0, 2.0], requires_grad=True)
    w = aj.tensor([3.0, 4.0], device="cuda", requires_grad=True)
    moved = c.to("cuda")
    assert moved.grad_fn.name() == "ToCopyBackward0" and not moved.is_leaf
    loss = (((moved * w).cpu() * c).cuda() * w).sum()     # c² w²
    loss.backward()
    assert not c.grad.is_cuda and w.grad.is_cuda and loss.is_cuda
    assert c.grad.tolist() == [18, 64] and w.grad.tolist() == [6, 32]
    (g,) = aj.autograd.grad((c.cuda() ** 3).sum(), c, create_graph=True)
    (h,) = aj.autograd.grad(g.sum(), c)
    assert g.tolist() == [3, 12] and h.tolist() == [6, 12] and not h.is_cuda
    assert c.to("cuda", aj.float64).sum().double().requires_grad
    c.grad = None
    (c.double().cuda().float() * 2).sum().backward()
    assert c.grad.tolist() == [2, 2] and c.grad.dtype is aj.float32


def step(device_name):
    """Everything that training does, as numbers."""
    aj.manual_seed(3)
    w = aj.tensor(np.linspace(-1, 1, 12).reshape(4, 3), dtype=aj.float32, device=device_name, requires_grad=True)
    b = aj.zeros(3, device=device_name, requires_grad=True)
    x = aj.randn(5, 4, device=device_name)
    y = aj.randint(0, 3, (5,), device=device_name)
    opt = aj.optim.SGD([w, b], lr=0.1, momentum=0.9)
    seen, hooked = [], []
    w.register_hook(lambda g: hooked.append(g.abs().sum().item()))
    for _ in range(6):
        opt.zero_grad()
        h = aj.nn.functional.dropout(x @ w + b, 0.25)
        loss = aj.nn.functional.cross_entropy(h, y)
        loss.backward()
        opt.step()
        seen.append(loss.item())
    with aj.no_grad():
        w.mul_(0.5)
        w[1:3, 0] = 7.0
        w.T[0].add_(1.0)
    return seen, hooked, w.tolist(), b.tolist(), w.grad.tolist(), w._version


def test_training_is_as_on_the_cpu(device):
    there, here = step("cuda"), step("cpu")
    for a, b in zip(there, here):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_a_loop_of_known_steps_copies_nothing(device):
    w = aj.tensor([1.0, 2.0], device="cuda", requires_grad=True)
    x = aj.tensor([0.5, 0.25], device="cuda")
    for k in range(8):
        ((w * x).sin() * float(k)).sum().backward()
        if k == 3:
            quiet(device)
    assert quiet(device) == (0, 0) and w.grad.is_cuda
    np.testing.assert_allclose(w.grad.tolist(), 28 * np.array([0.5, 0.25]) * np.cos([0.5, 0.5]), rtol=1e-6)
    zero = aj.zeros(2, device="cuda", requires_grad=True)  # numbers alone, as a leaf
    for _ in range(3):
        (zero * x).sum().backward()
    assert zero.grad.tolist() == [1.5, 0.75]


def test_views_writes_and_versions():
    x = aj.arange(6.0, device="cuda").reshape(2, 3)
    v, d = x.T, x.detach()
    v[0, 1] = 9.0
    x[0] += 1.0
    assert x.tolist() == [[1, 2, 3], [9, 4, 5]] and d.tolist() == x.tolist() and x._version == 3 == d._version
    x.data[0, 0] = 50.0
    assert x[0, 0].item() == 50 and x._version == 3 and v.stride() == (1, 3) and not v.is_contiguous()
    assert v.contiguous().is_contiguous() and x.storage_offset() == 0 and x[1, 1:].storage_offset() == 4
    w = aj.ones(2, device="cuda", requires_grad=True)
    y = w * 1.0
    z = y * y
    y.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
        w.add_(1.0)
    with pytest.raises(RuntimeError, match="device type 'cpu'.*device type 'cuda'"):
        w.grad = aj.ones(2)


def test_places_that_data_names(device):
    x = aj.tensor([[1.0, 0.0, 3.0], [0.0, 5.0, 0.0]], device="cuda")
    quiet(device)
    places = x.nonzero()
    assert device.bytes("out") == 8                       # how many there are
    assert places.is_cuda and places.tolist() == [[0, 0], [0, 2], [1, 1]]
    assert [p.tolist() for p in x.nonzero(as_tuple=True)] == [[0, 0, 1], [0, 2, 1]]
    assert [p.tolist() for p in aj.where(x > 2)] == [[0, 1], [2, 1]]
    quiet(device)
    picked = x[x > 0.5]
    assert quiet(device) == (0, 8) and picked.is_cuda and picked.tolist() == [1, 3, 5]
    assert x[x > 100].shape == (0,) and aj.zeros(0, device="cuda").nonzero().shape == (0, 1)
    assert x.masked_select(x > 2).tolist() == [3, 5] and aj.tensor(2.0, device="cuda").nonzero().shape == (1, 0)
    x[x == 0] = -1.0
    x[aj.tensor([True, False], device="cuda")] *= 2.0
    assert x.tolist() == [[2, -2, 6], [-1, 5, -1]]
    assert x[:, aj.tensor([2, 0])].tolist() == [[6, 2], [-1, -1]]           # places from the CPU, as in torch
    assert x[aj.tensor([1, 0], device="cuda"), [0, 1]].tolist() == [-1, -2]
    with pytest.raises(RuntimeError, match=r"either on cpu or on the same device as the indexed tensor \(cpu\)"):
        x.cpu()[aj.tensor([0], device="cuda")]
    assert not isinstance(x, aj.FloatTensor) and isinstance(x.cpu(), aj.FloatTensor)
    x[[0, 1], [0, 0]] = aj.tensor([8.0, 9.0], device="cuda")
    assert x[:, 0].tolist() == [8, 9] and x[aj.tensor(1, device="cuda")].tolist() == [9, 5, -1]
    w = aj.tensor([1.0, 2.0, 3.0], device="cuda", requires_grad=True)
    w[w > 1.5].sum().backward()
    assert w.grad.tolist() == [0, 1, 1]
    counts = aj.bincount(aj.tensor([0, 2, 2], device="cuda"), minlength=4)
    assert counts.is_cuda and counts.tolist() == [1, 0, 2, 0]
    with pytest.raises(RuntimeError, match="non-negative"):
        aj.bincount(aj.tensor([-1], device="cuda"))


def test_places_are_looked_at(device):
    x, i = aj.ones(3, device="cuda"), aj.tensor([0, 3], device="cuda")
    quiet(device)
    with pytest.raises(IndexError, match="index 3 is out of bounds for dimension 0 with size 3"):
        x[i]
    assert quiet(device) == (0, 16)                       # the least and the greatest
    with pytest.raises(IndexError):
        x[i]
    assert quiet(device) == (0, 0)                        # remembered
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        aj.tensor([1, 2], device="cuda") // aj.tensor([1, 0], device="cuda")
    with pytest.raises(RuntimeError, match="between 0 and 1"):
        aj.nn.functional.binary_cross_entropy(x * 2, x)
    target = aj.tensor([0, -100], device="cuda")          # what is ignored is no place
    assert aj.nn.functional.cross_entropy(aj.zeros(2, 3, device="cuda"), target).item() == pytest.approx(np.log(3))
    with pytest.raises(IndexError):
        aj.nn.functional.cross_entropy(aj.zeros(2, 3, device="cuda"), aj.tensor([0, 5], device="cuda"))


def test_answers_are_one_number(device):
    x = aj.ones(1000, device="cuda")
    quiet(device)
    assert aj.equal(x, x + 0) and aj.allclose(x, x + 1e-7) and not aj.equal(x, x + 1) and not aj.equal(x, x[1:])
    assert device.bytes("out") <= 3 * 8


@pytest.mark.parametrize("call", [lambda x: x.sort(), lambda x: x.argsort(), lambda x: x.unique(), lambda x: x.median(),
                                  lambda x: aj.multinomial(x, 1)])
def test_what_has_no_kernel_is_refused_at_the_call(fake, device, call):
    x = aj.ones(4, device="cuda")
    quiet(device)
    with pytest.raises(NotImplementedError, match="has no kernel on cuda") as e:
        call(x)
    assert "hint: compute it on the CPU: x.cpu()" in e.value.__notes__[-1]
    assert device.bytes("in") == 0 and device.bytes("out") <= 4 * 8

    @aj.trace
    def traced(x):
        return x.sort()[0]
    with pytest.raises(NotImplementedError, match="sort"):
        traced(x)


def test_numpy_sees_nothing_of_it(device):
    x = aj.ones(2, device="cuda")
    quiet(device)
    words = "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first."
    for look in (lambda: x.numpy(), lambda: np.asarray(x), lambda: np.linalg.norm(x, 3)):
        with pytest.raises(TypeError) as e:
            look()
        assert str(e.value) == words
    assert quiet(device) == (0, 0) and np.exp(x).is_cuda and np.sum(x).is_cuda
    assert x.numpy(force=True).tolist() == [1, 1] and x.cpu().numpy().tolist() == [1, 1]


def test_random_numbers_are_those_of_the_cpu(device):
    def drawn(where):
        aj.manual_seed(11)
        x = aj.ones(7, device=where)
        made = [aj.rand(3, device=where), aj.randn(5, device=where, dtype=aj.float64), aj.randint(2, 9, (4,), device=where),
                aj.rand_like(x), aj.randn_like(x), aj.randint_like(x, 5), aj.nn.functional.dropout(x, 0.5), aj.bernoulli(x / 2),
                aj.randperm(6, device=where), aj.normal(x, x), x.clone().uniform_(2, 3), x.clone().normal_(),
                x.clone().exponential_(), x.clone().random_(0, 4), x.clone().bernoulli_(0.3)]
        return made
    there, here = drawn("cuda"), drawn("cpu")
    assert all([t.is_cuda for t in there])
    for a, b in zip(there, here):
        np.testing.assert_allclose(a.tolist(), b.tolist(), rtol=1e-6)
        assert a.dtype is b.dtype
    with pytest.raises(RuntimeError, match="p_in"):
        aj.bernoulli(aj.ones(2, device="cuda") * 2)


def test_copies_of_tensors():
    x = aj.tensor([1.0, 2.0], device="cuda", requires_grad=True)
    for y in (pickle.loads(pickle.dumps(x)), copy.deepcopy(x), x.clone().detach(), aj.tensor([1.0, 2.0]).cuda()):
        assert y.is_cuda and y.tolist() == [1, 2]
    assert copy.deepcopy(x).requires_grad
    with pytest.warns(UserWarning, match="copy construct"):
        y = aj.tensor(x)
    assert y.is_cuda and y.is_leaf and not y.requires_grad


def test_pinned_memory(fake):
    c = aj.tensor([1.0, 2.0])
    assert not c.is_pinned()
    p = c.pin_memory()
    assert p.is_pinned() and p.tolist() == [1, 2] and p.pin_memory() is p and p.cuda(non_blocking=True).tolist() == [1, 2]
    with pytest.raises(RuntimeError, match="only dense CPU tensors can be pinned"):
        p.cuda().pin_memory()


class OfHost:
    """What NumPy can see of a tensor of this device, whose memory is the host's."""

    def __init__(self, t):
        self.t = t

    def __dlpack__(self, **words):
        return self.t.__dlpack__()

    def __dlpack_device__(self):
        return (1, 0)


class Foreign:
    """Another library's array on the device."""

    def __init__(self, shown):
        self.shown = shown

    __cuda_array_interface__ = {}

    def __dlpack_device__(self):
        return (2, 0)


def test_memory_is_shared_with_others(fake):
    x = aj.arange(4.0, device="cuda")
    shown = x.__cuda_array_interface__
    assert shown["shape"] == (4,) and shown["data"][0] == x.data_ptr() and x.__dlpack_device__() == (2, 0)
    inside = x.storage.mem.array._inside                  # what the other library would write to
    inside[0] = 7.0
    assert x.tolist() == [7, 1, 2, 3]
    x[1] = 5.0
    x.mul_(2.0)
    assert inside.tolist() == [14, 10, 4, 6] and x.data_ptr() == shown["data"][0]
    assert x[2:].__cuda_array_interface__["data"][0] == shown["data"][0] + 8
    there = np.from_dlpack(OfHost(x))
    inside[0] = 1.0
    assert there.tolist() == [1, 10, 4, 6] == x.tolist()
    memory = np.array([1.0, 2.0], np.float32)
    for make in (aj.from_dlpack, aj.as_tensor):
        y = make(Foreign(memory))
        assert y.is_cuda and y.dtype is aj.float32
        memory[0] += 1.0
        assert y[0].item() == memory[0]
        y.add_(1.0)
        assert y.tolist() == memory.tolist()
    assert aj.tensor(Foreign(memory)).add_(1.0).tolist() == (memory + 1).tolist() != memory.tolist()
    with pytest.raises(AttributeError, match="__cuda_array_interface__"):
        _ = aj.ones(1).__cuda_array_interface__
    with pytest.raises(RuntimeError, match="requires grad"):
        _ = aj.ones(1, device="cuda", requires_grad=True).__cuda_array_interface__
    with pytest.raises(RuntimeError, match="row-major"):
        _ = aj.ones(2, 3, device="cuda").T.__cuda_array_interface__


def test_unknown_devices():
    with pytest.raises(RuntimeError, match="Expected one of cpu, cuda, .* device type at start of device string: tpu"):
        aj.zeros(1, device="tpu")
    with pytest.raises(RuntimeError, match="invalid device ordinal"):
        aj.ones(1).to("cuda:3")
    with pytest.raises(RuntimeError, match="Invalid device string: 'cuda:x'"):
        aj.device("cuda:x")


def test_gradients_that_users_hand_in(device):
    x = aj.tensor([1.0, 2.0], device="cuda", requires_grad=True)
    with pytest.raises(RuntimeError, match="^invalid gradient at index 0 - expected device cuda:0 but got cpu"):
        (x * 2).backward(aj.ones(2))
    (x * 2).sum().backward(aj.tensor(3.0, dtype=aj.float64))  # without dimensions: moved
    assert x.grad.tolist() == [6, 6]
    x.register_hook(lambda g: g.cpu())
    with pytest.raises(RuntimeError, match="was torch.cuda.FloatTensor got torch.FloatTensor"):
        (x * 2).sum().backward()

    class Elsewhere(aj.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g.cpu()
    y = aj.ones(2, device="cuda", requires_grad=True)
    with pytest.raises(RuntimeError, match="returned an invalid gradient at index 0 - expected device cuda:0 but got cpu"):
        Elsewhere.apply(y).sum().backward()
    assert y.type() == "torch.cuda.FloatTensor" and y.detach().type("torch.DoubleTensor").device == "cpu"
    assert aj.ones(1).type("torch.cuda.LongTensor").is_cuda


def test_a_look_at_a_part_copies_that_part(fake, device):
    x = aj.arange(1000.0, device="cuda")
    quiet(device)
    runs = device.runs
    assert x[7].item() == 7 and x[10:13].tolist() == [10, 11, 12] and x.reshape(10, 100)[3][:2].tolist() == [300, 301]
    assert device.runs == runs and quiet(device) == (0, 4 + 12 + 8)
    assert x[::500].tolist() == [0, 500] and x.reshape(500, 2).T[1, :2].tolist() == [1, 3]


def test_what_waits_on_the_other_device_has_its_own_run(fake, device):
    c, x = aj.tensor([1.0, 2.0]), aj.tensor([1.0, 2.0], device="cuda")
    waiting, there = c * 3, x * 5
    for k in range(4):
        (x + float(k)).tolist()
        (c + float(k)).tolist()
    assert waiting.storage.value.prim.name == "buffer" and there.storage.value.prim.name == "buffer"
    assert waiting.tolist() == [3, 6] and there.tolist() == [5, 10]
    assert all([n.aval.device == "cpu" for _, g in device.graphs.values() for n in g.order])
    assert not any([type(p).__name__ == "Elsewhere" and p.cut.single is None for p in programs._PROGRAMS.values()])


def test_anomalies_are_found_there():
    x = aj.tensor([1.0, -1.0], device="cuda", requires_grad=True)
    with aj.autograd.detect_anomaly(), pytest.raises(RuntimeError, match="returned nan values"):
        x.log().sum().backward()


def test_halves_are_sent_as_they_are(device):
    for d in (aj.float16, aj.bfloat16):
        x = aj.tensor([1.0, 2.0], device="cuda", dtype=d)
        y = (x * 3).cpu()                                 # what waits is sent when it is computed
        quiet(device)
        assert y.tolist() == [3, 6] and y.dtype is d and device.bytes("out") == 4
        c = aj.tensor([1.0, 2.0], dtype=d, requires_grad=True)
        (c.cuda() * x).sum().backward()
        assert c.grad.tolist() == [1, 2] and c.grad.dtype is d and not c.grad.is_cuda
    wide = aj.tensor([1.0, 2.0])
    quiet(device)
    assert wide.to("cuda", aj.float16).tolist() == [1, 2] and device.bytes("in") == 4


def test_gradients_are_checked_there():
    x = aj.tensor([0.3, 2.0], dtype=aj.float64, device="cuda", requires_grad=True)
    assert aj.testing.gradcheck(lambda x: x.sin() * x, x) and aj.testing.gradgradcheck(lambda x: (x.exp() * x).sum(), x)


def test_searching_on_the_device(device):
    if isinstance(device, FakeBackend):
        device.missing = frozenset()
    rng = np.random.default_rng(4)
    x = rng.integers(0, 6, (4, 5)).astype(np.float32)
    x[1, 2] = x[3, 3] = np.nan
    ints, bools = rng.integers(-3, 4, 30), rng.random(9) < 0.5
    counts, edges = np.array([2, 0, 3, 1, 0]), np.sort(rng.random(7).astype(np.float32))
    values = np.append(rng.random((3, 4)).astype(np.float32), [[np.nan] * 4], 0)
    rows = np.sort(rng.integers(0, 9, (4, 6)), 1)

    def program(where):
        t = {k: aj.tensor(v, device=where) for k, v in (("x", x), ("i", ints), ("b", bools), ("c", counts), ("e", edges),
                                                        ("v", values), ("r", rows), ("p", np.abs(values[:3]) + 0.1))}
        aj.manual_seed(8)
        clean = aj.where(aj.isnan(t["x"]), 1.5, t["x"])
        return [t["i"].unique(), *t["i"].unique(return_inverse=True, return_counts=True), *t["b"].unique(return_counts=True),
                *t["x"].unique(return_inverse=True, return_counts=True), t["i"][:0].unique(),
                *aj.unique_consecutive(t["i"].abs().clamp(0, 1), return_inverse=True, return_counts=True),
                t["c"].repeat_interleave(), t["x"].repeat_interleave(t["c"], 1),
                t["c"].repeat_interleave(aj.tensor([2], device=where)),
                aj.searchsorted(t["e"], t["v"]), aj.searchsorted(t["e"], t["v"], right=True, out_int32=True),
                aj.searchsorted(t["r"], t["r"][:, ::2] + 1), aj.searchsorted(t["e"], 0.5), aj.bucketize(t["v"], t["e"]),
                aj.isin(t["i"], t["c"]), aj.isin(t["i"], 2, invert=True), clean.histc(5), clean.histc(4, 1, 3),
                aj.multinomial(t["p"], 3), aj.multinomial(t["p"], 9, True), aj.multinomial(t["p"][0], 2)]
    there, here = program("cuda"), program("cpu")
    for k, (a, b) in enumerate(zip(there, here, strict=True)):
        assert a.is_cuda and a.dtype is b.dtype and a.shape == b.shape, k
        np.testing.assert_array_equal(a.cpu().numpy(), b.numpy(), err_msg=str(k))
    with pytest.raises(RuntimeError, match="repeats can not be negative"):
        aj.tensor([1, 2], device="cuda").repeat_interleave(aj.tensor([1, -1], device="cuda"))
    with pytest.raises(RuntimeError, match="element < 0"):
        aj.multinomial(aj.tensor([1.0, -1.0], device="cuda"), 1)
    with pytest.raises(NotImplementedError, match="has no kernel on cuda"):
        aj.tensor(x, device="cuda").unique(dim=0)


def test_constants_without_dimensions_are_values_like_others():
    for make, want in ((lambda: aj.ones((), device="cuda"), 1.0), (lambda: aj.zeros(0, device="cuda").all(), True),
                       (lambda: aj.tensor(2.5, device="cuda").max(0).indices, 0),
                       (lambda: aj.ones((), device="cuda", dtype=aj.bfloat16), 1.0)):
        assert make().item() == want and make().tolist() == want and make().data_ptr() and bool(make()) == bool(want)
        assert pickle.loads(pickle.dumps(make())).item() == want
    assert repr(aj.zeros((), device="cuda")) == "tensor(0., device='cuda:0')"


def test_gradients_that_are_zero_are_on_the_device():
    def overwritten(x):
        y = x * 1
        y[:] = 0.5
        return y.sum()
    for f in (overwritten, lambda x: ((x * 1)[3:3] * 2).sum(), lambda x: ((x * 1)[3:3] * 2).cpu().sum()):
        x = aj.ones(5, device="cuda", requires_grad=True)
        f(x).backward()
        assert x.grad.is_cuda and x.grad.tolist() == [0] * 5
    seen = []
    y = aj.ones(5, device="cuda", requires_grad=True) * 1
    y.register_hook(lambda g: seen.append(g.is_cuda))
    y[3:3].sum().backward()
    assert seen == [True]


def test_out_and_searched_values_stay_on_their_device():
    a, b = aj.ones(2, device="cuda"), aj.ones(2)
    for result, out in ((a, b), (b, a)):
        with pytest.raises(RuntimeError, match="Expected out tensor to have device"):
            aj.add(result, 1.0, out=out)
    assert aj.add(a, 1.0, out=aj.zeros(2, device="cuda")).tolist() == [2, 2]
    for edges, values in ((a, b), (b, a)):
        with pytest.raises(RuntimeError, match="should have same device type"):
            aj.searchsorted(edges, values)
        with pytest.raises(RuntimeError, match="should have same device type"):
            aj.bucketize(values, edges)
