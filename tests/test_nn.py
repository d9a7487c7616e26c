"""Modules as such against torch's: names, texts, hooks, saved state, first values, refusals; what a trace notices of them."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import autojit as aj
from autojit import nn

from .modules import both, data, torch


# ---------------------------------------------------------------- the module itself
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.rest = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 2)])
        self.scale = nn.Parameter(aj.ones(2))
        self.register_buffer("shift", aj.zeros(2))
        self.register_buffer("seen", aj.zeros(1), persistent=False)
        self.factor = 2.0

    def forward(self, x):
        x = self.first(x).relu()
        for m in self.rest:
            x = m(x)
        return x * self.scale * self.factor + self.shift


def test_names():
    net = Net()
    assert [n for n, _ in net.named_parameters()] == ["scale", "first.weight", "first.bias", "rest.0.weight", "rest.0.bias",
                                                      "rest.1.weight", "rest.1.bias"]
    assert [n for n, _ in net.named_buffers()] == ["shift", "seen"] and len(list(net.buffers())) == 2
    assert [n for n, _ in net.named_children()] == ["first", "rest"] and len(list(net.modules())) == 5
    assert list(net.state_dict()) == ["scale", "shift", *[n for n, _ in net.named_parameters()][1:]]
    assert net.get_submodule("rest.1") is net.rest[1] and net.get_parameter("first.bias") is net.first.bias
    assert net.get_buffer("shift") is net.shift
    net.tied = net.first
    assert len(list(net.parameters())) == 7               # a module in two places counts once
    assert "factor" in dir(net) and "scale" in dir(net)
    with pytest.raises(AttributeError, match="'Net' object has no attribute 'nothing'"):
        net.nothing
    del net.tied, net.scale
    assert not hasattr(net, "scale")


def test_what_is_assigned():
    net = Net()
    net.shift = aj.ones(2)
    assert net.shift is net._buffers["shift"]
    net.scale = None
    assert net._parameters["scale"] is None
    net.extra = nn.Buffer(aj.ones(1), persistent=False)
    assert isinstance(net.extra, aj.Tensor) and "extra" not in net.state_dict() and "extra" in dict(net.named_buffers())
    said = []
    for m, n in ((aj, nn), (torch, torch.nn)):
        net = n.Linear(2, 2)
        net.register_buffer("b", m.ones(1))
        net.sub = n.ReLU()

        class Early(n.Module):
            def __init__(self, n=n):
                self.sub = n.ReLU()

        class EarlyToo(n.Module):
            def __init__(self, n=n, m=m):
                self.p = n.Parameter(m.ones(1))
        tries = [lambda: setattr(net, "weight", 1.0), lambda: setattr(net, "sub", 1.0), lambda: setattr(net, "b", 1.0),
                 lambda: net.register_parameter("x", m.ones(1)), lambda: net.register_parameter("a.b", None),
                 lambda: net.register_parameter("", None), lambda: net.register_parameter("forward", None),
                 lambda: net.register_buffer("forward", None), lambda: net.register_buffer("x", 1.0),
                 lambda: net.add_module("x", 1.0), lambda: net.add_module("forward", None), Early, EarlyToo,
                 lambda: net.register_parameter(1, None), lambda: net.train(1), lambda: net.to(m.int64),
                 lambda: n.ModuleList([n.ReLU()])[3]]
        said.append([])
        for f in tries:
            with pytest.raises(Exception) as e:
                f()
            said[-1].append((type(e.value), str(e.value)))
    for a, b in zip(*said):
        assert a == b
    with pytest.raises(NotImplementedError, match="forward"):
        nn.Module()(1)
    with pytest.raises(TypeError, match="has to be a tensor"):
        nn.Parameter(1.0)


def test_parameters():
    t = aj.ones(2)
    p = nn.Parameter(t)
    assert isinstance(p, nn.Parameter) and isinstance(p, aj.Tensor) and p.requires_grad and p.is_leaf
    assert str(p) == "Parameter containing:\ntensor([1., 1.], requires_grad=True)" == repr(p)
    with aj.no_grad():
        p.add_(1)
    assert t.tolist() == [2, 2]                           # one memory
    assert type(p * 2) is aj.Tensor and type(copy.deepcopy(p)) is nn.Parameter
    assert not nn.Parameter(t, requires_grad=False).requires_grad


def test_state_can_be_loaded():
    a, b = Net(), Net()
    held = b.first.weight
    assert str(b.load_state_dict(a.state_dict())) == "<All keys matched successfully>"
    assert b.first.weight is held and np.array_equal(held.detach(), a.first.weight.detach())
    state = dict(a.state_dict())
    del state["scale"]
    state["other"], state["first.bias"] = aj.ones(1), aj.ones(7)
    said = []
    for module, given in ((b, state), (None, None)):
        if module is None:
            t = torch.nn.Linear(3, 4)
            module, given = t, {"weight": torch.ones(4, 3), "bias": torch.ones(7), "other": torch.ones(1)}
        with pytest.raises(RuntimeError) as e:
            module.load_state_dict(given)
        said.append(str(e.value))
    assert said[0].split("\n")[1:] == [
        '\tMissing key(s) in state_dict: "scale". ', '\tUnexpected key(s) in state_dict: "other". ',
        said[1].split("\n")[2].replace("for bias", "for first.bias")]
    assert np.array_equal(held.detach(), a.first.weight.detach())
    del state["first.bias"]
    assert b.load_state_dict(state, strict=False) == (["scale", "first.bias"], ["other"])
    b.load_state_dict(a.state_dict(), assign=True)
    assert b.first.weight is not held and isinstance(b.first.weight, nn.Parameter) and b.first.weight.requires_grad
    with pytest.raises(TypeError, match="dict-like"):
        b.load_state_dict([1])


def test_a_module_as_a_function_of_its_parameters():
    net, x = Net(), aj.ones(2, 3)
    params = {k: v.detach() for k, v in net.named_parameters()}
    call = nn.stateless.functional_call
    grads = aj.grad(lambda p: call(net, p, (x,)).sum())(params)
    net(x).sum().backward()
    assert all(np.allclose(grads[k], p.grad) for k, p in net.named_parameters())
    held = net.scale
    many = {k: aj.stack([v, v * 2]) for k, v in params.items()}
    out = aj.vmap(lambda p: call(net, p, x))(many)
    assert np.allclose(out[0], net(x).detach(), 1e-5) and net.scale is held
    net.tied = net.first
    assert np.allclose(call(net, {"first.weight": params["first.weight"] * 0, "shift": aj.ones(2)}, x).shape, (2, 2))
    with pytest.raises(RuntimeError, match="nothing"):
        call(net, {"nothing": x}, x)
    with pytest.raises(RuntimeError, match="Missing"):
        call(net, {"scale": aj.ones(2)}, x, strict=True)
    assert net.scale is held


def test_mode_gradients_and_conversion():
    net = Net()
    assert net.eval() is net and not net.rest[0].training
    net.train()
    assert net.rest[0].training
    net(aj.ones(2, 3)).sum().backward()
    assert net.first.weight.grad is not None
    net.zero_grad()
    assert net.first.weight.grad is None
    net.requires_grad_(False)
    assert not net(aj.ones(2, 3)).requires_grad
    p = net.first.weight
    net.requires_grad_(True)
    net(aj.ones(2, 3)).sum().backward()
    assert net.double() is net and net.first.weight is p
    assert p.dtype is aj.float64 is p.grad.dtype and net.shift.dtype is aj.float64
    assert net.half().shift.dtype is aj.float16 and net.bfloat16().scale.dtype is aj.bfloat16
    assert net.to(aj.float32).scale.dtype is aj.float32 is net.to("cpu").scale.dtype
    assert net.to(aj.ones(1, dtype=aj.float64)).scale.dtype is aj.float64
    bn = nn.BatchNorm1d(2).double()
    assert bn.num_batches_tracked.dtype is aj.int64
    seen = []
    net.apply(lambda m: seen.append(type(m).__name__))
    assert seen == ["Linear", "Linear", "Linear", "ModuleList", "Net"]
    twin = copy.deepcopy(net)
    assert twin.first.weight is not p and np.array_equal(twin.first.weight.detach(), p.detach()) and twin.training


def test_containers():
    said = []
    for m, n in ((aj, nn), (torch, torch.nn)):
        s = n.Sequential(n.ReLU(), n.Tanh(), n.Sigmoid())
        s.insert(1, n.ReLU())
        s.append(n.Identity())
        d = n.ModuleDict({"a": n.ReLU(), "b": n.Linear(2, 2)})
        d["c"] = n.Tanh()
        gone = d.pop("a")
        ms = n.ModuleList([n.ReLU(), n.ReLU()])
        ms += [n.Linear(1, 2)]
        ms.extend([n.Tanh()])
        ps = n.ParameterList([m.ones(2), m.ones(1, 2)])
        ps.append(m.zeros(3))
        said.append([str(s), len(s), str(s[1:3]), str(s[-1]), str(d), list(d), "b" in d, len(d), str(gone),
                     str(ms), str(ms[1:]), len(ms), len(ps), [tuple(p.shape) for p in ps],
                     list(dict(ps.named_parameters())), str(ms.pop(0)), str(ms), str(n.Sequential(n.ReLU()) + s),
                     str(n.Sequential()), str(n.ModuleList())])
        del s[0]
        s[0] = n.Softsign()
        said[-1] += [str(s), [str(x) for x in s]]
        pd = n.ParameterDict({"a": m.ones(2)})
        pd["b"] = m.ones(3)
        said[-1] += [list(pd), list(dict(pd.named_parameters())), len(pd), "a" in pd, tuple(pd["b"].shape)]
    assert said[0] == said[1]


# ---------------------------------------------------------------- hooks
def test_forward_hooks():
    said = []
    for m, n in ((aj, nn), (torch, torch.nn)):
        net, log = n.Sequential(n.Identity(), n.ReLU()), []
        net.register_forward_pre_hook(lambda mod, args: (args[0] * 2,))
        net.register_forward_hook(lambda mod, args, out, log=log: log.append((args[0].tolist(), out.tolist())))
        first = net[1].register_forward_hook(lambda mod, args, out: out + 1)
        net[1].register_forward_hook(lambda mod, args, out, log=log: log.append("before"), prepend=True)
        net.register_forward_hook(lambda mod, args, kwargs, out: (out, len(kwargs)), with_kwargs=True)
        a = net(m.tensor([-1.0, 2.0]))
        with first:
            pass
        b = net(m.tensor([-1.0, 2.0]))
        said.append([a[0].tolist(), a[1], b[0].tolist(), log])
    assert said[0] == said[1]


def test_backward_hooks():
    said = []
    for m, n in ((aj, nn), (torch, torch.nn)):
        net, log = n.Sequential(n.Identity(), n.Tanh()), []

        def note(mod, gi, go, log=log):
            log.append(([g.tolist() for g in gi], [g.tolist() for g in go]))

        def double(mod, gi, go):
            return (gi[0] * 2,)
        net[1].register_full_backward_hook(note)
        handle = net[1].register_full_backward_hook(double)
        net[1].register_full_backward_pre_hook(lambda mod, go: (go[0] + 1,))
        x = m.tensor([0.5, -0.25], dtype=m.float64, requires_grad=True)
        net(x).sum().backward()
        handle.remove()
        net(x).sum().backward()
        said.append([x.grad.tolist(), log])
    assert np.allclose(said[0][0], said[1][0]) and np.allclose(said[0][1], said[1][1])
    lin, log = nn.Linear(2, 1), []
    lin.register_full_backward_hook(lambda mod, gi, go: log.append((gi, go[0].tolist())))
    lin(aj.ones(1, 2)).sum().backward()
    assert log == [((None,), [[1.0]])] and lin.weight.grad is not None


# ---------------------------------------------------------------- under a trace
def test_a_trace_follows_modules():
    net, runs = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1)), []

    @aj.trace
    def f(x):
        runs.append(1)
        return net(x).sum()
    x = aj.ones(2, 3)
    f(x), f(x)
    assert len(runs) == 1
    net.eval()
    assert abs(f(x).item() - net(x).sum().item()) < 1e-6 and abs(f(x).item() - f(x).item()) == 0 and len(runs) == 2
    net[0].weight = nn.Parameter(aj.zeros(4, 3))
    net[0].bias = None
    assert abs(f(x).item() - 2 * net[2].bias.item()) < 1e-6 and len(runs) == 3
    with aj.no_grad():
        net[2].bias.fill_(5)                              # followed, not recorded anew
    assert abs(f(x).item() - 10) < 1e-6 and len(runs) == 3
    net.train()
    assert f(x).item() is not None and len(runs) <= 4
    own = Net()
    g = aj.trace(lambda x: own(x))
    before = g(x)
    own.factor = 4.0                                      # an attribute that forward reads
    assert np.allclose(g(x).detach(), 2 * before.detach())


def test_a_module_itself_is_traced():
    net = Net()
    x = aj.ones(2, 3)
    wanted = net(x)
    traced = aj.trace(net)
    assert np.allclose(traced(x).detach(), wanted.detach(), 1e-6)
    net.compile()
    got = net(x)
    got.sum().backward()
    assert np.allclose(got.detach(), wanted.detach(), 1e-6) and net.first.weight.grad is not None
    net.factor = 1.0
    assert np.allclose(net(x).detach(), wanted.detach() / 2, 1e-6)
    assert np.allclose(copy.deepcopy(net)(x).detach(), wanted.detach() / 2, 1e-6)


def test_running_statistics_in_a_traced_step():
    ours, theirs = both("nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 1))")
    a, b = aj.optim.Adam(ours.parameters(), 0.05), torch.optim.Adam(theirs.parameters(), 0.05)

    @aj.trace
    def step(x):
        a.zero_grad()
        loss = (ours(x) ** 2).mean()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(ours.parameters(), 0.1)
        a.step()
        return loss.detach(), norm
    for _ in range(6):
        x = data(8, 6)
        b.zero_grad()
        loss = (theirs(torch.tensor(x)) ** 2).mean()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.1)
        b.step()
        mine, length = step(aj.tensor(x))
        assert abs(mine.item() - loss.item()) < 1e-8 and abs(length.item() - norm.item()) < 1e-8
    for p, q in zip([*ours.parameters(), *ours.buffers()], [*theirs.parameters(), *theirs.buffers()]):
        assert np.allclose(p.detach().numpy(), q.detach().numpy(), 1e-7, 1e-8)


# ---------------------------------------------------------------- utils, init
def test_gradients_are_clipped():
    g, h = data(3, 2), data(4)
    for p in (2.0, 1.0, float("inf"), 0.5):
        made = []
        for m, n in ((aj, nn), (torch, torch.nn)):
            w, v = m.zeros(3, 2, dtype=m.float64, requires_grad=True), m.zeros(4, dtype=m.float64, requires_grad=True)
            w.grad, v.grad = m.tensor(g), m.tensor(h)
            norm = n.utils.clip_grad_norm_([w, v, m.zeros(2, requires_grad=True)], 0.7, norm_type=p)
            n.utils.clip_grad_value_([w, v], 0.1)
            made.append(np.hstack([norm.item(), w.grad.numpy().ravel(), v.grad.numpy()]))
        assert np.allclose(*made)
    w = aj.ones(1, requires_grad=True)
    w.grad = aj.tensor([float("inf")])
    with pytest.raises(RuntimeError, match="non-finite"):
        nn.utils.clip_grad_norm_(w, 1.0, error_if_nonfinite=True)
    net = Net()
    v = nn.utils.parameters_to_vector(net.parameters())
    assert v.shape == (sum(p.numel() for p in net.parameters()),) and v.requires_grad
    nn.utils.vector_to_parameters(aj.arange(len(v)).float(), net.parameters())
    assert net.scale.tolist() == [0, 1] and net.first.weight[0].tolist() == [2, 3, 4] and net.scale.requires_grad


@pytest.mark.parametrize(("name", "args"), [
    ("uniform_", (-0.5, 1.0)), ("normal_", (1.0, 2.0)), ("trunc_normal_", (0.0, 1.0, -1.0, 1.5)), ("xavier_uniform_", (2.0,)),
    ("xavier_normal_", ()), ("kaiming_uniform_", (0.3,)), ("kaiming_normal_", (0, "fan_out", "relu")), ("sparse_", (0.25,)),
    ("orthogonal_", (2.0,)), ("eye_", ()), ("ones_", ()), ("zeros_", ()), ("constant_", (3.0,))])
def test_first_values_are_torchs_in_distribution(name, args):
    aj.manual_seed(0), torch.manual_seed(0)
    a, b = aj.zeros(60, 80, requires_grad=True), torch.zeros(60, 80, requires_grad=True)
    assert getattr(nn.init, name)(a, *args) is a and a.requires_grad and a.is_leaf
    getattr(torch.nn.init, name)(b, *args)
    x, y = a.detach().numpy(), b.detach().numpy()
    assert np.allclose([x.mean(), x.std(), (x == 0).mean()], [y.mean(), y.std(), (y == 0).mean()], 0.05, 0.02)
    if "uniform" in name or "trunc" in name:
        assert np.allclose([x.min(), x.max()], [y.min(), y.max()], 0.02, 0.01)
    if name == "orthogonal_":
        assert np.allclose(x @ x.T, 4 * np.eye(60), atol=1e-5)


def test_gains_and_refusals_of_init():
    for word in ("linear", "conv2d", "sigmoid", "tanh", "relu", "selu", "leaky_relu"):
        assert nn.init.calculate_gain(word) == torch.nn.init.calculate_gain(word)
    w = [m.zeros(4, 2, 3) for m in (aj, torch)]
    nn.init.dirac_(w[0], 2), torch.nn.init.dirac_(w[1], 2)
    assert w[0].tolist() == w[1].tolist()
    for f in ("calculate_gain('x')", "calculate_gain('leaky_relu', 'x')", "xavier_uniform_(m.ones(2))", "eye_(m.ones(2))",
              "orthogonal_(m.ones(2))", "kaiming_uniform_(m.ones(2, 2), mode='x')", "dirac_(m.ones(2))",
              "sparse_(m.ones(2), 0.1)"):
        said = []
        for m, n in ((aj, nn), (torch, torch.nn)):
            with pytest.raises(ValueError) as e:
                eval("n.init." + f, {"n": n, "m": m})
            said.append(str(e.value))
        assert said[0] == said[1]


@pytest.mark.parametrize("text", ["nn.Linear(16, 40)", "nn.Conv2d(4, 30, 3, groups=2)", "nn.Bilinear(16, 8, 9)",
                                  "nn.LSTM(8, 25)", "nn.MultiheadAttention(16, 2)", "nn.Embedding(40, 30)",
                                  "nn.ConvTranspose1d(6, 20, 3)"])
def test_default_first_values_are_torchs_in_distribution(text):
    aj.manual_seed(0), torch.manual_seed(0)
    ours, theirs = eval(text, {"nn": nn}), eval(text, {"nn": torch.nn})
    for p, q in zip(ours.parameters(), theirs.parameters()):
        if "Embedding" in text:
            assert abs(p.mean().item()) < 0.1 and abs(p.std().item() - 1) < 0.1
        elif p.numel() > 200:
            assert np.allclose([p.std().item(), abs(p).max().item()], [q.std().item(), q.abs().max().item()], 0.12)
        elif "bias" not in text:
            assert abs(p.std().item() - q.std().item()) < 0.3 * q.std().item() + 1e-9


ERRORS = ["nn.BatchNorm1d(3)(m.ones(2, 3, 4, 5))", "nn.BatchNorm1d(3)(m.ones(1, 3))", "nn.BatchNorm2d(3)(m.ones(2, 3))",
          "nn.InstanceNorm1d(3)(m.ones(2, 3, 1))", "nn.LayerNorm(3)(m.ones(2, 4))", "nn.GroupNorm(2, 3)",
          "nn.GroupNorm(2, 4)(m.ones(3))",
          "nn.BatchNorm1d(3).eval()(m.ones(2, 4))", "nn.Unflatten(1, (2, 2))(m.ones(2, 3))", "nn.RNN(3, 4)(m.ones(2, 2, 5))",
          "nn.RNN(3, 4)(m.ones(2))", "nn.LSTM(3, 4, nonlinearity='x')", "nn.RNN(3, 4, nonlinearity='x')",
          "nn.RNNCell(3, 4)(m.ones(2, 5))",
          "nn.GRU(3, 0)", "nn.GRU(3, 4, dropout=2)", "nn.MultiheadAttention(5, 2)", "nn.Embedding(3, 2, padding_idx=5)",
          "nn.Conv2d(3, 4, 2, groups=2)", "nn.Conv2d(2, 4, 2, padding='x')", "nn.Conv2d(2, 4, 2, stride=2, padding='same')",
          "nn.Hardtanh(1, 0)", "nn.ReLU(1, 2, 3)", "nn.MSELoss(nothing=1)", "nn.Dropout(2)", "nn.Linear(2, 3)(m.ones(3))"]


@pytest.mark.parametrize("text", ERRORS)
def test_refusals_are_torchs_in_kind(text):
    kinds = []
    for m, n in ((aj, nn), (torch, torch.nn)):
        with pytest.raises(Exception) as e:
            eval(text, {"nn": n, "m": m})
        kinds.append(type(e.value))
    assert kinds[0] is kinds[1]


def test_modules_cost_an_import_nothing():
    import subprocess
    import sys
    lazy = ("autojit.nn", "autojit.optim", "autojit.utils", "autojit.saving")
    code = f"import autojit, sys; print([m for m in sys.modules if m.startswith({lazy})])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
    code = "import autojit.nn.functional as F, sys; print('autojit.nn.module' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"
