"""A module beside torch's of the same text and numbers: values, gradients, buffers.

In: texts such as `nn.Linear(2, 3)`, inputs.  Out: pairs of modules; assertion errors where they differ.
"""

from __future__ import annotations

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
