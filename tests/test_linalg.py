"""Linear algebra as a user meets it: refusals and their moment, repeated values, symmetric inputs, transforms, programs.

Values, gradients and second gradients of each op are in test_ops, the primitives' rules in test_primitives.
"""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest

import autojit as aj
from autojit.config import config
from autojit.ops.declare import OPS, P
from autojit.ops.factors import BATCHED, decomposed

from .checking import check_gradient, run
from .linalg_samples import SPD, TALL, WIDE, M

try:
    import torch
except ImportError:
    torch = None

needs_torch = pytest.mark.skipif(torch is None, reason="torch is not installed")

# ---------------------------------------------------------------- refusals: torch's words, and LinAlgError where torch's is one
MATRICES = ("zero", "twice", "minus", "one_bad", "one_minus", "wide", "vector", "half", "whole")
ONE = ("inv", "cholesky", "eigh", "eigvalsh", "det", "slogdet", "svd", "svdvals", "qr", "lu", "lu_factor", "lu_factor_ex",
       "pinv", "cond", "matrix_rank", "matrix_norm", "norm", "vector_norm", "inv_ex", "cholesky_ex")
REFUSED = """
L.svd(nan)
L.pinv(nan)
L.matrix_norm(nan, 2)
L.matrix_power(wide, 2)
L.matrix_power(twice, -1)
L.matrix_power(vector, 2)
L.matrix_exp(wide)
L.matrix_exp(whole)
L.solve(twice, m.ones(2))
L.solve(one_bad, m.ones(2, 2))
L.solve(one_bad, m.ones(2, 2, 1))
L.solve(one, m.ones(3))
L.solve(one, m.ones(3, 1))
L.solve(one, m.ones(2).double())
L.solve(wide, m.ones(2))
L.solve(vector, m.ones(2))
L.solve(half, half)
L.solve_triangular(one, m.ones(3, 1), upper=True)
L.solve_triangular(one, m.ones(2), upper=True)
L.solve_triangular(wide, m.ones(2, 1), upper=True)
L.solve_triangular(half, half, upper=True)
L.lstsq(wide, m.ones(3, 1))
L.lstsq(wide, m.ones(2, 1), driver='x')
L.qr(wide, mode='x')
L.eigh(twice, UPLO='X')
L.matrix_norm(twice, 'x')
L.matrix_norm(twice, 3)
L.matrix_norm(twice, 'nuc', dim=(0, 0))
L.matrix_norm(twice, 'fro', dim=(0,))
L.norm(twice, 'fro', dim=0)
L.norm(twice, 2, dim=(0, 1, 2))
L.norm(m.ones(2, 2, 2), 2)
L.vector_norm(m.ones(0), -1)
L.vector_norm(m.ones(0), float('inf'))
L.cond(twice, 'x')
L.cond(wide, 'fro')
L.multi_dot([twice])
L.multi_dot([twice, wide.mT])
L.multi_dot([m.ones(2, 2, 2), twice])
L.multi_dot([twice, vector])
L.vander(vector, N=0)
L.tensorinv(wide)
L.tensorinv(twice, ind=0)
L.tensorsolve(wide, m.ones(2))
L.lu(twice, pivot=False)
L.lu_factor(twice, pivot=False)
L.lu_solve(twice, m.tensor([1, 2]), m.ones(2, 1))
L.lu_solve(twice, m.tensor([1, 2], dtype=m.int32), m.ones(2))
L.cross(m.ones(2), m.ones(2))
L.cross(vector, m.ones(2, 3))
L.cholesky_ex(one_minus, check_errors=True)
L.inv_ex(one_bad, check_errors=True)
L.svd(twice, driver='gesvd')
L.pinv(wide, hermitian=True)
m.inverse(twice)
m.cholesky(minus)
m.logdet(wide)
"""
PROGRAMS = [f"L.{f}({n})" for f in ONE for n in MATRICES] + REFUSED.strip().splitlines()


def surroundings(m):
    twice, one = m.tensor([[1.0, 2.0], [2.0, 4.0]]), m.eye(2)
    return {"m": m, "L": m.linalg, "zero": m.zeros(2, 2), "twice": twice, "minus": -one, "one": one,
            "one_bad": m.stack([one, twice]), "one_minus": m.stack([one, -one]), "wide": m.ones(2, 3), "vector": m.ones(3),
            "half": one.half(), "whole": m.eye(2, dtype=m.int64), "nan": m.full((2, 2), float("nan"))}


def outcome(program, m):
    """Kind and first line of the refusal, or nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            eval(program, surroundings(m))
        except Exception as e:                            # compared by kind and words
            kind = "LinAlgError" if isinstance(e, m.linalg.LinAlgError) else type(e).__name__
            return f"{kind}: {str(e).splitlines()[0]}"
    return ""


@needs_torch
@pytest.mark.parametrize("program", PROGRAMS)
def test_refused_as_torch_refuses(program):
    assert outcome(program, aj) == outcome(program, torch)


def test_a_refusal_names_the_users_line_and_leaves_nothing_behind():
    x = aj.zeros(2, 2, requires_grad=True)
    with pytest.raises(aj.linalg.LinAlgError, match="diagonal element 1 is zero") as caught:
        aj.linalg.inv(x * 2)
    assert any([__file__ in note for note in caught.value.__notes__])
    for _ in range(4):                                    # what waits is computed by runs to come
        assert (aj.ones(2) + 1).sum().item() == 4


def test_the_face_has_torchs_names():
    lacking = {"ldl_factor", "ldl_factor_ex", "ldl_solve", "householder_product", "common_notes"}
    if torch is not None:
        assert {n for n in dir(torch.linalg) if not n.startswith("_")} - lacking <= set(dir(aj.linalg))
    assert {n.removeprefix("linalg_") for n in OPS if n.startswith("linalg_")} <= set(dir(aj.linalg))


def test_scipy_is_imported_by_what_needs_it():
    code = ("import sys, autojit; assert 'scipy' not in sys.modules and 'autojit.linalg' not in sys.modules;"
            "autojit.linalg; assert 'scipy' not in sys.modules")
    subprocess.run([sys.executable, "-c", code], check=True)


# ---------------------------------------------------------------- derivatives where samples cannot look
def even(n):
    return P.add(n, P.permute(n, (0, 2, 1)))


@pytest.mark.parametrize("kind", ["L", "U"])
def test_symmetric_decompositions_against_finite_differences(kind):
    check_gradient(lambda x: decomposed(even(x), "eigh", kind == "L"), [M])
    check_gradient(lambda x: P.cholesky(even(x), kind == "U", ""), [SPD])


def gradient(f, a):
    x = aj.tensor(a, requires_grad=True)
    f(x).sum().backward()
    return x.grad.numpy()


def test_repeated_values_have_a_derivative():
    eye = np.eye(3)
    np.testing.assert_allclose(gradient(aj.linalg.eigvalsh, 2 * eye), eye, atol=1e-15)
    np.testing.assert_allclose(gradient(aj.linalg.svdvals, eye), eye, atol=1e-15)
    np.testing.assert_allclose(gradient(lambda x: aj.linalg.matrix_norm(x, "nuc"), eye), eye, atol=1e-15)
    np.testing.assert_allclose(gradient(lambda x: aj.linalg.eigh(x)[0] ** 2, eye), 2 * eye, atol=1e-15)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("rank", [0, 1, 2])
def test_determinants_of_singular_matrices(n, rank):
    """The gradient is that of a polynomial, and so is the second one; torch gives NaN or 0."""
    rng = np.random.default_rng(n)
    a = rng.standard_normal((n, min(rank, n))) @ rng.standard_normal((min(rank, n), n))
    check_gradient(P.det, [a])


def test_a_norm_of_other_order_is_torchs():
    got = gradient(lambda x: aj.linalg.norm(x, 3, 1), TALL)
    s = np.abs(TALL)
    np.testing.assert_allclose(got, np.sign(TALL) * s ** 2 / (s ** 3).sum(1, keepdims=True) ** (2 / 3), rtol=1e-12)


def test_rules_without_an_answer_say_so():
    x = aj.tensor(TALL, requires_grad=True)
    with pytest.raises(RuntimeError, match="mode='complete' and nrows > ncols"):
        aj.linalg.qr(x, mode="complete")[0].sum().backward()


# ---------------------------------------------------------------- values where numbers say little
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("a", [M, TALL, WIDE, TALL[:0], np.zeros((2, 0, 3)), np.zeros((3, 0)), np.zeros((0, 0))], ids=lambda a:
                         "x".join(map(str, a.shape)))
def test_factors_multiply_to_their_matrix(a, dtype):
    x, loose = aj.tensor(a.astype(dtype)), 1e-5 if dtype == "float32" else 1e-13

    def equal(got):
        assert got.dtype is x.dtype and got.shape == x.shape
        np.testing.assert_allclose(got.numpy(), a, atol=loose, rtol=loose)

    for full in (False, True):
        u, s, vh = aj.linalg.svd(x, full_matrices=full)
        k = s.shape[-1]
        equal(u[..., :k] * s[..., None, :] @ vh[..., :k, :])
        for q in (u.mT @ u, vh @ vh.mT):
            np.testing.assert_allclose(q.numpy(), np.broadcast_to(np.eye(q.shape[-1]), q.shape), atol=loose)
    for mode in ("reduced", "complete"):
        q, r = aj.linalg.qr(x, mode=mode)
        equal(q @ r)
    p, low, up = aj.linalg.lu(x)
    equal(p @ low @ up)
    equal(x @ aj.linalg.pinv(x) @ x)


def test_empty_matrices():
    none = aj.zeros(0, 0)
    assert aj.det(none).item() == 1 and aj.logdet(none).item() == 0
    assert aj.linalg.inv(none).shape == (0, 0) and aj.linalg.eigvalsh(none).shape == (0,)
    assert aj.linalg.solve(aj.zeros(0, 3, 3), aj.zeros(0, 3, 2)).shape == (0, 3, 2)
    assert aj.linalg.matrix_rank(aj.zeros(0, 3)).item() == 0


def test_what_is_singular_is_told_by_its_code():
    batch = aj.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 2.0], [2.0, 4.0]]])
    inverse, info = aj.linalg.inv_ex(batch)
    assert info.tolist() == [0, 2] and inverse[0].tolist() == [[1, 0], [0, 1]] and not inverse[1].isfinite().any()
    factor, info = aj.linalg.cholesky_ex(batch - aj.eye(2) * 0.5)
    assert info.tolist() == [0, 2] and factor[0].isfinite().all()


# ---------------------------------------------------------------- transforms, traces, programs
def energy(x):
    w, v = aj.linalg.eigh(x + x.mT)
    return aj.linalg.slogdet(x)[1] + (v[:, 0] ** 2 * w).sum() + aj.linalg.solve(x, x.sum(0)).sum()


def test_transforms_go_through():
    x, t = aj.tensor(SPD[0]), aj.tensor(np.arange(9.0).reshape(3, 3) / 9)
    g = aj.grad(energy)(x)
    np.testing.assert_allclose(aj.jvp(energy, (x,), (t,))[1].item(), (g * t).sum().item(), rtol=1e-10)
    h = 1e-6
    moved = (aj.grad(energy)(x + h * t) - aj.grad(energy)(x - h * t)) / (2 * h)
    np.testing.assert_allclose((aj.hessian(energy)(x) * t).sum((2, 3)).numpy(), moved.numpy(), rtol=1e-5, atol=1e-7)
    both = aj.tensor(SPD)
    for f in (energy, aj.grad(energy)):
        np.testing.assert_allclose(aj.vmap(f)(both).numpy(), np.stack([f(y).numpy() for y in both]), rtol=1e-10)


def test_every_host_primitive_of_matrices_is_batched_as_a_whole():
    x, y = aj.tensor(np.stack([M, M + 1])), aj.tensor(np.stack([TALL, TALL + 1]))
    for f, a in ((aj.linalg.inv, x), (aj.det, x), (aj.linalg.svdvals, y), (lambda z: aj.linalg.qr(z)[1], y),
                 (lambda z: aj.linalg.lu(z)[2], y), (aj.linalg.pinv, y), (aj.matrix_exp, x)):
        np.testing.assert_allclose(aj.vmap(f)(a).numpy(), f(a).numpy(), rtol=1e-12, atol=1e-14)
    assert {"inv", "factor", "eigh"} <= set(BATCHED)


def test_traced_functions_refuse_when_they_run():
    f = aj.trace(lambda x: aj.linalg.cholesky(x).sum())
    x = aj.tensor(SPD)
    for _ in range(2):
        np.testing.assert_allclose(f(x).item(), np.linalg.cholesky(SPD).sum(), rtol=1e-12)
    with pytest.raises(aj.linalg.LinAlgError, match=r"\(Batch element 0\): .* minor of order 1"):
        f(-x)
    np.testing.assert_allclose(f(x).item(), np.linalg.cholesky(SPD).sum(), rtol=1e-12)


def test_inside_compiled_programs(compiled):
    assert config.tier == "compile"
    x = aj.tensor(SPD[0], requires_grad=True)
    step = aj.trace(aj.value_and_grad(lambda x: (aj.linalg.solve(x, x.sum(0)) ** 2).sum() + aj.linalg.svdvals(x * 2).sum()))
    value, g = step(x)
    want = run(lambda a: P.sum(decomposed(P.add(a, a), "svd", False)[1], (0,)), [SPD[0]])[0]
    np.testing.assert_allclose(value.item(), 3 + want, rtol=1e-12)        # A is symmetric: A^-1 (A.T 1) is 1
    u, _, vh = np.linalg.svd(SPD[0])
    inverse = np.linalg.inv(SPD[0])
    pulled = np.outer(inverse.T @ np.ones(3), np.ones(3))
    np.testing.assert_allclose(g.detach().numpy(), 2 * (u @ vh + pulled.T - pulled), rtol=1e-9, atol=1e-10)
