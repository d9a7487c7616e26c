"""float16 and bfloat16: dtypes, memory, values and gradients beside torch's, and what kernels do with them.

Every public op runs on its samples in both dtypes: the dtype is torch's, the value is the exact one of the same inputs, rounded
once; gradients stay within a few roundings of the exact ones.
"""

from __future__ import annotations

import copy
import pickle
from functools import partial
from typing import Any

import numpy as np
import pytest

import autojit as aj
from autojit import dtypes, halves
from autojit.backends.cpu import direct, front, interpret, target
from autojit.backends.cpu.emit import emit_kernel
from autojit.backends.emitting import LITERALS
from autojit.backends.numpy.run import NumpyProgram
from autojit.config import config
from autojit.dtypes import bfloat16, float16, float32
from autojit.eager.apply import apply
from autojit.eager.binding import number
from autojit.eager.convert import array_of
from autojit.engine.compile import prepare
from autojit.ir.aval import aval
from autojit.ir.graph import Graph, placeholder
from autojit.ops.declare import P
from autojit.rewrite.half import lowered
from autojit.rewrite.simplify import simplify
from autojit.schedule.loops import KernelStep
from autojit.schedule.plan import schedule

from .checking import Number
from .graphs import agree, random_graph
from .oplist import SAMPLES
from .sampling import Sample
from .test_direct import alike, outputs
from .test_ops import BINARY, UNARY

try:
    import torch
except ImportError:
    torch = None

needs_torch = pytest.mark.skipif(torch is None, reason="torch is not installed")
EPS = {float16: 2.0 ** -11, bfloat16: 2.0 ** -8}          # half a unit in the last place
HALVES = [float16, bfloat16]
EACH = pytest.mark.parametrize("d", HALVES, ids=lambda d: d.name)


@pytest.fixture
def tier(monkeypatch):
    def choose(name: str) -> None:
        monkeypatch.setattr(config, "tier", name)
    return choose


def theirs(d: Any) -> Any:
    return getattr(torch, d.name)


# ---------------------------------------------------------------- bits
def all_words() -> np.ndarray:
    return np.arange(1 << 16, dtype=np.uint16)


def hard() -> np.ndarray:
    """float32 numbers on, and beside, every boundary between two bfloat16, and others."""
    middle = (all_words().astype(np.uint32) << 16 | 0x8000).view(np.float32)
    with np.errstate(all="ignore"):
        near = [np.nextafter(middle, np.float32(s * np.inf)) for s in (1, -1)]
    rng = np.random.default_rng(0)
    return np.concatenate([middle, *near, rng.integers(0, 1 << 32, 50_000, dtype=np.uint32).view(np.float32)])


def exactly_rounded(x: np.ndarray) -> np.ndarray:
    """bfloat16 by search: the nearer of the two neighbours, the even one of two."""
    low = (x.view(np.uint32) & 0xFFFF0000).view(np.float32).astype(np.float64)
    high = ((x.view(np.uint32) & 0xFFFF0000) + 0x10000).view(np.float32).astype(np.float64)
    high = np.where(np.isinf(high), np.copysign(2.0 ** 128, high), high)
    down, up = np.abs(x - low), np.abs(high - x)
    odd = (x.view(np.uint32) >> 16 & 1).astype(bool)
    return np.where((down < up) | (down == up) & ~odd, low, high).astype(np.float32)


def test_bfloat16_is_rounded_to_the_nearest_even():
    x = hard()
    x = x[np.isfinite(x)]
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(halves.values(halves.bits(x)), exactly_rounded(x))
    words = all_words()
    values = halves.values(words)
    back = halves.bits(values)
    assert ((back == words) | np.isnan(values)).all() and np.isnan(halves.values(back)[np.isnan(values)]).all()


CASTS = """\
def kernel(args, lo, hi, chunk):
    x = f32(args, 0, 7)
    h = f16(args, 1, 7)
    b = bf16(args, 2, 7)
    y = f16(args, 3, 7)
    z = bf16(args, 4, 7)
    v = f32(args, 5, 7)
    w = f32(args, 6, 7)
    for i in range(lo, hi):
        y[i] = select(x[i] > f4(0.0), to_f16(x[i]), h[i])
        z[i] = (to_bf16(x[i]) if x[i] == x[i] else b[i])
        v[i] = to_f32(h[i]) + f4(1.0)
        w[i] = to_f32(b[i])
"""


def test_kernels_read_and_write_halves(monkeypatch):
    """Both readers of kernel text, and its reading by Python, give what NumPy gives."""
    x = hard()[::37].copy()
    n = len(x)
    h = np.random.default_rng(1).integers(0, 1 << 16, n, dtype=np.uint16)
    given = [x, h.view(np.float16), h, np.zeros(n, np.float16), np.zeros(n, np.uint16), np.zeros(n, np.float32),
             np.zeros(n, np.float32)]
    results = outputs(CASTS, given, [], n, monkeypatch)
    alike(results)
    y, z, v, w = results[0][3:]
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(y, np.where(x > 0, x.astype(np.float16), given[1]))
        np.testing.assert_array_equal(z, np.where(np.isnan(x), h, halves.bits(x)))
        np.testing.assert_array_equal(v, given[1].astype(np.float32) + np.float32(1))
    np.testing.assert_array_equal(w, halves.values(h))
    m = 300
    plain = [a[:m].copy() for a in given]
    interpret.load(CASTS)(plain, 0, m)
    for mine, compiled in zip(plain[3:], results[0][3:]):
        assert np.array_equal(mine, compiled[:m], equal_nan=mine.dtype.kind == "f")


def test_float16_without_instructions_for_it(monkeypatch):
    """Processors before 2012: the same bits by integers, for every pattern and beside every boundary."""
    words = all_words()
    with np.errstate(all="ignore"):
        above = np.nextafter(words.view(np.float16), np.float16(np.inf)).astype(np.float32)
        middle = (words.view(np.float16).astype(np.float32) + above) / 2
        beside = [np.nextafter(middle, np.float32(s * np.inf)) for s in (1, -1)]
        x = np.concatenate([middle, *beside, hard()])
    text = CASTS[:CASTS.index("        y[i]")] + "        y[i] = to_f16(x[i])\n        v[i] = to_f32(h[i])\n"
    n = len(x)
    h = np.resize(words, n).view(np.float16)
    given = [x, h, np.zeros(n, np.uint16), np.zeros(n, np.float16), np.zeros(n, np.uint16), np.zeros(n, np.float32),
             np.zeros(n, np.float32)]
    for has in (True, False):
        monkeypatch.setattr(target, "has_half", lambda has=has: has)
        made = outputs(text + f"    # {has}\n", given, [], n, monkeypatch)[0]
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(made[3], x.astype(np.float16))
            np.testing.assert_array_equal(made[5], h.astype(np.float32))
        assert np.array_equal(np.signbit(made[3]), np.signbit(x)) and np.array_equal(np.signbit(made[5]), np.signbit(h))


@pytest.mark.parametrize("line", ["y[i] = h[i] + h[i]", "v[i] = to_f64(h[i])", "y[i] = to_f16(to_i64(1))", "v[i] = h[i]",
                                  "z[i] = h[i]"])
def test_halves_do_nothing_else(line):
    text = CASTS[:CASTS.index("        y[i]")] + f"        {line}\n"
    with pytest.raises(direct.Foreign):
        direct.translate(text, "k")
    with pytest.raises(TypeError):
        interpret.load(text)([np.ones(2, np.uint16 if k in (2, 4) else np.float16 if k in (1, 3) else np.float32)
                              for k in range(7)], 0, 2)
    with pytest.raises(Exception, match="(?i)typing|no implementation|store|wants|of \\("):
        front.translate(text, "k")


# ---------------------------------------------------------------- dtypes
def as_ours(d: Any) -> str:
    """The name of torch's dtype; there is no complex number of two halves here."""
    return repr(d).replace("complex32", "complex64")


@needs_torch
def test_promotion_is_torchs():
    for a in dtypes.ALL:
        for b in dtypes.ALL:
            assert repr(aj.promote_types(a, b)) == as_ours(torch.promote_types(theirs(a), theirs(b)))
            for x, y in (((2,), ()), ((), (2,)), ((), ())):
                mine = aj.ones(x, dtype=a) * aj.ones(y, dtype=b)
                assert repr(mine.dtype) == as_ours((torch.ones(x, dtype=theirs(a)) * torch.ones(y, dtype=theirs(b))).dtype)
    for d in HALVES:
        for shape in ((), (2,)):
            for v in (True, 2, 2.5):
                mine, their = aj.ones(shape, dtype=d), torch.ones(shape, dtype=theirs(d))
                assert repr((mine * v).dtype) == repr((their * v).dtype) == repr((v + mine).dtype)


NO_COMPLEX = ("logaddexp", "ldexp")                        # torch has them


def same_dtypes(op: Any, d: Any, operands: list[tuple[Any, tuple[int, ...]]]) -> None:
    """The op's result has torch's dtype; what torch refuses, it refuses."""
    try:
        want = getattr(torch, op.name)(*[torch.ones(s, dtype=theirs(k)) for k, s in operands])
    except (RuntimeError, NotImplementedError, TypeError) as e:
        if "not implemented for" not in str(e) or not any([k.half for k, _ in operands]):
            with pytest.raises((RuntimeError, NotImplementedError, TypeError)):
                getattr(aj, op.name)(*[aj.ones(s, dtype=k) for k, s in operands])
        return
    call = partial(getattr(aj, op.name), *[aj.ones(s, dtype=k) for k, s in operands])
    if want.is_complex() and op.name in NO_COMPLEX:
        with pytest.raises(NotImplementedError, match="not implemented for 'Complex"):
            call()
        return
    assert repr(call().dtype) == as_ours(want.dtype), f"{op.name} of {operands}"


@needs_torch
@EACH
@pytest.mark.parametrize("op", [*BINARY, *UNARY], ids=lambda op: op.name)
def test_every_op_gives_torchs_dtype(op, d):
    if op.ntensors == 1:
        return same_dtypes(op, d, [(d, (2,))])
    for other in dtypes.ALL:
        for sa, sb in (((2,), (2,)), ((2,), ()), ((), (2,)), ((), ())):
            same_dtypes(op, d, [(d, sa), (other, sb)])


ALIKE = """
torch.tensor([1.5, 2.25, 3e4], dtype=D)
torch.tensor([1e-3, 1e-8, 65519., 65520., float('nan'), -float('inf')], dtype=D)
torch.tensor(1e6, dtype=D)
torch.full((2,), 1e39, dtype=D)
torch.full((2,), 70000, dtype=D)
torch.ones(2, dtype=D).fill_(1e39)
torch.finfo(D)
torch.arange(0, 2, 0.1, dtype=D)
torch.linspace(0, 1, 7, dtype=D)
torch.logspace(0, 1, 4, dtype=D)
torch.eye(2, dtype=D)
torch.zeros(2, dtype=D).type()
torch.tensor([3., 1., 3.], dtype=D).unique(return_counts=True)
torch.tensor([[1.5, 2.25]], dtype=D).tolist()
torch.tensor([1.1], dtype=D).item()
float(torch.tensor(1.1, dtype=D)), int(torch.tensor(3.7, dtype=D)), bool(torch.tensor(0., dtype=D))
f"{torch.tensor(1.5, dtype=D):.2f} {torch.tensor(2.25, dtype=D)}"
torch.tensor([1., 2.], dtype=D) == 1
torch.tensor([1., 2.], dtype=D).half(), torch.tensor([1., 2.], dtype=D).bfloat16(), torch.tensor([1., 2.], dtype=D).float()
torch.tensor([1.7, -2.7, 300.], dtype=D).to(torch.int64)
torch.ones(2, dtype=D) * torch.tensor(0.1)
torch.ones(2, dtype=D) * 0.1
torch.tensor([1e-4], dtype=D) * 1e6
torch.ones(2, dtype=torch.int64) + torch.tensor(0.1, dtype=D)
torch.zeros(2, dtype=D).add_(torch.ones(2))
torch.zeros(2, dtype=torch.int64).add_(torch.ones(2, dtype=D))
torch.ones(2, dtype=D, requires_grad=True).exp().sum()
torch.allclose(torch.ones(2, dtype=D), torch.ones(2, dtype=D))
torch.ones(2, dtype=D).new_tensor([1.1]), torch.ones(2, dtype=D).new_zeros(2)
torch.frombuffer(b'ab12', dtype=D)
torch.bincount(torch.tensor([1, 2]), torch.ones(2, dtype=D))
torch.searchsorted(torch.tensor([1., 2., 4.], dtype=D), torch.tensor([3., 2.], dtype=D))
torch.mm(torch.ones(2, 2, dtype=D), torch.ones(2, 2))
torch.ones(2, dtype=D, requires_grad=True).numpy()
D.itemsize, D.is_floating_point
"""


@needs_torch
@EACH
@pytest.mark.parametrize("line", ALIKE.strip().splitlines())
@pytest.mark.filterwarnings("ignore")
def test_text_and_errors_are_torchs(line, d):
    def shown(module: Any) -> str:
        try:
            return repr(eval(line, {"torch": module, "D": getattr(module, d.name)}))
        except Exception as e:
            return f"{type(e).__name__}: {str(e).splitlines()[0]}"
    assert shown(aj) == shown(torch)


def test_default_dtype_may_be_half():
    try:
        for d in HALVES:
            aj.set_default_dtype(d)
            assert repr(aj.tensor([1.5, 2.0])) == "tensor([1.5000, 2.0000])"
            assert (aj.tensor([1, 2]) / 3).dtype is d and aj.ones(2).dtype is d and aj.rand(3).dtype is d
            assert (aj.tensor([1, 2]) * 1.5).dtype is d
    finally:
        aj.set_default_dtype(float32)


# ---------------------------------------------------------------- memory
def test_memory_goes_to_numpy_and_back():
    a = np.array([1.5, 2.5], np.float16)
    t = aj.from_numpy(a)
    a[0] = 4
    assert t.dtype is float16 and t.tolist() == [4.0, 2.5]
    assert t.numpy() is not a and np.shares_memory(t.numpy(), a)
    b = t.bfloat16()
    with pytest.raises(TypeError, match="Got unsupported ScalarType BFloat16"):
        b.numpy()
    with pytest.raises(TypeError, match="Got unsupported ScalarType BFloat16"):
        np.asarray(b)
    with pytest.raises(TypeError, match="numpy.uint16"):
        aj.from_numpy(np.zeros(2, np.uint16))
    for x in (t, b):
        for y in (pickle.loads(pickle.dumps(x)), copy.deepcopy(x), x.clone(), aj.tensor(x.tolist(), dtype=x.dtype)):
            assert y.dtype is x.dtype and aj.equal(x, y)
    b[0] = 7.0
    b[1:] += 0.25
    assert b.tolist() == [7.0, 2.75]
    assert aj.tensor([b[0], 1.0], dtype=bfloat16).tolist() == [7.0, 1.0]


@EACH
def test_random_numbers_of_halves(d):
    aj.manual_seed(3)
    u = aj.rand(20_000, dtype=d)
    assert u.dtype is d and 0 <= u.min().item() and u.max().item() < 1
    assert abs(u.float().mean().item() - 0.5) < 0.01
    n = aj.randn(20_000, dtype=d).float()
    assert abs(n.mean().item()) < 0.03 and abs(n.std().item() - 1) < 0.03
    aj.manual_seed(3)
    assert aj.equal(aj.rand(20_000, dtype=d), u)
    kept = aj.nn.functional.dropout(aj.ones(20_000, dtype=d), 0.1)
    assert kept.dtype is d and abs((kept > 0).float().mean().item() - 0.9) < 0.01
    p = aj.bernoulli(aj.full((20_000,), 0.1, dtype=d))
    assert p.dtype is d and abs(p.float().mean().item() - 0.1) < 0.01


# ---------------------------------------------------------------- every public op
FREE = {"normalize",                                      # torch's least norm is 0 in float16
        "matrix_exp", "linalg_matrix_exp",                # torch's overflow in halves; ours refuse them
        "matrix_power", "linalg_matrix_power", "linalg_multi_dot",          # products of products of products: each is rounded
        "cov", "corrcoef",                                # a product of rounded differences
        "avg_pool3d", "lp_pool3d", "local_response_norm", "affine_grid",     # torch has no kernel for halves
        "cdist", "pdist", "multi_margin_loss", "multilabel_margin_loss", "special_erfcx", "special_log_ndtr", "special_ndtri",
        "special_zeta", "special_bessel_j0", "special_bessel_j1", "special_bessel_y0", "special_bessel_y1"}
SEVERAL = {"einsum"}                                      # products of products: each is rounded


def arguments(s: Sample, d: Any) -> list[Any]:
    """The sample's arguments, floats rounded to the half."""
    return [dtypes.readable(dtypes.memory(a, d)).astype(np.float32) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a
            for a in s.arrays("float32")]


def ours(s: Sample, d: Any) -> tuple[list[Any], list[Any]]:
    args, leaves = [], []
    for k, a in enumerate(arguments(s, d)):
        if isinstance(a, np.ndarray):
            t = aj.tensor(a, dtype=d) if a.dtype.kind == "f" else aj.tensor(a)
            if a.dtype.kind == "f" and k not in s.fixed and s.torch_grad:
                leaves.append(t.requires_grad_())
            a = t
        args.append(a)
    tensors = [a for a in args if isinstance(a, aj.Tensor)]
    args = [number(a.value, tensors, s.op.name) if isinstance(a, Number) else a for a in args]
    out = apply(s.op, args, tuple(s.static), any([isinstance(a, Number) for a in s.arrays("float32")]))
    outs = list(out) if isinstance(out, (tuple, list)) else [out]
    live = [o for o in outs if o.requires_grad]
    return outs, list(aj.autograd.grad([o.float().sum() for o in live], leaves, allow_unused=True)) if live and leaves else []


def exact(s: Sample, d: Any) -> tuple[list[Any], list[Any], list[str]]:
    """torch's results in float64 for the same inputs, their gradients, and torch's dtypes for halves."""
    found: list[Any] = []
    for kind in (torch.float64, theirs(d)):
        args, leaves = [], []
        for k, a in enumerate(arguments(s, d)):
            if isinstance(a, np.ndarray):
                t = torch.tensor(a)
                if a.dtype.kind == "f":
                    t = t.to(kind)
                    if k not in s.fixed and s.torch_grad:
                        leaves.append(t.requires_grad_())
                a = t
            args.append(a.value if isinstance(a, Number) else a)
        out = s.torch(*s.op.arrange(args, s.static))
        outs = list(out) if isinstance(out, (tuple, list)) else [out]
        found.append((outs, leaves))
    (outs, leaves), (rounded, _) = found
    live = [o for o in outs if o.requires_grad]
    grads = torch.autograd.grad([o.sum() for o in live], leaves, allow_unused=True) if live and leaves else []
    return outs, list(grads), [repr(o.dtype) for o in rounded]


def near(got: Any, want: Any, d: Any, roundings: float, scale: float) -> None:
    """Within so many roundings of the value, and of numbers of this scale that it was made of."""
    g = np.asarray(array_of(got.detach()), np.float64)
    w = want.detach().to(torch.float64).numpy(force=True) if want is not None else np.zeros_like(g)
    assert g.shape == w.shape
    if got.dtype.category < dtypes.FLOAT:
        np.testing.assert_array_equal(g, w)
        return
    room = roundings * EPS[d] * (np.abs(w) + scale) + 1e-7
    with np.errstate(all="ignore"):
        same = (g == w) | np.isnan(g) & np.isnan(w) | (np.abs(g - w) <= room) | (np.abs(w) > 6e4)
    assert same.all(), f"{g[~same][:3]}, exactly {w[~same][:3]}"


ALL = [pytest.param(s, id=f"{name}-{k}") for name, samples in SAMPLES.items() if name not in FREE
       for k, s in enumerate(samples)]


@needs_torch
@EACH
@pytest.mark.parametrize("sample", ALL)
@pytest.mark.filterwarnings("ignore")
def test_ops_round_once(sample, d, tier):
    tier("numpy")
    try:
        want, exact_grads, kinds = exact(sample, d)
    except (RuntimeError, NotImplementedError):           # torch has no halves there: nor have we
        with pytest.raises((RuntimeError, NotImplementedError)):
            ours(sample, d)
        return
    outs, grads = ours(sample, d)
    assert [repr(o.dtype) for o in outs] == kinds
    for o, w in zip(outs, want):
        near(o, w, d, 3 if sample.op.name in SEVERAL else 1.05, 0.01)
    for g, w in zip(grads, exact_grads):
        if g is not None:
            near(g, w, d, 4, 0.5)


# ---------------------------------------------------------------- programs
def arrays() -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [rng.standard_normal(shape).astype(np.float32) for shape in ((9, 12), (12, 17), (17,))]


def layer(T: Any, x: Any, w: Any, b: Any) -> Any:
    """Products, a softmax, movement that stays half, a gather, sums in place."""
    h = T.relu(x @ w + b)
    p = T.softmax(h * 0.3, dim=-1)
    z = T.cat([p, h.flip(1), T.nn.functional.pad(p, (1, 2))], dim=1)
    picked = z.index_select(1, T.tensor([3, 0, 3]))
    y = z.transpose(0, 1).clone()
    y[2:5] *= 2.0
    return (z * z).sum() + picked.mean() - y.exp().mean()


@needs_torch
@EACH
@pytest.mark.parametrize("how", ["numpy", "compile"])
def test_a_program_and_its_gradients(how, d, tier):
    """As near to the exact gradient as torch's own halves."""
    tier(how)
    mine = [aj.tensor(a, dtype=d).requires_grad_() for a in arrays()]
    half = [torch.tensor(a).to(theirs(d)).requires_grad_() for a in arrays()]
    sharp = [t.detach().double().requires_grad_() for t in half]
    with aj.no_grad():
        assert aj.equal(mine[0], aj.tensor(half[0].detach().float().numpy(), dtype=d))
    for _ in range(2):                                    # the second time gradients are added up, and the path is known
        out = layer(aj, *mine)
        out.backward()
        layer(torch, *half).backward()
        layer(torch, *sharp).backward()
    assert out.dtype is d
    for m, h, s in zip(mine, half, sharp):
        assert m.grad.dtype is d
        exact = s.grad.numpy()
        scale = np.abs(exact).max()
        error = np.abs(array_of(m.grad) - exact).max() / scale
        assert error <= max(1.5 * np.abs(h.grad.double().numpy() - exact).max() / scale, 4 * EPS[d])


@EACH
def test_traced_programs_are_the_eager_ones(d, tier):
    tier("compile")
    x, w, b = [aj.tensor(a, dtype=d) for a in arrays()]
    traced = aj.trace(lambda x, w, b, s: layer(aj, x, w, b) * s)
    want = layer(aj, x, w, b) * 0.7
    for _ in range(3):                                    # the third takes the short way
        got = traced(x, w, b, 0.7)
        assert got.dtype is d and abs(got.item() - want.item()) <= 4 * EPS[d] * abs(want.item())
    value, grad = aj.value_and_grad(lambda x: layer(aj, x, w, b))(x)
    assert grad.dtype is d and value.item() == layer(aj, x, w, b).item()
    second = aj.grad(lambda x: (aj.grad(lambda y: (y.sin() * y).sum())(x) * x).sum())(x)
    v = array_of(x).astype(np.float64)
    assert second.dtype is d
    np.testing.assert_allclose(array_of(second), v * np.cos(v) + np.sin(v) + v * (2 * np.cos(v) - v * np.sin(v)),
                               rtol=8 * EPS[d], atol=8 * EPS[d])


@EACH
def test_a_second_gradient(d):
    x = aj.tensor([0.3, -1.2, 2.0], dtype=d).requires_grad_()
    (g,) = aj.autograd.grad((x.exp() * x).sum(), x, create_graph=True)
    (h,) = aj.autograd.grad(g.sum(), x)
    v = array_of(x.detach()).astype(np.float64)
    assert h.dtype is d
    np.testing.assert_allclose(array_of(h), np.exp(v) * (2 + v), rtol=6 * EPS[d])


@EACH
def test_an_optimiser_and_hooks(d):
    w = aj.tensor([1.0, 2.0], dtype=d).requires_grad_()
    opt = aj.optim.SGD([w], lr=0.25)
    seen = []
    w.register_hook(lambda g: seen.append(g.dtype))
    for _ in range(3):
        opt.zero_grad()
        (w * w).sum().backward()
        opt.step()
    assert w.dtype is d and w.tolist() == [0.125, 0.25] and seen == [d] * 3


@EACH
def test_sums_are_added_up_in_float32(d, tier):
    for how in ("numpy", "compile"):
        tier(how)
        ones = aj.ones(5000, dtype=d) + 0.0
        assert ones.sum().item() == 5000 if d is float16 else ones.sum().item() == 4992
        assert ones.mean().item() == 1 and aj.cumsum(ones, 0)[-1].item() == ones.sum().item()
        a = aj.ones((3, 4096), dtype=d)
        assert (a @ a.T).tolist() == [[4096.0] * 3] * 3


@pytest.mark.parametrize("seed", [3, 11, 25, 60, 84, 85, 141, 188])
@EACH
def test_random_graphs_of_halves(seed, d):
    """Nodes of every kind on halves, each rounded: compiled as by the oracle."""
    graph, given = random_graph(seed, dtype=d)
    want, got = [[dtypes.readable(o) for o in run(given)] for run in (NumpyProgram(graph), prepare(graph).link())]
    assert agree(got, want, rtol=16 * EPS[d], atol=16 * EPS[d]) is None


@EACH
def test_casts_between_all_dtypes(d, tier):
    """By way of float32, compiled as by NumPy."""
    numbers = [0.0, 1.0, 2.5, 3.0, 100.3, 1 + 2.0 ** -9, 1 + 2.0 ** -12 + 2.0 ** -40]
    for other in dtypes.ALL:
        for numeric in (numbers, [-n for n in numbers] if other.category == dtypes.FLOAT else numbers[:3]):
            results = []
            for how in ("numpy", "compile"):
                tier(how)
                x = aj.tensor([int(n) if other.category < dtypes.FLOAT else n for n in numeric], dtype=other)
                there = x.to(d)
                back = there.to(other)
                results.append((there.tolist(), back.tolist()))
                assert there.dtype is d and back.dtype is other
            assert results[0] == results[1]
            assert results[0][0] == dtypes.readable(dtypes.memory(array_of(x).astype(np.float32), d)).tolist()


def test_modules_have_no_halves(tmp_path):
    with pytest.raises(NotImplementedError, match="uses float16 or bfloat16"):
        aj.export(lambda x: x * 2, aj.ones(3, dtype=float16), path=str(tmp_path / "made.py"))


# ---------------------------------------------------------------- the rewrite
def half_graph(d: Any) -> Graph:
    a, b = placeholder(aval((9, 40), d)), placeholder(aval((40, 30), d))
    c = P.concat((P.matmul(a, b), P.matmul(a, b)), 1)
    moved = P.pad(P.permute(c, (1, 0)), (1, 1), (70, 12), (1, 1))
    return Graph([a, b], [P.add(moved, moved), P.sum(P.exp(c), (0,)), P.matmul(a, b, float32)])


CARRIED = {"cast", "reshape", "permute", "expand", "slice", "flip", "concat", "update", "take", "gather", "matmul"}


@EACH
@pytest.mark.parametrize("products", [False, True])
def test_a_lowered_graph_computes_in_float32(d, products):
    g = half_graph(d)
    low = simplify(lowered(g, products))
    for n in low.order:
        if n.prim.kind != "leaf" and (n.dtype.half or any([i.dtype.half for i in n.inputs])):
            assert n.op in CARRIED and (n.op != "matmul" or products)
            assert n.op != "cast" or float32 in (n.dtype, n.inputs[0].dtype)
        assert n.op != "const" or not n.dtype.half
    assert [o.aval for o in low.outputs] == [o.aval for o in g.outputs]
    kinds = [(n.inputs[0].dtype, n.dtype) for n in low.order if n.op == "matmul"]
    assert set(kinds) == ({(d, d), (d, float32)} if products else {(float32, float32)})


def test_a_graph_without_halves_is_left_alone():
    x = placeholder(aval((3,), float32))
    g = Graph([x], [P.exp(x)])
    assert lowered(g) is g


@EACH
def test_kernels_hold_halves_as_they_lie_in_memory(d):
    """Rows that are glued and cut are carried as they are; a pad's zero and numbers are float32's, rounded."""
    steps = schedule(simplify(lowered(half_graph(d)))).steps
    text = "".join([emit_kernel(s.kernel).text for s in steps if isinstance(s, KernelStep)])
    assert f"{d.code}(args" in text and f"to_{d.code}(" in text and not set(LITERALS) & {"f16", "bf16"}
    for line in text.splitlines():
        if "(args" not in line:
            assert not any([f"{word}_{d.code}" in line for word in ("exp", "add", "maximum")])
