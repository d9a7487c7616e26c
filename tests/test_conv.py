"""Convolutions, pools and resampling as users meet them: refusals in torch's words, numbers or lists for sizes, compiled, twice
differentiated, in a network."""

from __future__ import annotations

import re

import numpy as np
import pytest

import autojit as aj
import autojit.nn.functional as F

try:
    import torch
except ImportError:
    torch = None

needs_torch = pytest.mark.skipif(torch is None, reason="torch is not installed")

# one call a line; both sides see `t` (ones of a shape), `m` (the namespace) and `F`
REFUSED = """
F.conv2d(t(1,1,5,5), t(2,3,3,3))
F.conv2d(t(1,1,2,5), t(2,1,3,3))
F.conv2d(t(1,5), t(2,1,3,3))
F.conv1d(t(5), t(2,5,3))
F.conv3d(t(1,5,5), t(2,5,3,3,3))
F.conv2d(t(4,1,5,5), t(3,3))
F.conv2d(t(1,1,5,5), t(2,1,3,3), t(3))
F.conv2d(t(1,1,5,5), t(2,1,3,3), t())
F.conv2d(t(1,1,5,5), t(2,1,3,3).double())
F.conv2d(t(1,1,5,5), t(2,1,3,3), stride=0)
F.conv2d(t(1,1,5,5), t(2,1,3,3), padding=-1)
F.conv2d(t(1,1,5,5), t(2,1,3,3), dilation=0)
F.conv2d(t(1,1,5,5), t(2,1,0,3))
F.conv2d(t(1,3,5,5), t(2,1,3,3), groups=3)
F.conv2d(t(1,4,5,5), t(3,2,3,3), groups=2)
F.conv2d(t(1,3,5,5), t(2,1,3,3), groups=0)
F.conv2d(t(1,1,5,5), t(2,1,3,3), padding='same', stride=2)
F.conv2d(t(1,1,5,5), t(2,1,3,3), padding='foo')
F.conv2d(t(1,1,5,5), t(2,1,3,3), stride=(1,2,3))
F.conv2d(t(1,1,5,5), t(2,1,3,3), padding=(1,2,3))
F.conv2d(t(1,1,5,5), t(2,1,3,3), dilation=(1,2,3))
F.conv2d(t(1,1,0,5), t(2,1,3,3))
F.conv_transpose2d(t(1,3,5,5), t(2,1,3,3))
F.conv_transpose2d(t(3,5), t(3,1,3,3))
F.conv_transpose2d(t(1,2,5,5), t(2,1,3,3), output_padding=1)
F.conv_transpose2d(t(1,2,5,5), t(2,1,3,3), output_padding=2, stride=2)
F.conv_transpose2d(t(1,2,5,5), t(2,1,3,3), output_padding=-1, stride=2)
F.conv_transpose1d(t(1,3,5), t(3,1,3), output_padding=2, stride=2)
F.conv_transpose2d(t(1,2,5,5), t(2,1,3,3), padding=4)
F.conv_transpose2d(t(1,2,5,5), t(2,1,3,3), padding=-1)
F.conv_transpose2d(t(1,2,5,5), t(2,1,3,3), t(3))
F.conv_transpose2d(t(1,3,5,5), t(3,1,3,3), groups=2)
F.max_pool2d(t(1,1,5,5), 6)
F.max_pool2d(t(1,1,5,5), 2, padding=2)
F.max_pool2d(t(1,1,5,5), 2, stride=0)
F.max_pool2d(t(1,1,5,5), 2, dilation=0)
F.max_pool2d(t(1,1,5,5), 0)
F.max_pool2d(t(1,1,5,5), (1,2,3))
F.max_pool2d(t(1,0,5,5), 2)
F.max_pool2d(t(1,1,5,5).bool(), 2)
F.max_pool1d(t(5), 2)
F.max_pool1d(t(1,1,5), 6)
F.max_pool1d(t(1,1,5), 2, padding=2)
F.max_pool1d(t(1,1,5), 2, stride=0)
F.max_pool3d(t(1,1,5,5,5), 2, padding=3)
F.avg_pool2d(t(1,1,5,5), 2, padding=2)
F.avg_pool2d(t(1,1,5,5), 6)
F.avg_pool2d(t(1,1,5,5), 2, stride=0)
F.avg_pool2d(t(1,1,5,5), 2, divisor_override=0)
F.avg_pool1d(t(5), 2)
F.avg_pool1d(t(1,1,5), 2, padding=2)
F.adaptive_avg_pool1d(t(5), 2)
F.adaptive_avg_pool2d(t(5,5), 2)
F.adaptive_max_pool2d(t(5,5), 2)
F.adaptive_avg_pool2d(t(1,5,5), -1)
F.adaptive_avg_pool2d(t(1,5,5).long(), 2)
F.unfold(t(1,1,5,7), 6)
F.unfold(t(1,1,5,7), 2, stride=0)
F.unfold(t(1,1,5,7), 2, dilation=0)
F.unfold(t(1,1,5,7), 2, padding=-1)
F.fold(t(1,8,11), (4,5), 2)
F.fold(t(1,7,12), (4,5), 2)
F.fold(t(7), (4,5), 2)
F.pixel_shuffle(t(1,7,3,2), 2)
F.pixel_shuffle(t(7,3), 2)
F.pixel_shuffle(t(1,8,3,2), 0)
F.pixel_unshuffle(t(1,2,5,6), 2)
F.pixel_unshuffle(t(1,2,4,5), 2)
F.channel_shuffle(t(1,4,4), 3)
F.channel_shuffle(t(1,4,4), 0)
F.channel_shuffle(t(4,4), 2)
F.local_response_norm(t(4), 2)
F.interpolate(t(1,2,5,5))
F.interpolate(t(1,2,5,5), size=3, scale_factor=2)
F.interpolate(t(1,2,5,5), size=(3,))
F.interpolate(t(1,2,5,5), scale_factor=(3,))
F.interpolate(t(1,2,5,5), size=3, align_corners=True)
F.interpolate(t(1,2,5,5), size=3, mode='foo')
F.interpolate(t(1,2,5,5), size=3, mode='linear')
F.interpolate(t(1,2,5), size=3, mode='bilinear')
F.interpolate(t(2,5), size=3)
F.interpolate(t(1,2,5,5), size=0)
F.interpolate(t(1,2,5,5), scale_factor=0.1)
F.interpolate(t(1,2,5), size=3, mode='linear', antialias=True)
F.interpolate(t(1,2,5,5), size=3, recompute_scale_factor=True)
F.interpolate(t(1,0,5,5), size=3)
F.grid_sample(t(1,2,4,5), t(1,3,3,2), mode='foo', align_corners=False)
F.grid_sample(t(1,2,4,5), t(1,3,3,2), padding_mode='foo', align_corners=False)
F.grid_sample(t(1,2,4,5), t(2,3,3,2), align_corners=False)
F.grid_sample(t(1,2,4,5), t(1,3,3,3), align_corners=False)
F.grid_sample(t(1,2,4,5), t(1,3,3,3,3), align_corners=False)
F.grid_sample(t(1,2,3,4,5), t(1,3,3,3,3), mode='bicubic', align_corners=False)
F.grid_sample(t(1,2,4,5), t(1,3,3,2).double(), align_corners=False)
F.affine_grid(t(2,2,3), (2,3,4), align_corners=False)
F.affine_grid(t(2,2,4), (2,3,4,5), align_corners=False)
F.affine_grid(t(2,2,3).long(), (2,3,4,5), align_corners=False)
F.affine_grid(t(2,2,3), (2,3,0,5), align_corners=False)
F.max_unpool2d(t(2,3,2,3), t(2,3,2,3).long(), 2, output_size=(9,6))
F.max_unpool2d(t(2,3,2,3), t(2,3,2,3).long() + 115, 2)
F.max_unpool2d(t(2,3,2,3), t(1,3,2,3).long(), 2)
F.max_unpool2d(t(2,3,2,3), t(2,3,2,3), 2)
F.max_unpool2d(t(2,3), t(2,3).long(), 2)
""".split("\n")[1:-1]
# torch has a kernel of its own here, with words that it drops where a gradient is wanted
OTHER_WORDS = ("F.max_pool1d(t(1,1,5), 6)", "F.max_pool1d(t(1,1,5), 2, padding")


def _refusal(call, m, functional, make):
    with pytest.raises(Exception) as found:
        eval(call, {"F": functional, "m": m, "t": make})
    return found.value


@needs_torch
@pytest.mark.parametrize("call", REFUSED)
def test_what_torch_refuses_is_refused_in_its_words(call):
    import torch.nn.functional as theirs
    want = _refusal(call, torch, theirs, lambda *s: torch.ones(s))
    got = _refusal(call, aj, F, lambda *s: aj.ones(s))
    assert type(got) is type(want) or call.startswith(OTHER_WORDS), f"{got!r}, torch {want!r}"
    if not call.startswith(OTHER_WORDS):
        first = str(want).split("\n")[0]
        assert re.sub(r"\s+", " ", str(got)) == re.sub(r"\s+", " ", first)


# ---------------------------------------------------------------- the face
def test_sizes_may_be_lists_and_batches_may_lack():
    x, w = aj.arange(50.0).reshape(2, 5, 5), aj.ones(3, 2, 2, 2)
    a = F.conv2d(x, w, stride=[1, 2], padding=[1])
    b = F.conv2d(x[None], w, stride=(1, 2), padding=1)[0]
    assert a.shape == (3, 6, 3) and (a == b).all()
    assert F.max_pool2d(x, [2, 3]).shape == (2, 2, 1)
    values, at = F.max_pool2d(x, 2, return_indices=True)
    assert at.dtype is aj.int64 and (x.reshape(2, 25).gather(1, at.reshape(2, 4)) == values.reshape(2, 4)).all()


def test_unfold_of_functional_is_im2col_and_fold_counts_the_windows():
    x = aj.ones(1, 1, 3, 3)
    columns = F.unfold(x, 2)
    assert columns.shape == (1, 4, 4)
    assert F.fold(columns, (3, 3), 2).tolist() == [[[[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]]]


def test_the_first_of_equal_places_gets_the_gradient():
    x = aj.zeros(1, 1, 2, 4, requires_grad=True)
    F.max_pool2d(x, 2).sum().backward()
    assert x.grad.tolist() == [[[[1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]]]]


def _network(functional, w1, b1, w2, b2, w3, x, y):
    h = functional.max_pool2d(functional.relu(functional.conv2d(x, w1, b1)), 2)
    h = functional.avg_pool2d(functional.relu(functional.conv2d(h, w2, b2, stride=2, padding=1)), 3, 1, 1)
    return functional.cross_entropy(h.reshape(h.shape[0], -1) @ w3, y)


def _arrays(batch=5, side=12, dtype="float32"):
    rng = np.random.default_rng(3)
    shapes = [(4, 2, 3, 3), (4,), (6, 4, 3, 3), (6,), (6 * 9, 3), (batch, 2, side, side)]
    return [rng.standard_normal(s).astype(dtype) * (0.5 if len(s) < 5 else 1) for s in shapes], rng.integers(0, 3, batch)


@needs_torch
@pytest.mark.parametrize("batch", [5, 33])
def test_a_network_compiled(batch, compiled):
    import torch.nn.functional as theirs
    arrays, y = _arrays(batch)
    joint = aj.value_and_grad(aj.trace(lambda *a: _network(F, *a)), argnums=tuple(range(6)))
    value, grads = joint(*[aj.tensor(a) for a in arrays], aj.tensor(y))
    leaves = [torch.tensor(a, requires_grad=True) for a in arrays]
    want = _network(theirs, *leaves, torch.tensor(y))
    np.testing.assert_allclose(value.item(), want.item(), rtol=1e-5)
    for g, w in zip(grads, torch.autograd.grad(want, leaves)):
        np.testing.assert_allclose(g.numpy(), w.numpy(), rtol=1e-4, atol=1e-5)


@needs_torch
def test_a_network_twice_differentiated():
    import torch.nn.functional as theirs
    arrays, y = _arrays(2, dtype="float64")

    def twice(m, functional, make):
        leaves = [make(a).requires_grad_() for a in arrays]
        grads = m.autograd.grad(_network(functional, *leaves, make(y)), leaves, create_graph=True)
        return m.autograd.grad(sum([(g * g.detach().cos()).sum() for g in grads]), leaves)

    for g, w in zip(twice(aj, F, aj.tensor), twice(torch, theirs, torch.tensor)):
        np.testing.assert_allclose(g.numpy(), w.numpy(), rtol=1e-9, atol=1e-12)


def test_rows_of_a_run_add_to_places_that_are_data(compiled):
    """Many rows whose last axis is read at an index: the gradient adds to each row's own places."""
    rng = np.random.default_rng(4)
    x, weights, at = rng.standard_normal((256, 32, 16)), rng.standard_normal((256, 32, 32)), np.sort(rng.integers(0, 16, 32))
    joint = aj.grad(aj.trace(lambda x, w, i: (x.index_select(2, i) * w).sum()))
    got = joint(*[aj.tensor(a.astype("float32")) for a in (x, weights)], aj.tensor(at))
    want = np.zeros_like(x)
    np.add.at(want, (slice(None), slice(None), at), weights)
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-5, atol=1e-5)


@needs_torch
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_larger_images_compiled(mode, compiled):
    rng = np.random.default_rng(5)
    x, weights = [rng.standard_normal(s).astype("float32") for s in ((16, 16, 16, 16), (16, 16, 32, 32))]
    joint = aj.grad(aj.trace(lambda x, w: (F.interpolate(x, scale_factor=2, mode=mode) * w).sum()))
    leaf = torch.tensor(x, requires_grad=True)
    (torch.nn.functional.interpolate(leaf, scale_factor=2, mode=mode) * torch.tensor(weights)).sum().backward()
    np.testing.assert_allclose(joint(aj.tensor(x), aj.tensor(weights)).numpy(), leaf.grad.numpy(), rtol=1e-4, atol=1e-5)


@needs_torch
def test_one_channel_a_group_compiled(compiled):
    """Products of one row are loops: with a sum of many terms for each weight."""
    rng = np.random.default_rng(6)
    arrays = [rng.standard_normal(s).astype("float32") for s in ((4, 24, 21, 20), (24, 1, 3, 3), (24,), (4, 24, 21, 20))]
    joint = aj.grad(aj.trace(lambda x, w, b, c: (F.conv2d(x, w, b, 1, 1, 1, 24) * c).sum()), argnums=(0, 1, 2))
    leaves = [torch.tensor(a, requires_grad=True) for a in arrays]
    (torch.nn.functional.conv2d(*leaves[:3], 1, 1, 1, 24) * leaves[3]).sum().backward()
    for g, leaf in zip(joint(*[aj.tensor(a) for a in arrays]), leaves):
        np.testing.assert_allclose(g.numpy(), leaf.grad.numpy(), rtol=1e-4, atol=2e-4)
