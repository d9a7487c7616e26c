"""torch.fft: frequencies, shifts, transforms of every kind against torch and against finite differences, words of refusal."""

from __future__ import annotations

import numpy as np
import pytest

import autojit as aj

try:
    import torch
except ImportError:
    torch = None


@pytest.mark.parametrize("n", [1, 2, 5, 8])
@pytest.mark.parametrize("name", ["fftfreq", "rfftfreq"])
def test_frequencies_are_numpys(name, n):
    for d in (1.0, 0.25):
        got = getattr(aj.fft, name)(n, d, dtype=aj.float64)
        np.testing.assert_allclose(got.numpy(), getattr(np.fft, name)(n, d), rtol=1e-15)
        assert getattr(aj.fft, name)(n, d).dtype is aj.float32
    assert getattr(aj.fft, name)(n, requires_grad=True).requires_grad


@pytest.mark.parametrize("shape", [(5,), (4, 3), (2, 3, 5)])
@pytest.mark.parametrize("dim", [None, -1, (0,)])
def test_shifts_are_numpys_and_undo_each_other(shape, dim):
    a = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    x = aj.tensor(a, requires_grad=True)
    for name in ("fftshift", "ifftshift"):
        np.testing.assert_array_equal(getattr(aj.fft, name)(x, dim).detach().numpy(), getattr(np.fft, name)(a, dim))
    back = aj.fft.ifftshift(aj.fft.fftshift(x, dim), dim)
    assert back.tolist() == x.tolist()
    (back * x.detach()).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), a)


def test_a_tensor_without_dimensions_is_refused():
    with pytest.raises(RuntimeError, match="`shifts` required"):
        aj.fft.fftshift(aj.tensor(1.0))


def test_every_name_of_torchs_is_here():
    if torch is not None:
        names = {n for n in dir(torch.fft) if n.endswith(("fft", "fft2", "fftn", "freq", "shift")) and n[0] != "_"}
        assert names <= set(dir(aj.fft))


# ---------------------------------------------------------------- transforms
R = np.random.default_rng(3).standard_normal((3, 4, 5))
Z = R + 1j * np.random.default_rng(4).standard_normal((3, 4, 5))
ONE = [{}, {"n": 7}, {"n": 3}, {"n": 1}, {"dim": 0}, {"dim": 1, "n": 6, "norm": "ortho"}, {"norm": "forward"}]
MANY = [{}, {"s": (3, 6)}, {"dim": (1, 0), "s": (4, -1), "norm": "ortho"}, {"norm": "forward", "dim": (0,)}]
REAL = ("rfft", "ihfft", "rfft2", "ihfft2", "rfftn", "ihfftn")
CASES = [(name, kind, words) for family, given in ((("fft", "ifft", "rfft", "ihfft", "irfft", "hfft"), ONE),
                                                   (("fft2", "ifft2", "rfft2", "ihfft2", "irfft2", "hfft2"), MANY[:3]),
                                                   (("fftn", "ifftn", "rfftn", "ihfftn", "irfftn", "hfftn"), MANY))
         for name in family for kind in ("f", "c") if not (kind == "c" and name in REAL) for words in given]


def results(m, name, a, words):
    """(value, gradient, gradient of a gradient) of a transform of an array in library `m`."""
    x = m.from_numpy(a.copy()).requires_grad_()
    y = getattr(m.fft, name)(x, **words)
    ct = np.cos(np.arange(y.numel())).reshape(tuple(y.shape)) + 0j
    ct = m.tensor(ct * np.exp(0.3j) if y.is_complex() else ct.real.copy())
    g, = m.autograd.grad(y * y, x, ct.to(y.dtype), create_graph=True)
    total = (g.real ** 3).sum() + ((2 * g.imag) ** 3).sum() if g.is_complex() else (g ** 3).sum()
    gg, = m.autograd.grad(total, x)
    return [t.detach().resolve_conj().numpy() for t in (y, g, gg)]


@pytest.mark.skipif(torch is None, reason="torch is not installed")
@pytest.mark.parametrize("name, kind, words", CASES)
def test_transforms_and_their_derivatives_are_torchs(name, kind, words):
    a = R if kind == "f" else Z
    for g, w in zip(results(aj, name, a, words), results(torch, name, a, words)):
        assert g.dtype == w.dtype and g.shape == w.shape
        np.testing.assert_allclose(g, w, rtol=1e-9, atol=1e-9)


def test_single_precision_and_integers():
    x = aj.tensor(R.astype("float32"))
    assert aj.fft.fft(x).dtype is aj.complex64 and aj.fft.irfft(aj.fft.rfft(x), 5).dtype is aj.float32
    np.testing.assert_allclose(aj.fft.fft(x).numpy(), np.fft.fft(R), rtol=1e-5, atol=1e-5)
    got = aj.fft.fft(aj.tensor([1, 2, 3]))
    assert got.dtype is aj.complex64
    np.testing.assert_allclose(got.numpy(), np.fft.fft([1, 2, 3]), rtol=1e-6)


def test_a_convolution_by_transforms_is_one():
    """And its gradient: that of the sums and products that it stands for."""
    a, b = (aj.tensor(v, dtype=aj.float64, requires_grad=True) for v in ([1.0, -2.0, 0.5], [0.25, 3.0, -1.0]))
    y = aj.fft.irfft(aj.fft.rfft(a, 5) * aj.fft.rfft(b, 5), 5)
    np.testing.assert_allclose(y.detach().numpy(), np.convolve(a.detach().numpy(), b.detach().numpy()), atol=1e-14)
    y[2].backward()
    np.testing.assert_allclose(a.grad.numpy(), [-1.0, 3.0, 0.25], atol=1e-14)
    np.testing.assert_allclose(b.grad.numpy(), [0.5, -2.0, 1.0], atol=1e-14)


def test_gradients_are_finite_differences():
    z = aj.tensor(Z[0], requires_grad=True)
    x = aj.tensor(R[0], requires_grad=True)
    for f, v in ((aj.fft.fft2, z), (aj.fft.ifft, x), (aj.fft.rfft, x), (aj.fft.irfft, z), (aj.fft.hfft, z)):
        assert aj.autograd.gradcheck(f, (v,))
        assert aj.autograd.gradgradcheck(lambda t, f=f: f(t) ** 2, (v,))


@pytest.mark.parametrize("tier", ["numpy", "compile"])
def test_transforms_inside_programs(tier, monkeypatch):
    monkeypatch.setattr(aj.config, "tier", tier)

    @aj.trace
    def f(x):
        return (aj.fft.irfft(aj.fft.rfft(x) * (1 - 2j), 6) ** 2).sum(-1)

    x = aj.tensor(R[:, 0, :3].repeat(2, -1))
    spectrum = np.fft.rfft(x.numpy()) * (1 - 2j)
    np.testing.assert_allclose(f(x).numpy(), (np.fft.irfft(spectrum, 6) ** 2).sum(-1), rtol=1e-10)
    many = aj.vmap(aj.fft.fft)(x)
    np.testing.assert_allclose(many.numpy(), np.fft.fft(x.numpy()), atol=1e-12)
    tangent = aj.jvp(aj.fft.fft, (x,), (aj.ones_like(x),))[1]
    np.testing.assert_allclose(tangent.numpy(), np.fft.fft(np.ones((3, 6))), atol=1e-12)


@pytest.mark.parametrize("call, error, words", [
    (lambda: aj.fft.fft(aj.tensor(1.0)), IndexError, "Dimension specified as -1 but tensor has no dimensions"),
    (lambda: aj.fft.fft(aj.ones(3), 0), RuntimeError, r"Invalid number of data points \(0\) specified"),
    (lambda: aj.fft.irfft(aj.ones(1)), RuntimeError, r"Invalid number of data points \(0\) specified"),
    (lambda: aj.fft.fft(aj.ones(3), norm="x"), RuntimeError, 'Invalid normalization mode: "x"'),
    (lambda: aj.fft.rfft(aj.tensor([1j])), RuntimeError, "rfft expects a real input tensor, but got ComplexFloat"),
    (lambda: aj.fft.rfft2(aj.tensor([[1j]])), RuntimeError, "rfftn expects a real-valued input tensor, but got ComplexFloat"),
    (lambda: aj.fft.fft(aj.ones(2).half()), RuntimeError, "Unsupported dtype Half"),
    (lambda: aj.fft.fft(aj.ones(2), dim=3), IndexError, "Dimension out of range"),
    (lambda: aj.fft.fftn(aj.ones(2), s=(2, 2)), RuntimeError, "Got shape with 2 values but input tensor only has 1 dim"),
    (lambda: aj.fft.fftn(aj.ones(2, 2), dim=(0, 0)), RuntimeError, "FFT dims must be unique"),
    (lambda: aj.fft.fftn(aj.ones(2, 2), s=(2, 2), dim=(0,)), RuntimeError, "dim and shape arguments must have the same length"),
    (lambda: aj.fft.rfftn(aj.ones(2, 2), dim=()), RuntimeError, "rfftn must transform at least one axis"),
])
def test_what_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize("n", [2, 30, 64, 17])
def test_kernels_of_transforms(n, monkeypatch):
    """Both precisions, many rows, several radices; a large prime factor is NumPy's."""
    monkeypatch.setattr(aj.config, "tier", "compile")
    for dtype, tol in ((np.complex64, 2e-6), (np.complex128, 4e-15)):
        z = (np.random.default_rng(n).standard_normal((40, n, 2)).view(complex)[..., 0]).astype(dtype)
        t, x = aj.from_numpy(z), aj.from_numpy(z.real.copy())
        half = z[:, :n // 2 + 1]
        pairs = ((aj.fft.fft(t), np.fft.fft(z)), (aj.fft.ifft(t, norm="ortho"), np.fft.ifft(z, norm="ortho")),
                 (aj.fft.rfft(x), np.fft.rfft(z.real)), (aj.fft.irfft(aj.from_numpy(half.copy()), n), np.fft.irfft(half, n)))
        for got, want in pairs:
            assert got.numpy().dtype == want.dtype
            np.testing.assert_allclose(got.numpy(), want, rtol=0, atol=tol * np.abs(want).max())
