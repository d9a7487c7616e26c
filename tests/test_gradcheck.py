"""gradcheck passes what is right and catches what is wrong, to second order; torch agrees where it is installed."""

from __future__ import annotations

import pytest

import autojit as aj
from autojit.autograd import Function, gradcheck, gradgradcheck
from autojit.testing import GradcheckError


class Wrong(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x ** 3

    @staticmethod
    def backward(ctx, g):
        x, = ctx.saved_tensors
        return g * 3.001 * x ** 2


class WrongTwice(Function):
    """Right once; its derivative's derivative is cut off."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x ** 3

    @staticmethod
    def backward(ctx, g):
        x, = ctx.saved_tensors
        return g * 3 * x.detach() ** 2


def double(*v):
    return aj.tensor(v, dtype=aj.float64, requires_grad=True)


def test_right_passes():
    x, w = double(0.3, -1.0, 2.0), double(1.0, 2.0, 0.5)
    f = lambda a, b: ((a * b).sin(), a.exp().sum() * b)
    assert gradcheck(f, (x, w)) and gradgradcheck(f, (x, w))
    assert gradcheck(lambda a: a.sum(), aj.zeros(0, dtype=aj.float64, requires_grad=True))


def test_a_wrong_gradient_is_caught():
    with pytest.raises(GradcheckError, match="Jacobian mismatch") as e:
        gradcheck(Wrong.apply, double(1.0, 2.0), rtol=1e-4)
    assert any("should be" in n for n in e.value.__notes__)
    assert not gradcheck(Wrong.apply, double(1.0, 2.0), rtol=1e-4, raise_exception=False)


def test_a_wrong_second_derivative_is_caught():
    assert gradcheck(WrongTwice.apply, double(1.0, 2.0))
    with pytest.raises(GradcheckError):
        gradgradcheck(WrongTwice.apply, double(1.0, 2.0))


def test_what_it_refuses():
    with pytest.raises(ValueError, match="require gradient"):
        gradcheck(lambda x: x, aj.ones(2))
    with pytest.warns(UserWarning, match="double precision"):
        gradcheck(lambda x: x * 2, aj.ones(2, requires_grad=True), atol=1.0, rtol=1.0)


def test_a_traced_function_is_checked_too():
    f = aj.trace(lambda x: (x.tanh() * x).sum())
    assert gradcheck(f, double(0.1, 0.7)) and gradgradcheck(f, double(0.1, 0.7))
