"""`autograd.functional` against torch's: values, structures, graphs of the results, and what is refused."""

import numpy as np
import pytest

import autojit as aj

torch = pytest.importorskip("torch")


def vector(m, n=3, grad=False):
    return m.tensor(np.linspace(0.5, 1.5, n), requires_grad=grad)


FUNCTIONS = {
    "square": (lambda x: x ** 2, 1),
    "number": (lambda x: (x ** 3).sum() * x[0], 1),
    "pair": (lambda x, y: (x * y.sum(), x.sin()), 2),
    "of two": (lambda x, y: (x * y ** 2).sum(), 2),
    "independent": (lambda x, y: x.exp().sum(), 2),
    "linear": (lambda x: 3 * x.sum(), 1),
    "constant": (lambda x: x.new_ones(2), 1),
}


def flat(found):
    return [y for x in found for y in flat(x)] if isinstance(found, tuple) else [found]


def shape_of(found):
    return tuple(shape_of(x) for x in found) if isinstance(found, tuple) else tuple(found.shape)


def outcome(m, name, func, many, **words):
    f = getattr(m.autograd.functional, name)
    inputs = tuple(vector(m, grad=words.get("create_graph", False)) + k for k in range(many))
    extra = ()
    if name in ("jvp", "hvp", "vhp"):
        extra = (tuple(vector(m) - k for k in range(many)) if many > 1 else vector(m) * 2,)
    elif name == "vjp":
        out = func(*inputs)
        extra = (tuple(m.ones_like(o) * 2 for o in out) if isinstance(out, tuple) else m.ones_like(out) * 2,)
    try:
        found = f(func, inputs if many > 1 else inputs[0], *extra, **words)
    except Exception as e:
        return type(e).__name__, str(e).split(" Hint")[0][:60]
    return shape_of(found), [t.requires_grad for t in flat(found)], [t.detach().numpy() for t in flat(found)]


@pytest.mark.parametrize("words", [{}, {"create_graph": True}, {"strict": True}], ids=str)
@pytest.mark.parametrize("case", FUNCTIONS)
@pytest.mark.parametrize("name", ["vjp", "jvp", "jacobian", "hessian", "hvp", "vhp"])
def test_as_torch(name, case, words):
    func, many = FUNCTIONS[case]
    ours, theirs = outcome(aj, name, func, many, **words), outcome(torch, name, func, many, **words)
    assert ours[:2] == theirs[:2]
    for a, b in zip(*[x[2] if len(x) > 2 else () for x in (ours, theirs)]):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_results_are_differentiable_again():
    def total(m):
        x = vector(m, grad=True)
        h = m.autograd.functional.hessian(lambda x: (x ** 4).sum(), x, create_graph=True)
        h.sum().backward()
        return x.grad.numpy()
    np.testing.assert_allclose(total(aj), total(torch))


@pytest.mark.parametrize("call", [
    lambda m: m.autograd.functional.jacobian(lambda x: x, 3.0),
    lambda m: m.autograd.functional.jacobian(lambda x: 2.0, vector(m)),
    lambda m: m.autograd.functional.hessian(lambda x: x, vector(m)),
    lambda m: m.autograd.functional.hessian(lambda x: (x.sum(), x.sum()), vector(m)),
    lambda m: m.autograd.functional.vjp(lambda x: x, vector(m)),
    lambda m: m.autograd.functional.jvp(lambda x: x, vector(m)),
    lambda m: m.autograd.functional.vjp(lambda x: x, vector(m), vector(m, 4)),
    lambda m: m.autograd.functional.hvp(lambda x, y: (x * y).sum(), (vector(m), vector(m)), vector(m)),
    lambda m: m.autograd.functional.hvp(lambda x, y: (x * y).sum(), (vector(m), vector(m)), (vector(m), vector(m, 2))),
    lambda m: m.autograd.functional.jacobian(lambda x: x, vector(m), strategy="sideways"),
])
def test_refusals(call):
    errors = []
    for m in (aj, torch):
        with pytest.raises((RuntimeError, TypeError, AssertionError)) as e:
            call(m)
        errors.append((e.type, str(e.value).replace("autojit.Tensor", "torch.Tensor").split("\n")[0]))
    assert errors[0][0] is errors[1][0] and errors[0][1][:40] == errors[1][1][:40]
