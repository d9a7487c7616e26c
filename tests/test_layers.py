"""Layers, activations, losses and dropouts against torch's: values and gradients."""

from __future__ import annotations

import numpy as np
import pytest

import autojit as aj
from autojit import nn

from .modules import RNG, agree, both, data, flat, torch

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
