"""Functions of networks that look at arguments, call or draw: values, gradients and refusals are torch's."""

from __future__ import annotations

import numpy as np
import pytest

import autojit

torch = pytest.importorskip("torch")
BOTH = (autojit, torch)
RNG = np.random.default_rng(3)
X, W, Y = RNG.normal(size=(6, 4)), RNG.normal(size=(5, 3)), RNG.normal(size=(6, 4))
IDS, ROWS = np.array([1, 0, 4, 1, 3, 3]), np.array([[1, 0, 4], [1, 3, 3]])


def told(program, *arrays):
    """Value and gradients of `program(m, f, *tensors)` by both."""
    found = []
    for m in BOTH:
        ts = [m.tensor(a, requires_grad=np.asarray(a).dtype.kind == "f") for a in arrays]
        out = program(m, m.nn.functional, *ts)
        weights = m.tensor(np.cos(np.arange(out.numel()) + 0.5).reshape(tuple(out.shape)))
        (out * weights).sum().backward()
        found.append([out.detach().numpy(), *[t.grad.numpy() for t in ts if t.requires_grad]])
    return found


def agree(program, *arrays, rtol=1e-10):
    for mine, theirs in zip(*told(program, *arrays)):
        assert mine.dtype == theirs.dtype and mine.shape == theirs.shape
        np.testing.assert_allclose(mine, theirs, rtol=rtol, atol=1e-12)


# ---------------------------------------------------------------- bags
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("pad", [None, 3, -2])
def test_bags(mode, pad):
    agree(lambda m, f, i, w: f.embedding_bag(i, w, mode=mode, padding_idx=pad), ROWS, W)
    agree(lambda m, f, i, o, w: f.embedding_bag(i, w, o, mode=mode, padding_idx=pad), IDS, np.array([0, 2, 2, 5]), W)
    agree(lambda m, f, i, o, w: f.embedding_bag(i, w, o, mode=mode, include_last_offset=True), IDS, np.array([0, 2, 5, 6]), W)


def test_bags_with_weights():
    agree(lambda m, f, i, w, s: f.embedding_bag(i, w, mode="sum", per_sample_weights=s), ROWS, W, RNG.normal(size=(2, 3)))
    agree(lambda m, f, i, o, w, s: f.embedding_bag(i, w, o, mode="sum", per_sample_weights=s), IDS, np.array([0, 3]), W,
          RNG.normal(size=6))


# ---------------------------------------------------------------- losses
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_gaussian_with_a_number(reduction):
    agree(lambda m, f, x, y: f.gaussian_nll_loss(x, y, 0.5, full=True, reduction=reduction), X, Y)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("swap", [False, True])
def test_triplets_with_a_distance(swap, reduction):
    def program(m, f, a, p, n):
        return f.triplet_margin_with_distance_loss(a, p, n, distance_function=lambda x, y: (x - y).abs().sum(-1), margin=2.0,
                                                   swap=swap, reduction=reduction)
    agree(program, X, Y, X[::-1].copy())
    agree(lambda m, f, a, p, n: f.triplet_margin_with_distance_loss(a, p, n, swap=swap, reduction=reduction), X, Y,
          X[::-1].copy())


LOGITS = RNG.normal(size=(7, 3, 5))
LABELS = np.array([[1, 2, 2, 4], [3, 1, 4, 0], [2, 0, 0, 0]])


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_ctc(reduction):
    def program(m, f, x, t):
        return f.ctc_loss(x.log_softmax(2), t, m.tensor([7, 6, 5]), m.tensor([4, 3, 1]), reduction=reduction)
    agree(program, LOGITS, LABELS)
    agree(lambda m, f, x, t: f.ctc_loss(x.log_softmax(2), t, (7, 6, 5), (4, 3, 1), blank=0, reduction=reduction), LOGITS,
          np.array([1, 2, 2, 4, 3, 1, 4, 2]))


def test_ctc_of_one_and_of_what_cannot_be_said():
    agree(lambda m, f, x, t: f.ctc_loss(x.log_softmax(1), t, m.tensor([7]), m.tensor([3])), LOGITS[:, 0], LABELS[0, :3])
    agree(lambda m, f, x, t: f.ctc_loss(x.log_softmax(2), t, (2, 7, 7), (4, 3, 0), zero_infinity=True), LOGITS, LABELS)
    for m in BOTH:
        said, labels = m.tensor(LOGITS).log_softmax(2), m.tensor(LABELS)
        loss = m.nn.functional.ctc_loss(said, labels, (2, 7, 7), (4, 3, 1), reduction="none")
        assert loss[0] == float("inf")


# ---------------------------------------------------------------- random
def test_gumbels_are_distributed_as_their_logits():
    autojit.manual_seed(0)
    p = autojit.tensor([0.1, 0.2, 0.7])
    x = p.log().expand(20000, 3)
    hard = autojit.nn.functional.gumbel_softmax(x, tau=0.7, hard=True)
    assert ((hard.max(-1)[0] - 1).abs() < 1e-6).all() and ((hard.sum(-1) - 1).abs() < 1e-6).all()
    np.testing.assert_allclose(hard.mean(0).numpy(), p.numpy(), atol=0.02)
    logits = autojit.zeros(4, 3, requires_grad=True)
    soft = autojit.nn.functional.gumbel_softmax(logits, dim=0)
    np.testing.assert_allclose(soft.sum(0).detach().numpy(), np.ones(3), rtol=1e-6)
    soft[0].sum().backward()
    assert (logits.grad != 0).any()


def test_rrelu():
    agree(lambda m, f, x: f.rrelu(x), X)
    autojit.manual_seed(0)
    x = autojit.tensor(-np.ones((100, 100)), requires_grad=True)
    y = autojit.nn.functional.rrelu(x, 0.1, 0.3, training=True)
    assert ((-y >= 0.1) & (-y <= 0.3)).all() and abs(float(y.mean()) + 0.2) < 0.01
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), -y.detach().numpy())


@pytest.mark.parametrize("name", ["relu_", "celu_", "elu_", "hardtanh_", "leaky_relu_", "selu_", "rrelu_"])
def test_in_place(name):
    def program(m, f, x):
        y = x * 2
        assert getattr(f, name)(y) is y
        return y
    agree(program, X)


REFUSED = """
f.gaussian_nll_loss(x, x, -1.0)
f.gaussian_nll_loss(x, x, m.tensor([[-1.0]]))
f.gaussian_nll_loss(x, x, m.ones(7))
f.gaussian_nll_loss(x, x, m.ones(6, 4), reduction='q')
f.triplet_margin_with_distance_loss(x, x, x, margin=-1.0)
f.triplet_margin_with_distance_loss(x, x, x, reduction='q')
f.triplet_margin_with_distance_loss(x, x, x[0])
f.embedding_bag(i, m.ones(5, 3), mode='q', offsets=m.tensor([0]))
f.embedding_bag(i, m.ones(5, 3))
f.embedding_bag(i, m.ones(5), m.tensor([0]))
f.embedding_bag(i, m.ones(5, 3), m.tensor([0]), per_sample_weights=m.ones(2))
f.embedding_bag(i, m.ones(5, 3), m.tensor([0]), per_sample_weights=m.ones(6))
f.ctc_loss(m.ones(4, 2, 3), m.ones(2, 3, dtype=m.int64), (4, 4), (3, 3), blank=3)
f.ctc_loss(m.ones(4, 2, 3), m.ones(2, 3, dtype=m.int64), (4,), (3, 3))
f.ctc_loss(m.ones(4, 2, 3), m.ones(2, 3, dtype=m.int64), (4, 4), (3,))
f.ctc_loss(m.ones(4, 2, 3), m.ones(2, 3, dtype=m.int64), (4, 4), (3, 3), reduction='q')
f.rrelu(x, 0.5, 0.1)
"""


@pytest.mark.parametrize("program", REFUSED.strip().splitlines())
def test_refused_as_in_torch(program):
    found = []
    for m in BOTH:
        with pytest.raises(Exception) as caught:          # noqa: B017, PT011  (any: it is compared below)
            eval(program, {"m": m, "f": m.nn.functional, "x": m.tensor(X), "i": m.tensor(IDS)})
        found.append((caught.type.__name__, str(caught.value).splitlines()[0]))
    assert found[0] == found[1]


def test_traced():
    f = autojit.nn.functional
    x, w = autojit.tensor(LOGITS), autojit.tensor(W)
    ids, offsets, labels = autojit.tensor(IDS), autojit.tensor([0, 2, 2, 5]), autojit.tensor(LABELS)
    lengths, counts = autojit.tensor([7, 6, 5]), autojit.tensor([4, 3, 1])
    for fn, args in ((lambda x, t, n, c: f.ctc_loss(x.log_softmax(2), t, n, c), (x, labels, lengths, counts)),
                     (lambda i, w, o: f.embedding_bag(i, w, o), (ids, w, offsets))):
        np.testing.assert_allclose(autojit.trace(fn)(*args).numpy(), fn(*args).numpy(), rtol=1e-12)
