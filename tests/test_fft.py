"""What of torch.fft needs no complex numbers, and that the rest says so."""

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


def test_what_needs_complex_numbers_says_so():
    with pytest.raises(NotImplementedError, match="fft.rfft works with complex numbers"):
        aj.fft.rfft(aj.ones(4))
    if torch is not None:
        names = {n for n in dir(torch.fft) if n.endswith(("fft", "fft2", "fftn", "freq", "shift")) and n[0] != "_"}
        assert names <= set(dir(aj.fft))
