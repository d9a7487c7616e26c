"""`.grad` of what is passed to a traced function that calls backward() itself."""

import pytest

import autojit as aj


def _once(x):
    (x * 2).sum().backward()


def _twice(x):
    (x * 2).sum().backward()
    (x * x).sum().backward()


def _anew(x):
    x.grad = None
    (x * 2).sum().backward()


@pytest.mark.parametrize("f", [_once, _twice, _anew])
def test_gradients_of_arguments_grow_as_without_a_trace(f):
    """A call adds to the gradient that its argument holds, in place, unless the function begins by dropping it."""
    g, x, y = aj.trace(f), aj.ones(2, requires_grad=True), aj.ones(2, requires_grad=True)
    for k in range(3):
        g(x)
        f(y)
        assert x.grad.tolist() == y.grad.tolist()
        if k == 0:
            kept = x.grad
    assert (x.grad is kept) is (f is not _anew)


def test_a_gradient_from_before_the_call_is_not_taken_for_none():
    def f(x):
        (x * 2).sum().backward()
        return x.grad * 1

    g, x = aj.trace(f), aj.ones(2, requires_grad=True)
    assert g(x).tolist() == [2, 2]
    with pytest.raises(aj.TraceError, match="looks at .grad of an argument"):
        g(x)
    assert x.grad.tolist() == [2, 2]
    x.grad = None
    assert g(x).tolist() == [2, 2]
