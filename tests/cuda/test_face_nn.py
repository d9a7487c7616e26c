"""Modules and optimisers on a device that the host cannot see: training there is training here."""

from __future__ import annotations

import numpy as np
import pytest

import autojit as aj
from autojit import nn

from .front import KINDS, opened


@pytest.fixture(autouse=True, params=KINDS)
def device(request):
    yield from opened(request)


def built(place):
    aj.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6), nn.GELU(), nn.Linear(6, 3))
    return net.to(place)


@pytest.mark.parametrize(("name", "options"), [("Adam", {"lr": 0.05, "amsgrad": True}), ("AdamW", {"lr": 0.05}),
                                               ("RMSprop", {"lr": 0.01, "momentum": 0.5}), ("NAdam", {"lr": 0.01}),
                                               ("Rprop", {"lr": 0.01}),
                                               ("LBFGS", {"line_search_fn": "strong_wolfe", "max_iter": 2})])
@pytest.mark.parametrize("traced", [False, True])
def test_training_is_as_on_the_cpu(name, options, traced):
    x, y = np.random.default_rng(0).standard_normal((8, 4)).astype("f"), np.arange(8) % 3
    if traced and name == "LBFGS":
        return
    ends = []
    for place in ("cuda", "cpu"):
        net = built(place)
        opt = getattr(aj.optim, name)(net.parameters(), **options)

        def loss_of(a, b):
            opt.zero_grad()
            loss = nn.functional.cross_entropy(net(a), b)
            loss.backward()
            return loss

        def step(a, b):
            loss = loss_of(a, b)
            nn.utils.clip_grad_norm_(net.parameters(), 0.5)
            opt.step()
            return loss.detach()
        run = aj.trace(step) if traced else step
        a, b = aj.tensor(x, device=place), aj.tensor(y, device=place)
        for _ in range(3):
            if name == "LBFGS":
                opt.step(lambda: loss_of(a, b))
            else:
                run(a, b)
        assert all(str(t.device).startswith(place) for t in net.state_dict().values())
        ends.append([t.cpu().numpy() for t in net.cpu().state_dict().values()])
    for there, here in zip(*ends):
        np.testing.assert_allclose(there, here, rtol=1e-4, atol=1e-4)


def test_modules_that_make_tensors_make_them_there():
    x = aj.ones(3, 2, 4, device="cuda")
    for m in (nn.LSTM(4, 3, 2, bidirectional=True), nn.GRU(4, 3), nn.TransformerEncoderLayer(4, 2, 8), nn.Dropout(0.5),
              nn.AlphaDropout(0.5), nn.LayerNorm(4), nn.PReLU()):
        out = m.cuda()(x)
        assert all(t.is_cuda for t in (out if isinstance(out, tuple) else (out,)) if isinstance(t, aj.Tensor))
    m = nn.MultiheadAttention(4, 2, device="cuda")
    out, share = m(x, x, x, attn_mask=aj.ones(3, 3, dtype=aj.bool, device="cuda").triu(1))
    assert out.is_cuda and share.is_cuda
    net = nn.Linear(2, 2).cuda()
    net.load_state_dict({"weight": aj.ones(2, 2), "bias": aj.zeros(2)})
    assert net.weight.is_cuda and net.weight.tolist() == [[1, 1], [1, 1]]
