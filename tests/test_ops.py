"""Every public op on samples: values, dtypes, shapes, gradients and second gradients against torch and finite differences.

The samples come from the registry and from oplist; an op without one fails.  Without torch the stored expectations stand in;
`python -m tests.test_ops` stores them anew.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from autojit.dtypes import FLOAT
from autojit.ops.declare import OPS

from .checking import Number, check_gradient, cotangents, floats, gradients, leaf, outputs, run
from .linalg_samples import READ_INPUTS
from .oplist import SAMPLES
from .sampling import STORED, Sample, digest, elementwise, store

try:
    import torch
except ImportError:
    torch = None

needs_torch = pytest.mark.skipif(torch is None, reason="torch is not installed")
ALL = [pytest.param(s, id=f"{name}-{k}") for name, samples in SAMPLES.items() for k, s in enumerate(samples)]


def mine(s: Sample, dtype: str) -> list[np.ndarray]:
    return run(s.call, s.arrays(dtype), dtype)


def torch_results(s: Sample, dtype: str, cts: list[Any] | None = None) -> tuple[list[np.ndarray], list[np.ndarray], str | None]:
    """(results, gradients, name of the grad_fn) as torch has them."""
    nodes = [torch.tensor(a) if isinstance(a, np.ndarray) else a.value if isinstance(a, Number) else a for a in s.arrays(dtype)]
    if cts is not None:
        for k, t in enumerate(nodes):
            if isinstance(t, torch.Tensor) and t.is_floating_point() and k not in s.fixed:
                t.requires_grad_()
    args = s.op.arrange(nodes, s.static)
    out = s.torch(*args)
    outs = list(out) if isinstance(out, (tuple, list)) else [out]
    name = outs[0].grad_fn.name() if outs[0].grad_fn is not None else None
    grads = []
    if cts is not None:
        leaves = [t for t in nodes if isinstance(t, torch.Tensor) and t.requires_grad]
        live = [(o, torch.tensor(c)) for o, c in zip(outs, cts) if c is not None and o.requires_grad]
        found = torch.autograd.grad([o for o, _ in live], leaves, [c for _, c in live], allow_unused=True) if live else [
            None] * len(leaves)
        grads = [np.zeros(tuple(t.shape)) if g is None else g.numpy(force=True) for t, g in zip(leaves, found)]
    return [o.detach().numpy() for o in outs], grads, name


# ---------------------------------------------------------------- every op has a sample
def test_every_op_has_a_sample():
    assert {name for name in OPS if not SAMPLES.get(name)} == set()


def test_a_good_part_of_the_samples_is_derived():
    assert sum([elementwise(op) for op in OPS.values()]) > 60


# ---------------------------------------------------------------- values
@needs_torch
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("sample", ALL)
def test_values_are_torchs(sample, dtype):
    got, want = mine(sample, dtype), torch_results(sample, dtype)[0]
    assert len(got) == len(want)
    rtol, atol = (max(1e-12, sample.rtol), 1e-13) if dtype == "float64" else (2e-5, 2e-6)
    for g, w in zip(got, want):
        assert g.dtype == w.dtype and g.shape == w.shape, f"{g.dtype}{g.shape}, torch {w.dtype}{w.shape}"
        np.testing.assert_allclose(g, w, rtol=rtol, atol=atol)


EXPECTED = json.loads(STORED.read_text()) if STORED.exists() else {}


@pytest.mark.parametrize("name", SAMPLES)
def test_values_are_the_stored_ones(name):
    want = EXPECTED[name]
    assert len(want) == len(SAMPLES[name])
    for s, rows in zip(SAMPLES[name], want):
        got = [digest(r) for r in mine(s, "float64")]
        assert [g[:2] for g in got] == [r[:2] for r in rows]
        np.testing.assert_allclose([g[2:] for g in got], [r[2:] for r in rows], rtol=1e-9, atol=1e-9)


# ---------------------------------------------------------------- gradients
def rules(s: Sample) -> list[Any]:
    """The ways to a gradient: by the primitives, and by the op's own rule if it has one."""
    return [s.pull] if s.own else [None, s.pull] if s.op.vjp is not None else [None]


@needs_torch
@pytest.mark.parametrize("sample", [p for p in ALL if p.values[0].torch_grad and floats(p.values[0].tensors)])
def test_gradients_are_torchs(sample):
    arrays = sample.arrays("float64")
    kept = [k not in sample.fixed for k in floats(arrays)]
    cts = cotangents(sample.call, arrays, np.random.default_rng(1))
    _, want, _ = torch_results(sample, "float64", cts)
    for pull in rules(sample):
        got = [g for g, keep in zip(gradients(sample.call, arrays, cts, pull), kept) if keep]
        assert len(got) == len(want)
        for g, w in zip(got, want):
            np.testing.assert_allclose(g, w, rtol=max(1e-9, sample.rtol), atol=1e-11)


@pytest.mark.parametrize("sample", [p for p in ALL if p.values[0].smooth])
def test_gradients_are_finite_differences(sample):
    for pull in rules(sample):
        check_gradient(sample.call, sample.arrays("float64"), pull, order=2 if sample.second else 1)


@pytest.mark.parametrize("sample", [p for p in ALL if floats(p.values[0].tensors)])
def test_gradients_have_their_tensors_dtype(sample):
    """In float32, and with a float64 operand beside a float32 one where the op takes that."""
    single = sample.arrays("float32")
    mixed = [a.astype("float64") if k and k in floats(single) else a for k, a in enumerate(single)]
    for arrays in [single, *([mixed] if len(floats(single)) > 1 and sample.op in MIXING else [])]:
        cts = cotangents(sample.call, arrays, np.random.default_rng(1), "float32")
        double = [a.astype("float64") if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in arrays]
        exact = [None if c is None else c.astype(np.result_type(c, np.float64)) for c in cts]
        for pull in rules(sample):
            got = gradients(sample.call, arrays, cts, pull, "float32")
            want = gradients(sample.call, double, exact, pull)
            for g, w in zip(got, want):
                np.testing.assert_allclose(g, w, rtol=2e-3, atol=2e-4)


MIXING = [op for op in OPS.values() if op.ntensors > 1 and elementwise(op) and op.name not in ("heaviside", "isclose", "prelu")]


# ---------------------------------------------------------------- names, views, flags
@needs_torch
@pytest.mark.parametrize("sample", [p for p in ALL if p.values[0].named])
def test_grad_fn_has_torchs_name(sample):
    arrays = sample.arrays("float64")
    cts = cotangents(sample.call, arrays, np.random.default_rng(1))
    name = torch_results(sample, "float64", cts)[2]
    if name is None:                                      # torch gave the tensor itself, or nothing is differentiable
        return
    given = [a for a in sample.tensors]
    label = sample.op.label(sample.static, [leaf(a, np.float64) for a in given], sample.number)
    assert label == name.rsplit("::", 1)[-1]


@pytest.mark.parametrize("sample", [p for p in ALL if p.values[0].op.view])
def test_views_are_chains_of_movements(sample):
    leaves = [leaf(a) for a in sample.arrays("float64")]
    for n in outputs(sample.call(*leaves)):
        while n is not leaves[0]:
            assert n.prim.kind in ("movement", "parts") and len(n.inputs) == 1
            n, = n.inputs


# properties, other orders of arguments, indexing
OWN_WAY = {"real", "imag", "where", "T", "mT", "adjoint", "embedding", "unfold", "im2col", "adaptive_max_pool1d", "batch_norm",
           "instance_norm", "index", "index_put",
           "polygamma"}


@needs_torch
@pytest.mark.parametrize("name", OPS)
def test_flags_are_torchs(name):
    import torch.nn.functional as functional
    op = OPS[name]
    for n in (name, *op.aliases):
        if n not in OWN_WAY:
            assert (op.method, op.function, op.functional) == (hasattr(torch.Tensor, n), hasattr(torch, n),
                                                               hasattr(functional, n))
        if op.inplace:
            assert hasattr(torch.Tensor, n + "_")
        elif op.method and not op.view:
            assert not hasattr(torch.Tensor, n + "_"), "torch has it in place"


def test_ops_are_told_apart_from_each_other():
    names = [n for op in OPS.values() for n in (op.name, *op.aliases)]
    assert len(names) == len(set(names))
    for op in OPS.values():
        assert op.doc.strip(), f"{op.name} has no documentation"
        assert all(v in OPS for v in op.variants.values())


# ---------------------------------------------------------------- what rules read
COMPOSITES = {"polar", "linalg_eigvals", "batch_norm",
              "instance_norm", "tanhshrink", "l1_loss", "kl_div", "cross_entropy", "matmul", "kron", "einsum",
              "tensordot", "msort", "inner", "pairwise_distance", "lp_pool1d", "lp_pool2d",
              "lp_pool3d", "margin_ranking_loss", "hinge_embedding_loss", "triplet_margin_loss",
              "poisson_nll_loss", "gaussian_nll_loss", "quantile", "quantile_number", "nanquantile", "nanquantile_number",
              "cov", "corrcoef", "trapezoid", "cumulative_trapezoid", "special_ndtr"}
# torch keeps what stands between its steps: there we read the inputs
OTHERWISE = {"erfinv": "reads its result, torch its input", "ldexp": "2 ** other again in the backward, torch keeps it",
             "frexp": "works on the input, torch keeps the exponent"}


def torch_reads(s: Sample) -> set[int]:
    """Arguments, and results as ~k, whose modification torch's backward notices."""
    def build() -> Any:
        nodes = [torch.tensor(a) if isinstance(a, np.ndarray) else a.value if isinstance(a, Number) else a
                 for a in s.arrays("float64")]
        leaves = {}
        for k, t in enumerate(nodes):
            if isinstance(t, torch.Tensor) and t.is_floating_point() and k not in s.fixed:
                leaves[k] = t.requires_grad_()
                nodes[k] = t * 1
        out = s.torch(*s.op.arrange(nodes, s.static))
        return list(leaves.values()), {k: nodes[k] for k in leaves}, list(out) if isinstance(out, (tuple, list)) else [out]

    _, inputs, outs = build()
    noticed = set()
    for k in [*inputs, *[~j for j, o in enumerate(outs) if o.requires_grad]]:
        leaves, inputs, outs = build()
        with torch.no_grad():
            (inputs[k] if k >= 0 else outs[~k]).add_(1)
        live = [o for o in outs if o.requires_grad]
        try:
            torch.autograd.grad(live, leaves, [torch.ones_like(o) for o in live], allow_unused=True)
        except RuntimeError as e:
            assert "modified by an inplace" in str(e)
            noticed.add(k)
    return noticed


@needs_torch
@pytest.mark.parametrize("sample", [p for p in ALL if p.values[0].torch_grad and floats(p.values[0].tensors)
                                    and not p.values[0].op.view
                                    and p.values[0].op.name not in {*COMPOSITES, *OTHERWISE, *READ_INPUTS}])
def test_rules_read_no_more_than_torchs(sample):
    from autojit.eager.template import template
    arrays = sample.arrays("float64")
    where = [k for k in floats(arrays) if k not in sample.fixed]
    avals = tuple([None if a is None else leaf(a, np.float64).aval for a in arrays])
    t = template(sample.op, avals, tuple(sample.static), tuple([k in where for k in range(len(arrays))]))
    mine = {k for k in t.reads if k in where or (k < 0 and t.outs[~k].dtype.category == FLOAT)}
    assert not mine or mine <= torch_reads(sample), "reads what torch leaves alone"


# ---------------------------------------------------------------- promotion
TYPES = ("bool", "uint8", "int32", "int64", "float32", "float64")
BINARY = [op for op in OPS.values() if op.ntensors == 2 and elementwise(op) and op.function]


def operand(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.full(shape, 1, dtype)


@needs_torch
@pytest.mark.parametrize("op", BINARY, ids=lambda op: op.name)
def test_promotion_is_torchs(op):
    fn = getattr(torch, op.name)
    defaults = [op.defaults[p] for p, t in zip(op.params, op.is_tensor) if not t]
    for a in TYPES:
        for b in TYPES:
            for sa, sb in (((2,), (2,)), ((2,), ()), ((), ())):
                x, y = operand(a, sa), operand(b, sb)
                try:
                    want = fn(torch.tensor(x), torch.tensor(y))
                except (RuntimeError, NotImplementedError, TypeError):
                    continue
                got, = run(lambda m, n: op.call((m, n), defaults), [x, y])
                assert str(want.dtype) == f"torch.{got.dtype}", f"{op.name}({a}{sa}, {b}{sb})"
                np.testing.assert_allclose(got, want.numpy(), rtol=1e-6)


UNARY = [op for op in OPS.values() if op.ntensors == 1 and elementwise(op) and op.function]


@needs_torch
@pytest.mark.parametrize("op", UNARY, ids=lambda op: op.name)
def test_dtypes_of_one_operand_are_torchs(op):
    fn = getattr(torch, op.name)
    defaults = [op.defaults[p] for p, t in zip(op.params, op.is_tensor) if not t]
    for d in TYPES:
        x = operand(d, (2,))
        try:
            want = fn(torch.tensor(x))
        except (RuntimeError, NotImplementedError, TypeError):
            with pytest.raises((RuntimeError, NotImplementedError, TypeError)):
                run(lambda n: op.call((n,), defaults), [x])
            continue
        got, = run(lambda n: op.call((n,), defaults), [x])
        assert str(want.dtype) == f"torch.{got.dtype}", f"{op.name}({d})"
        np.testing.assert_allclose(got, want.numpy(), rtol=1e-6)


# ---------------------------------------------------------------- NaN, Inf, zeros
SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, 3.0, -3.0, 1e308, -1e308, 5e-324, 1e-300])


@needs_torch
@pytest.mark.parametrize("op", UNARY, ids=lambda op: op.name)
def test_special_values_of_one_operand(op):
    defaults = [op.defaults[p] for p, t in zip(op.params, op.is_tensor) if not t]
    want = getattr(torch, op.name)(torch.tensor(SPECIAL)).numpy()
    got, = run(lambda n: op.call((n,), defaults), [SPECIAL])
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-300)
    if got.dtype.kind == "f":
        zeros = (want == 0) & (got == 0)
        np.testing.assert_array_equal(np.signbit(got[zeros]), np.signbit(want[zeros]))


TAME = {"remainder", "fmod"}                               # torch's vector code gives NaN where the quotient overflows


@needs_torch
@pytest.mark.parametrize("op", [op for op in BINARY if op.name != "prelu"], ids=lambda op: op.name)
def test_special_values_of_two_operands(op):
    defaults = [op.defaults[p] for p, t in zip(op.params, op.is_tensor) if not t]
    values = SPECIAL[:-4] if op.name in TAME else SPECIAL
    a, b = values[:, None], values[None, :]
    try:
        want = getattr(torch, op.name)(torch.tensor(a), torch.tensor(b)).numpy()
    except NotImplementedError:                           # bit operations
        return
    got, = run(lambda m, n: op.call((m, n), defaults), [a, b])
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-15)


if __name__ == "__main__":                                # python -m tests.test_ops: store anew what torch gives
    store(torch_results)
