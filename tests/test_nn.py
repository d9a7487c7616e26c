"""Modules against torch's: values, gradients, texts, hooks, saved state; and what a trace notices of them."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest

import autojit as aj
from autojit import nn

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(0)


def data(*shape, lo=-2.0, hi=2.0):
    return RNG.uniform(lo, hi, shape)


def like(theirs, ours):
    """Give our module the numbers of torch's."""
    ours.load_state_dict({k: aj.tensor(v.numpy()) for k, v in theirs.state_dict().items()})
    return ours


def flat(x):
    return [t for part in x for t in flat(part)] if isinstance(x, (tuple, list)) else [] if x is None else [x]


def agree(ours, theirs, *arrays, tol=1e-9, calls=1, fixed=(), **words):
    """Values, gradients of inputs and parameters, and buffers after some calls."""
    for _ in range(calls):
        wants = [x.dtype == float and k not in fixed for k, x in enumerate(arrays)]
        a = [aj.tensor(x, requires_grad=w) for x, w in zip(arrays, wants)]
        b = [torch.tensor(x, requires_grad=w) for x, w in zip(arrays, wants)]
        got, wanted = flat(ours(*a, **words)), flat(theirs(*b, **words))
        assert len(got) == len(wanted)
        for g, w in zip(got, wanted):
            assert tuple(g.shape) == tuple(w.shape)
            assert np.allclose(g.detach().numpy(), w.detach().numpy(), tol, tol, equal_nan=True)
    weigh = [np.cos(np.arange(w.numel()) + 1.0).reshape(tuple(w.shape)) for w in wanted]
    if any(g.requires_grad for g in got):
        sum((g * aj.tensor(k)).sum() for g, k in zip(got, weigh)).backward()
        sum((w * torch.tensor(k)).sum() for w, k in zip(wanted, weigh)).backward()
    pairs = [*zip(a, b), *zip(ours.parameters(), theirs.parameters())]
    for x, y in pairs:
        if y.grad is not None:
            assert x.grad is not None and np.allclose(x.grad.numpy(), y.grad.numpy(), tol, tol, equal_nan=True)
    for x, y in zip(ours.buffers(), theirs.buffers()):
        assert np.allclose(x.numpy(), y.numpy(), tol, tol)


def both(text):
    """A module here and torch's, in float64, with the same numbers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = eval(text, {"nn": torch.nn, "torch": torch}).double()
        ours = eval(text, {"nn": nn, "torch": aj}).double()
    return like(theirs, ours), theirs


X = (4, 6)
CASES = [
    ("nn.Linear(6, 3)", X), ("nn.Linear(6, 3, bias=False)", (2, 4, 6)), ("nn.Identity(3)", X), ("nn.Flatten()", (2, 3, 4)),
    ("nn.Unflatten(1, (2, 3))", X), ("nn.LayerNorm(6)", X), ("nn.LayerNorm((3, 4), 1e-3, bias=False)", (2, 3, 4)),
    ("nn.RMSNorm(6)", X), ("nn.GroupNorm(2, 6)", (3, 6, 4)), ("nn.GroupNorm(3, 6, affine=False)", X),
    ("nn.BatchNorm1d(6)", X), ("nn.BatchNorm1d(3, momentum=None)", (4, 3, 5)),
    ("nn.BatchNorm2d(3, affine=False)", (2, 3, 4, 2)),
    ("nn.BatchNorm1d(6, track_running_stats=False)", X), ("nn.BatchNorm3d(2, 1e-3, 0.3)", (2, 2, 3, 2, 2)),
    ("nn.BatchNorm1d(6, bias=False)", X), ("nn.InstanceNorm1d(3)", (2, 3, 5)), ("nn.InstanceNorm1d(3)", (3, 5)),
    ("nn.InstanceNorm2d(3, affine=True, track_running_stats=True)", (2, 3, 4, 2)),
    ("nn.RNNCell(6, 3)", X), ("nn.RNNCell(6, 3, nonlinearity='relu', bias=False)", X), ("nn.GRUCell(6, 3)", X),
    ("nn.LSTMCell(6, 3)", X), ("nn.LSTMCell(6, 3)", (6,)),
    ("nn.RNN(6, 3)", (5, 2, 6)), ("nn.RNN(6, 3, 2, 'relu', batch_first=True)", (2, 5, 6)), ("nn.RNN(6, 3)", (5, 6)),
    ("nn.GRU(6, 3, 2, bidirectional=True)", (4, 2, 6)), ("nn.GRU(6, 3, bias=False, batch_first=True)", (2, 4, 6)),
    ("nn.LSTM(6, 3, num_layers=2)", (4, 2, 6)), ("nn.LSTM(6, 3, bidirectional=True, batch_first=True)", (2, 4, 6)),
    ("nn.LSTM(6, 3)", (4, 6)),
    ("nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0)", (4, 2, 6)),
    ("nn.TransformerEncoderLayer(6, 3, 8, dropout=0.0, activation='gelu', norm_first=True, batch_first=True)", (2, 4, 6)),
    ("nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0), 2, nn.LayerNorm(6))", (4, 2, 6)),
    ("nn.Conv1d(3, 4, 3, 2, 1)", (2, 3, 8)), ("nn.Conv2d(2, 4, (3, 2), padding='same', groups=2)", (2, 2, 5, 4)),
    ("nn.Conv2d(2, 3, 3, padding=1, dilation=2, bias=False)", (2, 2, 6, 5)), ("nn.Conv3d(1, 2, 2)", (1, 1, 3, 3, 3)),
    ("nn.ConvTranspose1d(3, 2, 3, 2, output_padding=1)", (2, 3, 4)), ("nn.ConvTranspose2d(2, 3, 2, stride=2)", (1, 2, 3, 3)),
    ("nn.MaxPool1d(2)", (2, 3, 6)), ("nn.MaxPool2d(2, padding=1)", (2, 3, 4, 4)), ("nn.AvgPool1d(2)", (2, 3, 6)),
    ("nn.AvgPool2d(2, ceil_mode=True)", (1, 2, 5, 5)), ("nn.AdaptiveAvgPool2d((2, None))", (1, 2, 5, 3)),
    ("nn.AdaptiveAvgPool1d(3)", (1, 2, 7)), ("nn.AdaptiveMaxPool2d(2)", (1, 2, 5, 4)),
    ("nn.Upsample(scale_factor=2)", (1, 2, 3)),
    ("nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 2))", X),
    ("nn.ZeroPad2d((1, 2, 0, 1))", (1, 2, 3, 4)), ("nn.ConstantPad1d(2, 0.5)", (1, 2, 3)), ("nn.ReflectionPad1d(2)", (1, 2, 4)),
    ("nn.ReplicationPad2d(1)", (1, 2, 3, 4)), ("nn.CircularPad1d((1, 2))", (1, 2, 4)), ("nn.PixelShuffle(2)", (1, 8, 2, 3)),
    ("nn.PixelUnshuffle(2)", (1, 2, 4, 6)), ("nn.ChannelShuffle(2)", (1, 4, 2, 2)), ("nn.LocalResponseNorm(2)", (2, 4, 3)),
    ("nn.LPPool2d(2, 2)", (1, 2, 4, 4)), ("nn.UpsamplingBilinear2d((4, 5))", (1, 1, 2, 3)),
    ("nn.UpsamplingNearest2d(4)", (1, 1, 2, 2)), ("nn.RReLU().eval()", (2, 3)),
    ("nn.Unfold((2, 2), padding=1)", (1, 2, 3, 3)), ("nn.Fold((3, 3), 2)", (1, 8, 4)),
]


@pytest.mark.parametrize(("text", "shape"), CASES, ids=[f"{t.split('(')[0][3:]}-{k}" for k, (t, _) in enumerate(CASES)])
def test_modules_are_torchs(text, shape):
    ours, theirs = both(text)
    assert str(ours).replace("  (out_proj): Linear", "  (out_proj): NonDynamicallyQuantizableLinear") == str(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    agree(ours, theirs, data(*shape), calls=2)
    ours.zero_grad(), theirs.zero_grad()
    agree(ours.eval(), theirs.eval(), data(*shape))


def test_modules_of_several_inputs():
    agree(*both("nn.Bilinear(3, 4, 2)"), data(5, 3), data(5, 4))
    agree(*both("nn.CosineSimilarity()"), data(5, 3), data(5, 3))
    agree(*both("nn.PairwiseDistance(keepdim=True)"), data(5, 3), data(5, 3))
    agree(*both("nn.RNN(3, 4, 2)"), data(5, 2, 3), data(2, 2, 4))
    ours, theirs = both("nn.LSTM(3, 4)")
    x, h, made = data(5, 2, 3), data(1, 2, 4), []
    for m, lstm in ((aj, ours), (torch, theirs)):
        made.append([t.detach().numpy() for t in flat(lstm(m.tensor(x), (m.tensor(h), m.tensor(h))))])
    assert all(np.allclose(a, b) for a, b in zip(*made))


@pytest.mark.parametrize("text", ["nn.RNN(2, 3, bidirectional=True)", "nn.LSTM(2, 3, 2)", "nn.GRU(2, 3)"])
def test_long_sequences_are_loops(text):
    ours, theirs = both(text)
    agree(ours, theirs, data(110, 2, 2), tol=1e-8)


ACTIVATIONS = ["ReLU()", "ReLU6()", "ELU(0.7)", "CELU(0.7)", "SELU()", "SiLU()", "Mish()", "Hardsigmoid()", "Hardswish()",
               "LeakyReLU(0.2)", "Hardtanh(-0.5, 0.7)", "Threshold(0.1, 0.2)", "GELU()", "GELU('tanh')", "Softplus(2, 3)",
               "Hardshrink()", "Softshrink(0.3)", "GLU()", "Softmax(1)", "LogSoftmax(-1)", "Softmin(0)", "Sigmoid()", "Tanh()",
               "LogSigmoid()", "Softsign()", "Tanhshrink()", "PReLU(6)"]


@pytest.mark.parametrize("text", ACTIVATIONS)
def test_activations_are_torchs(text):
    ours, theirs = both("nn." + text)
    assert str(ours) == str(theirs)
    agree(ours, theirs, data(*X), tol=1e-6 if "Hardsig" in text or "CELU" in text else 1e-9)


@pytest.mark.parametrize("text", ["ReLU(True)", "ELU(0.5, True)", "SiLU(inplace=True)", "Hardtanh(inplace=True)",
                                  "LeakyReLU(inplace=True)", "Threshold(0.1, 0.2, True)", "Mish(True)"])
def test_activations_in_place(text):
    ours, theirs = both("nn." + text)
    assert str(ours) == str(theirs)
    x, grads = data(5), []
    for m, module in ((aj, ours), (torch, theirs)):
        w = m.tensor(x, requires_grad=True)
        y = w * 1.5
        z = module(y)
        assert z is y
        (z * z).sum().backward()
        grads.append(np.stack([w.grad.numpy(), y.detach().numpy()]))
    assert np.allclose(*grads)


LOSSES = [("MSELoss()", (4, 3), None), ("L1Loss(reduction='sum')", (4, 3), None), ("SmoothL1Loss(beta=0.5)", (4, 3), None),
          ("HuberLoss(delta=0.5)", (4, 3), None), ("BCELoss()", (4, 3), "unit"), ("BCEWithLogitsLoss()", (4, 3), "unit"),
          ("CrossEntropyLoss()", (4, 3), "class"), ("CrossEntropyLoss(label_smoothing=0.1, reduction='none')", (4, 3), "class"),
          ("CrossEntropyLoss(torch.ones(3) * 2, ignore_index=1)", (4, 3), "class"),
          ("NLLLoss(reduction='sum')", (4, 3), "class"),
          ("KLDivLoss(reduction='batchmean')", (4, 3), "unit"), ("MSELoss(size_average=False)", (4, 3), None)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("text", "shape", "kind"), LOSSES, ids=[t for t, _, _ in LOSSES])
def test_losses_are_torchs(text, shape, kind):
    ours, theirs = both("nn." + text)
    x = data(*shape, lo=0.1, hi=0.9)
    t = RNG.integers(0, 3, shape[0]) if kind == "class" else data(*shape, lo=0.1, hi=0.9)
    assert str(ours) == str(theirs) and ours.reduction == theirs.reduction
    agree(ours, theirs, x, t)


def test_losses_of_other_arguments():
    sign, label = RNG.choice([-1.0, 1.0], 4), np.array([1, 0, 2, 1])
    agree(*both("nn.MarginRankingLoss(0.3)"), data(4), data(4), sign, fixed=(2,))
    agree(*both("nn.HingeEmbeddingLoss(reduction='sum')"), data(4), sign, fixed=(1,))
    agree(*both("nn.CosineEmbeddingLoss(0.1)"), data(4, 3), data(4, 3), sign, fixed=(2,))
    agree(*both("nn.TripletMarginLoss(swap=True)"), data(4, 3), data(4, 3), data(4, 3))
    agree(*both("nn.SoftMarginLoss()"), data(4), sign, fixed=(1,))
    agree(*both("nn.MultiMarginLoss(2, 0.7, torch.ones(3).double() * 2)"), data(4, 3), label)
    agree(*both("nn.MultiLabelMarginLoss()"), data(2, 4), np.array([[3, 0, -1, 1], [1, -1, 0, 0]]))
    agree(*both("nn.MultiLabelSoftMarginLoss()"), data(4, 3), RNG.integers(0, 2, (4, 3)).astype(float), fixed=(1,))
    agree(*both("nn.PoissonNLLLoss(full=True)"), data(4), np.array([1.0, 0.0, 3.0, 2.0]), fixed=(1,))
    agree(*both("nn.GaussianNLLLoss(full=True)"), data(4), data(4), data(4, lo=0.5))


def test_bags_and_sequences():
    ours, theirs = both("nn.EmbeddingBag(6, 3, mode='sum', padding_idx=2)")
    assert str(ours) == str(theirs)
    agree(ours, theirs, np.array([[0, 2, 5], [1, 1, 2]]))
    agree(*both("nn.EmbeddingBag(6, 3)"), np.array([0, 2, 5, 1]), np.array([0, 3]))
    agree(*both("nn.TripletMarginWithDistanceLoss(swap=True)"), data(4, 3), data(4, 3), data(4, 3))
    x, made = data(5, 2, 4), []
    for m, n in ((aj, nn), (torch, torch.nn)):
        logits = m.tensor(x, requires_grad=True)
        loss = n.CTCLoss()(logits.log_softmax(-1), m.tensor([[1, 2], [3, 3]]), m.tensor([5, 4]), m.tensor([2, 2]))
        loss.backward()
        made.append(np.hstack([loss.item(), logits.grad.numpy().ravel()]))
    assert np.allclose(*made, 1e-8)
    m = nn.RReLU()
    y = m(-aj.ones(1000)).numpy()
    assert -1 / 3 <= y.min() < -0.3 and -0.15 < y.max() <= -1 / 8


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


def test_encoder_and_decoder():
    agree(*both("nn.TransformerDecoderLayer(6, 2, 8, 0.0, norm_first=True)"), data(4, 2, 6), data(5, 2, 6))
    agree(*both("nn.TransformerDecoder(nn.TransformerDecoderLayer(6, 2, 8, 0.0), 2)"), data(4, 2, 6), data(5, 2, 6))
    ours, theirs = both("nn.Transformer(6, 2, 1, 1, 8, 0.0, batch_first=True)")
    mask = nn.Transformer.generate_square_subsequent_mask(4)
    assert mask.tolist() == torch.nn.Transformer.generate_square_subsequent_mask(4).tolist()
    a, b = data(2, 5, 6), data(2, 4, 6)
    got = ours(aj.tensor(a), aj.tensor(b), tgt_mask=mask.double())
    wanted = theirs(torch.tensor(a), torch.tensor(b), tgt_mask=torch.tensor(mask.numpy()).double())
    assert np.allclose(got.detach(), wanted.detach(), 1e-9)


def test_embeddings():
    ours, theirs = both("nn.Embedding(5, 3, padding_idx=-4)")
    index = np.array([[0, 1, 4], [1, 1, 2]])
    assert str(ours) == str(theirs) and ours.padding_idx == 1
    agree(ours, theirs, index)
    fresh = nn.Embedding(5, 3, padding_idx=2)
    assert fresh.weight[2].tolist() == [0, 0, 0] and fresh.weight[1].tolist() != [0, 0, 0]
    frozen = nn.Embedding.from_pretrained(aj.ones(2, 3))
    assert not frozen.weight.requires_grad and frozen(aj.tensor([1])).tolist() == [[1, 1, 1]]
    for options in ({"max_norm": 1.0}, {"sparse": True}, {"scale_grad_by_freq": True}):
        with pytest.raises(NotImplementedError, match=next(iter(options))):
            nn.Embedding(2, 3, **options)


@pytest.mark.parametrize("options", [{}, {"batch_first": True}, {"kdim": 3, "vdim": 5}, {"bias": False}])
def test_multihead_attention(options):
    text = ", ".join(f"{k}={v}" for k, v in options.items())
    ours, theirs = both(f"nn.MultiheadAttention(6, 2, {text})")
    q, k, v = data(4, 4, 6), data(4, 4, options.get("kdim", 6)), data(4, 4, options.get("vdim", 6))
    agree(ours, theirs, q, k, v)
    agree(ours, theirs, q, k, v, need_weights=False)
    square = np.triu(np.ones((4, 4), bool), 1)
    padding = np.zeros((4, 4), bool)
    padding[:, 3] = True
    for average in (True, False):
        made = []
        for m, module in ((aj, ours), (torch, theirs)):
            out = module(m.tensor(q), m.tensor(k), m.tensor(v), key_padding_mask=m.tensor(padding), attn_mask=m.tensor(square),
                         average_attn_weights=average)
            made.append([t.detach().numpy() for t in out])
        assert all(np.allclose(a, b) for a, b in zip(*made))
    if not options:
        a, b = aj.tensor(q), torch.tensor(q)
        assert np.allclose(ours(a, a, a)[0].detach(), theirs(b, b, b)[0].detach())
        assert np.allclose(ours(a[0], a[0], a[0])[0].detach(), theirs(b[0], b[0], b[0])[0].detach())


def test_scaled_dot_product_attention():
    q, k, v, mask = data(2, 4, 3, 5), data(2, 2, 6, 5), data(2, 2, 6, 4), RNG.random((3, 6)) > 0.4
    mask[1] = False                                       # a row that may look at nothing
    f, g = nn.functional.scaled_dot_product_attention, torch.nn.functional.scaled_dot_product_attention
    for words in ({}, {"is_causal": True}, {"scale": 0.3}, {"attn_mask": mask}, {"attn_mask": data(3, 6)}):
        made = []
        for m, h in ((aj, f), (torch, g)):
            t = [m.tensor(x, requires_grad=True) for x in (q, k, v)]
            given = {n: m.tensor(x) if isinstance(x, np.ndarray) else x for n, x in words.items()}
            out = h(*t, **given, enable_gqa=True)
            (out * out).sum().backward()
            made.append([out.detach().numpy(), *[x.grad.numpy() for x in t]])
        assert all(np.allclose(a, b) for a, b in zip(*made)), words
    with pytest.raises(RuntimeError, match="is_causal=True"):
        f(aj.ones(2, 3), aj.ones(2, 3), aj.ones(2, 3), aj.ones(2, 2), is_causal=True)
    with pytest.raises(RuntimeError, match="same dtype"):
        f(aj.ones(2, 3), aj.ones(2, 3).double(), aj.ones(2, 3))


@pytest.mark.parametrize(("text", "shape"), [("Dropout(0.4)", (200, 50)), ("Dropout1d(0.4)", (50, 60, 4)),
                                             ("Dropout2d(0.4)", (50, 60, 2, 2)), ("Dropout3d(0.4)", (50, 60, 1, 2, 2)),
                                             ("AlphaDropout(0.4)", (200, 50)), ("FeatureAlphaDropout(0.4)", (50, 60, 4))])
def test_dropouts(text, shape):
    m = eval("nn." + text)
    assert str(m) == str(eval("torch.nn." + text))
    aj.manual_seed(1)
    y = m(aj.ones(shape)).numpy()
    low, high = y.min(), y.max()
    assert abs((y == low).mean() - 0.4) < 0.03 and set(np.unique(y)) == {low, high}
    if "Alpha" in text:
        x = m(aj.randn(shape)).numpy()
        assert abs(x.mean()) < 0.1 and abs(x.std() - 1) < 0.1
    else:
        assert low == 0 and abs(high - 1 / 0.6) < 1e-6
    if len(shape) > 2:                                    # whole channels
        assert (y.reshape(*shape[:2], -1).std(-1) == 0).all()
    x = aj.ones(shape)
    assert m.eval()(x) is x
    with pytest.raises(ValueError, match="between 0 and 1"):
        nn.Dropout(1.5)


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
