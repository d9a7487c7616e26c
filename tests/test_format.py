"""Printing: stored texts, random arrays against torch itself, and options."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from autojit.eager import format as fmt

DEFAULTS = {"float32", "complex64", "int64", "bool"}
FLOATS = ["float16", "float32", "float64"]
OTHERS = ["bool", "uint8", "int8", "int16", "int32", "int64", "complex64", "complex128"]


def show(array, **words):
    array = np.asarray(array)
    name = str(array.dtype)
    return fmt.format_tensor(array, dtype_name=name, default=name in DEFAULTS, **words)


@pytest.fixture(autouse=True)
def restore_options():
    yield
    fmt.set_printoptions(profile="default")


f4, f8 = np.float32, np.float64

STORED = [
    (f4([1, 2, 3]), {"requires_grad": True}, "tensor([1., 2., 3.], requires_grad=True)"),
    (
        f8(0.1),
        {"grad_fn": "MulBackward0", "requires_grad": True},
        "tensor(0.1000, dtype=torch.float64, grad_fn=<MulBackward0>)",
    ),
    (np.zeros((0, 3), f4), {}, "tensor([], size=(0, 3))"),
    (np.zeros(0, f4), {}, "tensor([])"),
    (np.zeros(0, np.int64), {}, "tensor([], dtype=torch.int64)"),
    (np.zeros((2, 0), bool), {}, "tensor([], size=(2, 0), dtype=torch.bool)"),
    (f4(3), {"device": "cuda:0"}, "tensor(3., device='cuda:0')"),
    (np.int64(-7), {}, "tensor(-7)"),
    (np.array([True, False]), {}, "tensor([ True, False])"),
    (
        np.int32([[1, -20], [300, 4]]),
        {},
        "tensor([[  1, -20],\n        [300,   4]], dtype=torch.int32)",
    ),
    (f4([1, np.inf, -np.inf, np.nan]), {}, "tensor([1., inf, -inf, nan])"),
    (f4([0.5, np.inf, np.nan]), {}, "tensor([0.5000,    inf,    nan])"),
    (f4([-0.0, 1.0]), {}, "tensor([-0., 1.])"),
    (f4([1e-5, 1.0]), {}, "tensor([1.0000e-05, 1.0000e+00])"),
    (f4([1, 1000]), {}, "tensor([   1., 1000.])"),
    (f4([1, 1001]), {}, "tensor([1.0000e+00, 1.0010e+03])"),
    (f4(1e8), {}, "tensor(100000000.)"),
    (f4(2e8), {}, "tensor(2.0000e+08)"),
    (np.arange(1001), {}, "tensor([   0,    1,    2,  ...,  998,  999, 1000])"),
    (
        np.ones((2, 2, 2), f4),
        {},
        "tensor([[[1., 1.],\n         [1., 1.]],\n\n        [[1., 1.],\n         [1., 1.]]])",
    ),
    (
        np.arange(12, dtype=f4) / 8,
        {"requires_grad": True},
        (
            "tensor([0.0000, 0.1250, 0.2500, 0.3750, 0.5000, 0.6250, 0.7500, 0.8750, 1.0000,\n"
            "        1.1250, 1.2500, 1.3750], requires_grad=True)"
        ),
    ),
    (
        np.full((1, 6), 0.5),
        {"grad_fn": "NativeLayerNormBackward0"},
        (
            "tensor([[0.5000, 0.5000, 0.5000, 0.5000, 0.5000, 0.5000]], dtype=torch.float64,\n"
            "       grad_fn=<NativeLayerNormBackward0>)"
        ),
    ),
    (
        np.zeros((200, 200), f4),
        {},
        (
            "tensor([[0., 0., 0.,  ..., 0., 0., 0.],\n"
            "        [0., 0., 0.,  ..., 0., 0., 0.],\n"
            "        [0., 0., 0.,  ..., 0., 0., 0.],\n"
            "        ...,\n"
            "        [0., 0., 0.,  ..., 0., 0., 0.],\n"
            "        [0., 0., 0.,  ..., 0., 0., 0.],\n"
            "        [0., 0., 0.,  ..., 0., 0., 0.]])"
        ),
    ),
    (np.complex64([1 + 2j, -0.5 - 3j]), {}, "tensor([ 1.0000+2.j, -0.5000-3.j])"),
]


@pytest.mark.parametrize("case", range(len(STORED)))
def test_stored_texts(case):
    array, words, expected = STORED[case]
    assert show(array, **words) == expected


def test_dtype_name_with_and_without_torch():
    texts = {
        fmt.format_tensor(f4([1]), dtype_name=name, default=False)
        for name in ("bfloat16", "torch.bfloat16")
    }
    assert texts == {"tensor([1.], dtype=torch.bfloat16)"}


def test_default_is_the_callers_word():
    assert fmt.format_tensor(f8([1]), dtype_name="float64", default=True) == "tensor([1.])"
    assert fmt.format_tensor(np.zeros(0), dtype_name="float64", default=True) == "tensor([])"


def test_format_spec():
    assert fmt.format_spec(f4(2.5), ".3f", str) == "2.500"
    assert fmt.format_spec(np.int64(7), "04d", str) == "0007"
    assert fmt.format_spec(f4(2.5), "", str) == "2.5"
    assert fmt.format_spec(f4([1, 2]), "", lambda: "all of it") == "all of it"
    with pytest.raises(TypeError, match="unsupported format string passed to Tensor.__format__"):
        fmt.format_spec(f4([1, 2]), ".3f", str)


def test_options():
    fmt.set_printoptions(precision=2, sci_mode=True)
    assert show(f4([0.125])) == "tensor([1.25e-01])"
    fmt.set_printoptions(precision=1)  # sci_mode falls back to None
    assert show(f4([0.125])) == "tensor([0.1])"
    fmt.set_printoptions(profile="full", edgeitems=2)
    assert "..." not in show(np.arange(3000))
    fmt.set_printoptions(profile="short")
    assert show(np.arange(1001)) == "tensor([   0,    1,  ...,  999, 1000])"
    with fmt.printoptions(threshold=2, linewidth=20):
        assert show(np.arange(6)) == "tensor([0, 1,  ..., 4,\n        5])"
    assert fmt.get_printoptions() == {
        "precision": 2,
        "threshold": 1000,
        "edgeitems": 2,
        "linewidth": 80,
        "sci_mode": None,
    }


def random_array(rng, name):
    """One array of a random shape; floating values of random magnitude, some of them special."""
    shapes = [(), (0,), (1,), (5,), (23,), (0, 4), (2, 3), (7, 7), (3, 2, 4), (2, 1, 3, 2)]
    shapes += [(1200,), (40, 40), (2, 600), (300, 1, 4), (9, 3, 60)]
    shape = shapes[rng.integers(len(shapes))]
    if name == "bool":
        return rng.random(shape) > 0.5
    dtype = np.dtype(name)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        bound = int(min(info.max, 10.0 ** rng.integers(1, 18)))
        return rng.integers(max(info.min, -bound), bound, shape).astype(dtype)
    if dtype.kind == "c":
        part = np.empty(0, dtype).real.dtype.name
        values = np.empty(shape, dtype)
        values.real, values.imag = floats(rng, part, shape), floats(rng, part, shape)
        return values
    return floats(rng, name, shape)


def floats(rng, name, shape):
    top = 3 if name == "float16" else 9
    values = rng.standard_normal(shape) * 10.0 ** rng.integers(-top, top)
    style = rng.integers(5)
    if style == 0:
        values = np.round(values)
    elif style == 1:
        values = values * 10.0 ** rng.uniform(-2, 2, shape)
    if rng.random() < 0.3:
        special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0])[rng.integers(0, 5, shape)]
        values = np.where(rng.random(shape) < 0.2, special, values)
    return values.astype(name)


def same_text(torch, array, words):
    tensor = torch.from_numpy(np.array(array))
    shown = dict(words)
    if shown.pop("requires_grad", False) and tensor.is_floating_point():
        tensor.requires_grad_()
        shown["requires_grad"] = True
    if shown.pop("grad_fn", None) and tensor.requires_grad:
        tensor = tensor.clone()
        shown["grad_fn"] = "CloneBackward0"
    assert show(array, **shown) == repr(tensor)


@pytest.mark.parametrize("name", FLOATS + OTHERS)
def test_same_text_as_torch(name):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(11)
    for _ in range(120):
        words = {"requires_grad": rng.random() < 0.5, "grad_fn": rng.random() < 0.5}
        same_text(torch, random_array(rng, name), words)


@pytest.mark.parametrize(
    "options",
    [
        {"precision": 0},
        {"precision": 7, "linewidth": 40},
        {"threshold": 5, "edgeitems": 1},
        {"threshold": 5, "edgeitems": 0},
        {"sci_mode": True},
        {"sci_mode": False, "linewidth": 120},
        {"profile": "short"},
        {"profile": "full"},
    ],
    ids=str,
)
def test_same_text_as_torch_under_options(options):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(5)
    fmt.set_printoptions(**options)
    torch.set_printoptions(**options)
    try:
        for turn in range(66):
            same_text(torch, random_array(rng, (FLOATS + OTHERS)[turn % 11]), {})
    finally:
        torch.set_printoptions(profile="default")


def test_bfloat16_comes_in_widened():
    torch = pytest.importorskip("torch")
    tensor = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).bfloat16()
    text = fmt.format_tensor(tensor.float().numpy(), dtype_name="bfloat16", default=False)
    assert text == repr(tensor)


def test_docstring_examples():
    failed, tried = doctest.testmod(fmt)
    assert tried > 5 and not failed
