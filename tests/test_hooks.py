"""Hooks of functions in the tape and of modules, and custom Functions: held against torch where the values say it."""

from __future__ import annotations

import numpy as np
import pytest

import autojit as aj
from autojit import nn


def leaf(*values):
    return aj.tensor(list(values), requires_grad=True)


def test_hooks_around_a_functions_reverse():
    x, log = leaf(1.0, 2.0), []
    y = x.exp()
    y.register_hook(lambda g: g * 2)
    y.grad_fn.register_prehook(lambda go: (log.append(go[0].tolist()), (go[0] * 5,))[1])
    y.grad_fn.register_hook(lambda gi, go: (log.append(go[0].tolist()), (gi[0] * 3,))[1])
    y.sum().backward()
    assert log == [[2.0, 2.0], [10.0, 10.0]]
    np.testing.assert_allclose(x.grad.numpy(), 30 * np.exp([1.0, 2.0]), rtol=1e-6)


def test_what_hooks_of_functions_may_not_return():
    for hook, error, words in ((lambda gi, go: 3, TypeError, "expected tuple, but hook returned 'int'"),
                               (lambda gi, go: (gi[0],) * 3, RuntimeError, "incorrect number of values .got 3, but expected 1"),
                               (lambda gi, go: (gi[0].sum(),), RuntimeError, "has changed the size of value")):
        x = leaf(1.0, 2.0)
        y = x.exp()
        y.grad_fn.register_hook(hook)
        with pytest.raises(error, match=words):
            y.sum().backward()


def test_hooks_of_a_leafs_accumulation():
    x, log = leaf(1.0), []
    acc = (x * 2).grad_fn.next_functions[0][0]
    acc.register_prehook(lambda go: (go[0] * 3,))
    acc.register_hook(lambda gi, go: log.append((gi, go[0].tolist(), x.grad.tolist())))
    (x * 2).sum().backward()
    assert log == [((), [6.0], [6.0])]
    assert aj.autograd.grad((x * 2).sum(), x)[0].tolist() == [2.0]     # nothing is accumulated


def test_handles_take_one_registration_away():
    x, double = leaf(1.0), lambda g: g * 2
    one, two = x.register_hook(double), x.register_hook(double)
    one.remove()
    one.remove()
    (x * 3).sum().backward()
    assert x.grad.tolist() == [6.0]
    two.remove()
    x.grad = None
    (x * 3).sum().backward()
    assert x.grad.tolist() == [3.0]


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(aj.tensor([2.0, 3.0]))

    def forward(self, x, k=1):
        return x * self.w * k


def test_a_recording_notices_other_hooks():
    m = Scale()
    f = aj.trace(lambda x: m(x))
    x = aj.ones(2)
    assert f(x).tolist() == [2, 3]
    handle = m.register_forward_hook(lambda m, a, o: o * 10)
    assert f(x).tolist() == [20, 30]
    handle.remove()
    assert f(x).tolist() == [2, 3]


def test_module_backward_hooks_are_counted():
    m, x = Scale(), leaf(1.0, 1.0)
    with m.register_full_backward_hook(lambda m, gi, go: (gi[0], gi[0])):
        with pytest.raises(RuntimeError, match="invalid number of grad_input, got 2, but expected 1"):
            m(x).sum().backward()
    with m.register_full_backward_pre_hook(lambda m, go: (go[0], go[0])):
        with pytest.raises(RuntimeError, match="invalid number of grad_output, got 2, but expected 1"):
            m(x).sum().backward()
    with m.register_full_backward_hook(lambda m, gi, go: (aj.ones(2),)):
        with pytest.raises(RuntimeError, match="no input requires gradient"):
            m(aj.ones(2)).sum().backward()


def test_hooks_of_saved_state():
    m, log = Scale(), []
    m.register_state_dict_post_hook(lambda m, state, prefix, meta: state.update(extra=1))
    m.register_load_state_dict_pre_hook(lambda m, state, *rest: log.append(state.pop("extra", None)))
    m.register_load_state_dict_post_hook(lambda m, keys: keys.missing_keys.clear())
    assert sorted(m.state_dict()) == ["extra", "w"]
    m.load_state_dict(m.state_dict())
    m.load_state_dict({})
    assert log == [1, None]


def test_functions_to_the_letter():
    class Several(aj.autograd.Function):
        @staticmethod
        def forward(ctx, x, by=2):
            ctx.mine = by
            return [x * by, "word"]

        @staticmethod
        def vjp(ctx, *grads):
            assert grads[1] is None
            return grads[0] * ctx.mine, None

    x = leaf(1.0)
    y, word = out = Several.apply(x, by=3)
    assert type(out) is list and word == "word"
    y.sum().backward()
    assert x.grad.tolist() == [3.0]

    class Both(Several):
        backward = Several.vjp

    with pytest.raises(RuntimeError, match="both 'backward' and 'vjp'"):
        Both.apply(x)[0].sum().backward()


def test_grad_fn_has_what_the_context_has():
    class Square(aj.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            assert ctx.saved_tensors == ()
            ctx.save_for_backward(x)
            ctx.mine = 5
            return x ** 2

        @staticmethod
        def backward(ctx, g):
            return g * 2 * ctx.saved_tensors[0]

    y = Square.apply(leaf(3.0))
    assert y.grad_fn.mine == 5 and y.grad_fn.saved_tensors[0].tolist() == [3.0]
    assert y.grad_fn.needs_input_grad == (True,) and y.grad_fn.name() == "SquareBackward"


def test_gradients_that_belong_nowhere_are_refused():
    class Times(aj.autograd.Function):
        @staticmethod
        def forward(ctx, x, k):
            return x * k

        @staticmethod
        def backward(ctx, g):
            return g, g

    with pytest.raises(RuntimeError, match="different than None at position 2"):
        Times.apply(leaf(1.0), 2.0).sum().backward()

    class Dirty(aj.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.mark_dirty(x)
            return x.clone()

    with pytest.raises(RuntimeError, match="must all be outputs of the Function"):
        Dirty.apply(leaf(1.0) * 1)
