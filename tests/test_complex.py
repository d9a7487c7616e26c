"""Complex tensors: values, gradients, second gradients of ops against torch, views of parts, printing, promotion, refusals."""

from __future__ import annotations

import cmath

import numpy as np
import pytest

import autojit as aj

try:
    import torch
except ImportError:
    torch = None

needs_torch = pytest.mark.skipif(torch is None, reason="torch is not installed")
RNG = np.random.default_rng(0)


def C(*shape):
    return RNG.standard_normal(shape) + 1j * RNG.standard_normal(shape)


X, Y, M, V, REAL = C(3, 4), C(3, 4), C(3, 3), C(4), RNG.uniform(0.5, 2, (3, 4))
UNARY = ("exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh sigmoid sqrt rsqrt "
         "reciprocal square neg abs sgn angle conj conj_physical sum mean prod isnan isfinite isinf isreal any all "
         "count_nonzero std var norm T H mH").split()
CALLS = {
    **{name: (lambda m, x, name=name: getattr(x, name) if name in ("T", "H", "mH") else getattr(m, name)(x), [X])
       for name in UNARY},
    **{name: (lambda m, x, y, name=name: getattr(m, name)(x, y), [X, Y]) for name in "add sub mul div pow rsub eq".split()},
    "alpha": (lambda m, x, y: m.add(x, y, alpha=2 + 1j), [X, Y]),
    "numbers": (lambda m, x: (2 - x) * 3j + 1 / x + x ** 3 + x ** -2 + x ** 0.5 + x ** (1 + 1j) + 2 ** x + (1 + 1j) ** x, [X]),
    "real and complex": (lambda m, a, x: a * x + x / a + 1j * a, [REAL, X]),
    "broadcast": (lambda m, x, y: x * y + y, [C(3, 1), C(1, 4)]),
    "addcmul": (lambda m, x, y, z: m.addcmul(x, y, z, value=2) + m.addcdiv(x, y, z), [X, Y, C(3, 4)]),
    "cumsum": (lambda m, x: m.cumsum(x, 1), [X]),
    "along dims": (lambda m, x: x.sum(1, keepdim=True) + x.mean(0) + x.prod(0), [X]),
    "norms": (lambda m, x: m.linalg.norm(x) + m.linalg.vector_norm(x, 3) + m.linalg.vector_norm(x, 1, dim=0)
              + m.linalg.vector_norm(x, float("inf")), [X]),
    "matmul": (lambda m, x, y: x @ y + m.mm(y, x), [M, C(3, 3)]),
    "products": (lambda m, x: m.mv(x, x[0]).sum() + m.dot(x[0], x[1]) + m.vdot(x[0], x[1]) + m.outer(x[0], x[1]).mean()
                 + m.kron(x, x).mean() + m.bmm(x[None], x.T[None]).sum(), [M]),
    "contractions": (lambda m, x, y: m.einsum("ij,kj->ik", x, y.conj()) + m.tensordot(x, y.T, 1) + m.inner(x, y), [M, C(3, 3)]),
    "addmm": (lambda m, a, x, y: m.addmm(a, x, y, alpha=2) + m.baddbmm(a[None], x[None], y[None])[0], [M, C(3, 4), C(4, 3)]),
    "vecdot": (lambda m, x: m.linalg.vecdot(x, x * 2j), [X]),
    "powers": (lambda m, x: m.linalg.matrix_power(x, 3) + m.linalg.multi_dot([x, x.T, x]), [M]),
    "linear": (lambda m, x, w, b: m.nn.functional.linear(x, w, b), [X, C(2, 4), C(2)]),
    "float_power": (lambda m, x: m.float_power(x, 2), [X]),
    "shapes": (lambda m, x: m.cat([x.reshape(-1), m.flip(x, [0]).t().flatten(), m.roll(x, 1, 0)[1:, ::2].reshape(-1)]), [X]),
    "indices": (lambda m, x: x[m.tensor([0, 0, 2])] + m.index_select(x, 1, m.tensor([3, 2, 1, 0])), [X]),
    "places": (lambda m, x: m.gather(x, 1, m.tensor([[0, 1], [1, 1], [2, 0]])).sum() + m.take(x, m.tensor([0, 5])).prod(), [X]),
    "writes": (lambda m, x: x.index_add(0, m.tensor([0, 0]), x[:2]) + x.scatter_add(1, m.tensor([[0], [1], [2]]), x[:, :1]),
               [X]),
    "masks": (lambda m, x: x.masked_fill(m.abs(x) > 1, 2.0) + m.tril(x) + x * (m.abs(x) > 1), [X]),
    "diagonals": (lambda m, x: m.diag(x).sum() + m.trace(x) + m.diag_embed(x).sum(), [M]),
    "pieces": (lambda m, x: m.stack([*m.split(x, 2, 1), *x.chunk(2, 1)]) + x.unfold(1, 2, 2).mean(1), [X]),
    "parts": (lambda m, x: m.view_as_real(x).sum() + (x.real * x.imag).sum() + m.complex(x.imag, x.real).abs().sum(), [X]),
    "casts": (lambda m, x: x.to(m.complex64).to(m.complex128) + x.real.to(m.complex128), [X]),
    "size zero": (lambda m, x: m.abs(x * 0), [X]),
    "near one": (lambda m, x: m.log(x * 1e-3 + 1), [X]),
    "pow zero": (lambda m, x: x ** 0, [X]),
}


def derived(m, f, arrays):
    """(value, gradients, gradients of gradients) in library `m`."""
    ts = [m.from_numpy(a.copy()).requires_grad_() for a in arrays]
    y = f(m, *ts)
    found = [y]
    if y.requires_grad:
        ct = np.cos(np.arange(y.numel())) * np.exp(0.7j if y.is_complex() else 0)
        ct = m.tensor(ct if y.is_complex() else ct.real.copy()).reshape(tuple(y.shape)).to(y.dtype)
        first = m.autograd.grad(y, ts, ct, create_graph=True)
        again = [g.real.cos().sum() + ((2 * g.imag).sin().sum() if g.is_complex() else 0) for g in first if g.requires_grad]
        second = m.autograd.grad(sum(again), ts, allow_unused=True, materialize_grads=True) if again else []
        found += [*first, *second]
    return [t.detach().resolve_conj().numpy() for t in found]


@needs_torch
@pytest.mark.parametrize("name", CALLS)
def test_values_and_derivatives_are_torchs(name):
    f, arrays = CALLS[name]
    got, want = derived(aj, f, arrays), derived(torch, f, arrays)
    want += [np.zeros_like(g) for g in got[len(want):]]
    for g, w in zip(got, want):
        assert g.dtype == w.dtype and g.shape == w.shape
        np.testing.assert_allclose(g, w, rtol=1e-6 if name == "casts" else 1e-9, atol=1e-9)


STORED = {
    "exp": (0.5 + 1j, 0.8908079042521 + 1.38735111132j), "log": (-1 - 1e-300j, -3.14159265358979j),
    "sqrt": (-4 + 0j, 2j), "tanh": (300 + 1j, 1 + 0j), "asin": (2 + 0j, 1.5707963267949 + 1.31695789692482j),
    "acosh": (-2 + 0.5j, 1.36180090085785 + 2.86383839703208j), "cosh": (0.5 + 1j, 0.60925890915779 + 0.4384865798925j),
}


@pytest.mark.parametrize("name", STORED)
def test_values_are_the_stored_ones(name):
    z, want = STORED[name]
    got = getattr(aj, name)(aj.tensor(z, dtype=aj.complex128)).item()
    assert got == pytest.approx(want, rel=1e-10) and got == pytest.approx(getattr(cmath, name)(z), rel=1e-12)


@pytest.mark.parametrize("name", "exp log sqrt sin cos tan sinh cosh tanh asin acos atan asinh acosh atanh".split())
def test_all_quarters_and_cuts_are_numpys(name):
    """Signs of zero choose the side of a cut; tiny, large and ordinary sizes."""
    sizes = np.array([0.0, 1e-200, 0.5, 1.5, 30.0])
    one = np.concatenate([sizes, -sizes])
    z = np.empty((one.size, one.size), complex)
    z.real, z.imag = one[:, None], one[None]
    z = z[(np.abs(z - 1) > 0) & (np.abs(z + 1) > 0) & (np.abs(z) > 0)]
    numpys = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "asinh": "arcsinh", "acosh": "arccosh", "atanh": "arctanh"}
    with np.errstate(all="ignore"):
        want = getattr(np, numpys.get(name, name))(z)
    got = getattr(aj, name)(aj.from_numpy(z)).numpy()
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-150)


@pytest.mark.parametrize("tier", ["numpy", "compile"])
def test_programs(tier, monkeypatch):
    """Kernels know nothing of complex numbers, and give the same."""
    monkeypatch.setattr(aj.config, "tier", tier)

    @aj.trace
    def f(z, w):
        u = (z * w.conj()).exp() / (1 + z) + z[:, :1].T.sum() * 1j
        return u, aj.stack([u.real, u.imag]), u.abs().sum()

    z, w = aj.from_numpy(X), aj.from_numpy(Y)
    want = np.exp(X * Y.conj()) / (1 + X) + X[:, 0].sum() * 1j
    got = f(z, w)
    np.testing.assert_allclose(got[0].numpy(), want, rtol=1e-12)
    np.testing.assert_allclose(got[1].numpy(), [want.real, want.imag], rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(got[2].item(), np.abs(want).sum(), rtol=1e-12)
    g = aj.grad(lambda v: f(v, w)[2])(z)
    h = 1e-6
    for step, part in ((h, "real"), (1j * h, "imag")):
        up, down = X.copy(), X.copy()
        up[1, 2] += step
        down[1, 2] -= step
        slope = (f(aj.from_numpy(up), w)[2] - f(aj.from_numpy(down), w)[2]).item() / (2 * h)
        assert getattr(g[1, 2], part).item() == pytest.approx(slope, rel=1e-5)


def test_transforms_of_functions():
    z = aj.from_numpy(X)
    np.testing.assert_allclose(aj.vmap(lambda v: (v * v).sum() * v)(z).numpy(), (X * X).sum(1, keepdims=True) * X, rtol=1e-12)
    value, tangent = aj.jvp(lambda v: v.exp() * v, (z,), (aj.from_numpy(Y),))
    np.testing.assert_allclose(tangent.numpy(), np.exp(X) * (X + 1) * Y, rtol=1e-12)
    assert aj.autograd.gradcheck(lambda v: (v.exp() * v.conj()).sqrt(), (z.clone().requires_grad_(),))
    assert aj.autograd.gradgradcheck(lambda v: v.abs() * v.tanh(), (z[:1].clone().requires_grad_(),))


# ---------------------------------------------------------------- views
def test_parts_are_views():
    z = aj.tensor([1 + 2j, 3 - 1j])
    z.real[0] = 7
    z.imag.mul_(2)
    assert z.tolist() == [7 + 4j, 3 - 2j]
    pairs = aj.view_as_real(z)
    pairs[1, 0] = 100
    assert z.tolist() == [7 + 4j, 100 - 2j] and pairs.stride() == (2, 1)
    assert z.imag.stride() == (2,) and z.imag.storage_offset() == 1 and z.real.storage_offset() == 0
    flat = aj.zeros(3, 2)
    aj.view_as_complex(flat)[1] = 1 + 5j
    assert flat.tolist() == [[0, 0], [1, 5], [0, 0]]
    z.real = 0
    assert z.tolist() == [4j, -2j]
    m = aj.tensor([[1 + 1j, 2], [3, 4j]])
    m.T.imag[0] = aj.tensor([8.0, 9.0])
    assert m.tolist() == [[1 + 8j, 2], [3 + 9j, 4j]]


def test_memory_is_shared_with_numpy():
    a = np.array([1 + 1j, 2], np.complex64)
    t = aj.from_numpy(a)
    a[0] = 5
    t.imag[1] = 3
    assert t.tolist() == [5, 2 + 3j] and a.tolist() == [5, 2 + 3j]
    assert t.numpy().dtype == np.complex64 and t.real.numpy().base is not None


def test_writes_to_parts_are_differentiated():
    z = aj.tensor([1 + 2j, 3 - 1j], requires_grad=True)
    w = z * 1
    w.real.mul_(3)
    w.imag.copy_(z.real)
    (w * w).imag.sum().backward()                         # 6 re(z)²
    assert z.grad.tolist() == [12, 36]


# ---------------------------------------------------------------- gradients
def test_gradients_of_real_tensors_are_real():
    x = aj.tensor([1.0, 2.0], requires_grad=True)
    (x * (3 + 4j)).abs().sum().backward()
    assert x.grad.tolist() == [5, 5] and x.grad.dtype is aj.float32


def test_a_complex_value_has_no_gradient_of_its_own():
    z = aj.tensor([1 + 1j], requires_grad=True)
    with pytest.raises(RuntimeError, match="implicitly created only for real scalar outputs but got torch.complex64"):
        z.sum().backward()
    z.sum().backward(aj.tensor(2 - 1j))
    assert z.grad.tolist() == [2 - 1j]
    z.grad = None
    for _ in range(3):                                    # a known path too
        (z * z).real.sum().backward()
    assert z.grad.tolist() == [3 * (2 - 2j)]


# ---------------------------------------------------------------- dtypes, numbers, text
PROMOTED = [
    ("aj.ones(2) + aj.tensor(1j)", "complex64"), ("aj.ones(2, dtype=aj.float64) + aj.tensor(1j)", "complex128"),
    ("aj.ones(2) * aj.tensor(1j, dtype=aj.complex128)", "complex64"), ("aj.ones(2, dtype=aj.int32) * 1j", "complex64"),
    ("aj.ones(2, dtype=aj.float64) * 1j", "complex128"), ("aj.ones(2, dtype=aj.complex64) * aj.ones(2, dtype=aj.float64)",
                                                        "complex128"),
    ("aj.ones(2, dtype=aj.complex64) * aj.tensor(2.0, dtype=aj.float64)", "complex64"), ("aj.full((2,), 1j)", "complex64"),
    ("aj.tensor([1, 2j])", "complex64"), ("aj.tensor(1, dtype=complex)", "complex128"), ("aj.ones(2).half() * 1j", "complex64"),
    ("aj.zeros(2, dtype=aj.cfloat).real", "float32"), ("aj.zeros(2, dtype=aj.cdouble).abs()", "float64"),
    ("aj.ones(2).bool() + 1j", "complex64"),
]


@pytest.mark.parametrize("text, dtype", PROMOTED)
def test_promotion(text, dtype):
    assert eval(text).dtype is getattr(aj, dtype)
    if torch is not None and "half" not in text:          # torch: complex32
        assert str(eval(text.replace("aj.", "torch.")).dtype) == f"torch.{dtype}"


def test_the_default_of_complex_numbers_follows_that_of_floats():
    try:
        aj.set_default_dtype(aj.float64)
        assert aj.tensor(1j).dtype is aj.complex128 and "dtype" not in repr(aj.tensor(1j))
    finally:
        aj.set_default_dtype(aj.float32)
    assert aj.complex64.to_real() is aj.float32 and aj.float64.to_complex() is aj.complex128
    assert aj.finfo(aj.complex64).eps == aj.finfo(aj.float32).eps
    with pytest.raises(TypeError, match="only floating-point types are supported as the default type"):
        aj.set_default_dtype(aj.complex64)


def test_numbers():
    z = aj.tensor(1 + 2j)
    assert z.item() == 1 + 2j and complex(z) == 1 + 2j and bool(z) and (1 + 2j) in z.reshape(1)
    assert float(aj.tensor(3 + 0j)) == 3.0
    with pytest.raises(RuntimeError, match="value cannot be converted to type double without overflow"):
        float(z)
    assert z.is_complex() and not z.is_floating_point() and aj.is_complex(z) and z.type() == "torch.ComplexFloatTensor"
    assert aj.allclose(z, z + 1e-9) and aj.equal(z, z.clone()) and not aj.equal(z, z.conj())
    np.testing.assert_allclose(np.exp(z).item(), cmath.exp(1 + 2j), rtol=1e-6)


@pytest.mark.parametrize("text, want", [
    ("aj.tensor([1 + 2j, -3.5])", "tensor([ 1.0000+2.j, -3.5000+0.j])"),
    ("aj.tensor(1j, requires_grad=True)", "tensor(0.+1.j, requires_grad=True)"),
    ("aj.tensor([1j], dtype=aj.complex128)", "tensor([0.+1.j], dtype=torch.complex128)"),
    ("aj.tensor([1e-9j, 3e8])", "tensor([0.0000e+00+1.0000e-09j, 3.0000e+08+0.0000e+00j])"),
    ("aj.tensor([1j], requires_grad=True).abs()", "tensor([1.], grad_fn=<AbsBackward0>)"),
    ("aj.tensor([1j], requires_grad=True).real", "tensor([0.], grad_fn=<SelectBackward0>)"),
    ("aj.view_as_real(aj.tensor([1j], requires_grad=True))", "tensor([[0., 1.]], grad_fn=<ViewAsRealBackward0>)"),
    ("aj.zeros(0, dtype=aj.complex64)", "tensor([], dtype=torch.complex64)"),
])
def test_text(text, want):
    if torch is not None:
        assert repr(eval(text.replace("aj.", "torch."))) == want
    assert repr(eval(text)) == want


# ---------------------------------------------------------------- refusals
REFUSED = [
    "z < z", "z < 1", "z.max()", "z.max(0)", "z.amax()", "z.argmax()", "z.sort()", "z.topk(1)", "torch.maximum(z, z)",
    "z.clamp(0, 1)", "z.floor()", "z.round()", "z.sign()", "z.relu()", "z.fmod(2)", "z % 2", "z // 2", "torch.atan2(z, z)",
    "z.erf()",
    "z.median()", "z & z", "r.imag", "torch.view_as_real(r)", "torch.view_as_complex(r.int())", "torch.complex(r, r.double())",
    "torch.polar(r.int(), r.int())", "r.add_(z)", "r.mul_(1j)", "r.fill_(1j)", "torch.arange(3, dtype=torch.complex64)",
    "torch.tensor([1j], dtype=torch.float32)", "torch.view_as_complex(r.reshape(2, 1))", "int(z[0])", "z.nansum()",
    "torch.view_as_complex(torch.zeros(2, 2).t())", "torch.view_as_complex(torch.zeros(2, 3)[:, :2])",
]


@needs_torch
@pytest.mark.parametrize("text", REFUSED)
def test_refusals_are_torchs(text):
    raised = []
    for m in (torch, aj):
        with pytest.raises(Exception) as e:
            eval(text, {"torch": m, "z": m.tensor([1 + 2j, 3 - 1j]), "r": m.tensor([1.0, 2.0])})
        raised.append((type(e.value), str(e.value).split("\n")[0]))
    assert raised[0] == raised[1]


@pytest.mark.parametrize("f", [lambda z: z.softmax(0), lambda z: aj.nn.functional.mse_loss(z, z), lambda z: aj.linalg.inv(z),
                               lambda z: aj.linalg.svd(z), lambda z: aj.linalg.norm(z, 2), lambda z: z.logsumexp(0),
                               lambda z: z.cumprod(0), lambda z: aj.nn.functional.gelu(z)])
def test_what_has_no_form_is_refused_by_name(f):
    with pytest.raises((NotImplementedError, RuntimeError), match="Complex"):
        f(aj.tensor([[1 + 2j, 1], [2, 3]]))


# ---------------------------------------------------------------- eigenvalues
@needs_torch
@pytest.mark.parametrize("a", [M.real, np.stack([M.real, M.imag]), M])
def test_eigenvalues_and_their_derivatives_are_torchs(a):
    found = []
    for m in (torch, aj):
        x = m.from_numpy(a.copy()).requires_grad_()
        values, vectors = m.linalg.eig(x)
        loss = (values.abs() ** 2).sum() + (vectors.abs() ** 3).sum() + m.linalg.eigvals(x).real.sum()
        g, = m.autograd.grad(loss, x, create_graph=True)
        gg, = m.autograd.grad((g.abs() ** 2).sum(), x)
        found.append([t.detach().resolve_conj().numpy() for t in (values, vectors, g, gg)])
    for w, g in zip(*found):
        assert w.dtype == g.dtype
        np.testing.assert_allclose(g, w, rtol=1e-9, atol=1e-9)


def test_eigenvalues_may_be_repeated_where_no_vector_is_asked_for():
    x = aj.eye(2, requires_grad=True)
    aj.linalg.eigvals(x).real.sum().backward()
    assert x.grad.tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("a, error, words", [
    (np.zeros((2, 3)), RuntimeError, "linalg.eig: A must be batches of square matrices, but they are 2 by 3 matrices"),
    (np.full((2, 2), np.nan), RuntimeError, "torch.linalg.eig: input tensor should not contain infs or NaNs."),
    (np.zeros((2, 2), int), RuntimeError, "Unknown Complex ScalarType for Long"),
    (np.zeros((2, 2), "float16"), NotImplementedError, "\"linalg_eig_out_cpu\" not implemented for 'Half'"),
])
def test_matrices_without_eigenvalues_are_refused(a, error, words):
    with pytest.raises(error, match=words):
        aj.linalg.eig(aj.tensor(a))


# ---------------------------------------------------------------- beside ops
def test_random_numbers_have_both_parts():
    z = aj.randn(2000, dtype=aj.complex64)
    assert abs(z.real.var().item() - 0.5) < 0.1 and abs(z.imag.var().item() - 0.5) < 0.1
    u = aj.rand(100, dtype=aj.cdouble)
    assert u.dtype is aj.complex128 and 0 <= u.imag.min() and u.imag.max() < 1 and u.imag.std() > 0.1


def test_optimisers_that_square_gradients_refuse():
    w = aj.nn.Parameter(aj.tensor([1 + 1j]))
    step = aj.optim.SGD([w], 0.25)
    (w.abs() ** 2).sum().backward()
    step.step()
    assert w.tolist() == [0.5 + 0.5j]
    with pytest.raises(NotImplementedError, match="Adam takes no complex parameters"):
        aj.optim.Adam([w])


def test_exports_refuse_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(aj.config, "tier", "compile")
    z = aj.tensor([1j])
    with pytest.raises(NotImplementedError, match="takes or gives complex numbers"):
        aj.export(aj.trace(lambda z: z * 2j), z, path=tmp_path / "made.py")
