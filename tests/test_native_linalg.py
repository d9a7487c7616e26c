"""Linear algebra inside compiled programs: native steps, equal to NumPy's references, refused in torch's words.

Values and gradients of the public ops are in test_ops, the rules in test_primitives; here are the kernels.
"""

from __future__ import annotations

import importlib
import itertools

import numpy as np
import pytest

import autojit as aj
from autojit.backends.cpu import libraries
from autojit.config import config
from autojit.engine.compile import prepare
from autojit.ir.graph import Graph
from autojit.ops import lapack
from autojit.ops.declare import P
from autojit.schedule.loops import CallStep, HostStep

from .checking import leaf

W = "linalg.inv"
TINY, SMALL, LARGE = (2, 3), (2, 7), (2, 20)              # batches of matrices: written out, loops of ours, LAPACK
OWN = ("cholesky", "solve", "inv", "solve_triangular", "det", "detsign", "logabsdet")       # not LAPACK's alone


def matrices(many: int, n: int, m: int = 0, dtype: str = "float64", seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed + n + m).standard_normal((many, n, m or n)).astype(dtype)


def positive(many: int, n: int, dtype: str) -> np.ndarray:
    a = matrices(many, n)
    return (a @ a.swapaxes(-1, -2) + np.eye(n)).astype(dtype)


def cases(many: int, n: int, dtype: str) -> list[tuple]:
    """(primitive, arrays, params)."""
    a, b, s = matrices(many, n, 0, dtype), matrices(many, n, 3, dtype), positive(many, n, dtype)
    one, tall, wide = b[..., :1].copy(), matrices(many, n, n - 1, dtype), matrices(many, n - 1, n, dtype)
    flat = a.copy()
    flat[:, -1] = 0
    low = (a / n + 2 * np.eye(n)).astype(dtype)
    out = [(name, (s,), (upper, W)) for name in ("cholesky",) for upper in (False, True)]
    out += [("cholesky_info", (x,), (upper,)) for x in (s, a) for upper in (False, True)]
    out += [("solve", (a, x), (W,)) for x in (b, one)] + [("inv", (a,), (W,))]
    out += [("solve_triangular", (low, x), flags) for x in (b, one) for flags in itertools.product((False, True), repeat=2)]
    out += [(name, (x,), ()) for name in ("det", "detsign", "logabsdet", "cofactor") for x in (a, flat)]
    out += [("cofactor_along", (x, s), ()) for x in (a, flat)]
    out += [(name, (x,), params) for name, params in (("lu", ("",)), ("lu_pivots", ()), ("lu_info", ()), ("qr", (False,)),
                                                       ("qr", (True,))) for x in (a, tall, wide)]
    out += [("eigh", (a,), (lower,)) for lower in (False, True)] + [("expm", (x,), ()) for x in (a, 4 * a)]
    out += [("svd", (x,), (full,)) for x in (a, tall, wide) for full in (False, True)]
    out += [("pinv", (x,), (0.0, 1e-5, False)) for x in (flat, tall)] + [("pinv", (s,), (0.0, 1e-5, True))]
    out += [("lstsq", (tall, b), (1e-5,)), ("lstsq", (a, one), (1e-5,))]
    pivots = np.tile(np.array([*range(2, n + 1), n], np.int32), (many, 1))
    return [*out, ("permutation", (pivots,), (n + 1,))]


def compiled_results(given: list[tuple]) -> list[np.ndarray]:
    """All in one program, each by kernels."""
    leaves, roots, arrays = [], [], []
    for name, operands, params in given:
        nodes = [leaf(x) for x in operands]
        leaves += nodes
        arrays += operands
        roots.append(getattr(P, name)(*nodes, *params))
    made = prepare(Graph(leaves, roots))
    assert not [s.prim.name for s in made.schedule.steps if isinstance(s, HostStep)]
    assert any([isinstance(s, CallStep) for s in made.schedule.steps])
    native = made.link()
    assert native.plan is not None                        # one native call
    return native(arrays)


@pytest.mark.parametrize(("many", "n", "dtype"), [(*s, d) for s in (TINY, SMALL, LARGE) for d in ("float64", "float32")])
def test_equal_to_the_references(many, n, dtype):
    given = [c for c in cases(many, n, dtype) if n == LARGE[1] or c[0] in OWN]
    eps = float(np.finfo(dtype).eps)
    for (name, operands, params), got in zip(given, compiled_results(given), strict=True):
        want = np.asarray(getattr(lapack, name)(*operands, *params))
        assert got.dtype == want.dtype and got.shape == want.shape
        size = np.abs(np.where(np.isfinite(want), want, 0)).max(initial=1e-30)
        tolerance = 0 if want.dtype.kind == "i" or name == "detsign" else 5e3 * eps
        np.testing.assert_allclose(got, want, rtol=0 if name != "logabsdet" else tolerance, atol=tolerance * size,
                                   err_msg=f"{name} {params} {operands[0].shape}")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_one_large_matrix_and_many_right_sides(dtype):
    """The columns of the right side go in chunks, over a factor that is there."""
    n = 40
    a, b = matrices(1, n, 0, dtype)[0] + 8 * np.eye(n, dtype=dtype), matrices(1, n, 300, dtype)[0]
    given = [("solve", (a, b), (W,)), ("inv", (a,), (W,)), ("solve_triangular", (a, b), (True, False))]
    for (name, operands, params), got in zip(given, compiled_results(given), strict=True):
        np.testing.assert_allclose(got, getattr(lapack, name)(*operands, *params), rtol=0, atol=2e-6 if dtype == "float32" else
                                   1e-13)


def test_a_matrix_of_one_and_a_batch_of_many():
    """1 by 1, and more matrices than chunks."""
    names = ("cholesky", "solve", "det", "eigh")
    given = [c for shape in ((3, 1), (50, 20)) for c in cases(*shape, "float64") if c[0] in names]
    for (name, operands, params), got in zip(given, compiled_results(given), strict=True):
        np.testing.assert_allclose(got, getattr(lapack, name)(*operands, *params), rtol=1e-9, atol=1e-9, err_msg=name)


def test_empty_matrices_and_empty_batches():
    assert aj.trace(lambda x: aj.linalg.cholesky(x))(aj.zeros(0, 3, 3)).shape == (0, 3, 3)
    assert aj.trace(lambda x: aj.linalg.inv(x))(aj.zeros(2, 0, 0)).shape == (2, 0, 0)
    np.testing.assert_array_equal(aj.trace(lambda x: aj.linalg.det(x))(aj.zeros(2, 0, 0)).numpy(), 1)


# ---------------------------------------------------------------- refusals
L = aj.linalg
REFUSED = {
    "cholesky": (lambda x: L.cholesky(x), -1.0, "linalg.cholesky: .*input is not positive-definite"),
    "inv": (lambda x: L.inv(x), 0.0, "linalg.inv: The diagonal element 1 is zero"),
    "solve": (lambda x: L.solve(x, x[..., 0]), 0.0, "linalg.solve: The solver failed because the input matrix is singular"),
    "svd": (lambda x: L.svd(x)[1], float("nan"), "linalg.svd: The algorithm failed to converge .* non-finite"),
}


@pytest.mark.parametrize("n", [3, 7, 20])
@pytest.mark.parametrize("name", sorted(REFUSED))
def test_refused_as_outside_of_programs(name, n, compiled):
    f, bad, words = REFUSED[name]
    g = aj.trace(lambda x: f(x * 1) * 2)
    good, worse = aj.eye(n, dtype=aj.float64) * 4, aj.full((n, n), bad, dtype=aj.float64)
    want = f(good).numpy() * 2
    for _ in range(2):
        np.testing.assert_allclose(g(good).numpy(), want)
        with pytest.raises(L.LinAlgError, match=words):
            g(worse)
    batch = aj.trace(lambda x: f(x))
    with pytest.raises(L.LinAlgError, match="Batch element 1"):
        batch(aj.stack([good, worse]))


def test_refused_in_loops_and_bound_calls(compiled):
    f = aj.trace(lambda xs: aj.scan(lambda c, x: (c + L.inv(x).sum(), L.cholesky(x)), aj.zeros((), dtype=aj.float64), xs))
    xs = aj.stack([aj.eye(3, dtype=aj.float64) * k for k in (1, 2, 4)])
    total, factors = f(xs)
    np.testing.assert_allclose(total.item(), 3 * 1.75)
    np.testing.assert_allclose(factors.numpy()[2], 2 * np.eye(3))
    with pytest.raises(L.LinAlgError, match="linalg.cholesky"):
        f(-xs)
    x = aj.eye(20, dtype=aj.float64) * 4
    bound = aj.trace(lambda x: L.cholesky(x)).bind(x)
    np.testing.assert_allclose(bound().numpy(), 2 * np.eye(20))
    x.numpy()[3, 3] = -1
    with pytest.raises(L.LinAlgError, match="leading minor of order 4"):
        bound()


def test_numbers_that_are_none_pass_through(compiled):
    """A solution is NaN where torch's is; nothing is refused that NumPy computes."""
    x = np.eye(3) * 2
    x[0, 0] = np.nan
    given = aj.tensor(np.stack([x, np.eye(3)]))
    got = aj.trace(lambda a: L.solve(a, a[..., 0]))(given).numpy()
    assert np.isnan(got[0]).any() and np.array_equal(got[1], [1, 0, 0])
    assert np.isnan(aj.trace(lambda a: L.det(a))(given).numpy()).tolist() == [True, False]
    assert np.isnan(aj.trace(lambda a: L.eigvalsh(a))(given).numpy()).all(-1).tolist() == [True, False]


# ---------------------------------------------------------------- libraries
CALLED = ("cholesky", "solve", "inv", "lu", "lu_pivots", "det", "eigh", "svd", "qr", "lstsq", "solve_triangular")
SOME = [c for c in cases(*LARGE, "float64") if c[0] in CALLED]


def test_integers_of_32_bits(monkeypatch):
    """SciPy's own library takes such."""
    monkeypatch.setattr(libraries, "_found", [libraries._of_scipy()])
    monkeypatch.setattr(libraries, "_functions", {})
    assert libraries.find().integers == 32
    for (name, operands, params), got in zip(SOME, compiled_results(SOME), strict=True):
        np.testing.assert_allclose(got, getattr(lapack, name)(*operands, *params), rtol=1e-11, atol=1e-11, err_msg=name)


def test_without_lapack_numpy_runs_it(monkeypatch, compiled):
    monkeypatch.setattr(libraries, "function", lambda name: 0)
    x = positive(2, 21, "float64")
    got = aj.trace(lambda a: L.solve(L.cholesky(a), a))(aj.tensor(x)).numpy()
    np.testing.assert_allclose(got, np.linalg.solve(np.linalg.cholesky(x), x), rtol=1e-9, atol=1e-9)


def test_threads_change_nothing(monkeypatch, compiled):
    x = aj.tensor(positive(300, 20, "float64"))
    f = aj.trace(lambda a: (L.cholesky(a), L.inv(a), L.eigh(a)[1]))
    results = []
    for threads in (1, 2):
        monkeypatch.setattr(config, "num_threads", threads)
        results.append([r.numpy().copy() for r in f(x)])
    assert all([np.array_equal(a, b) for a, b in zip(*results, strict=True)])


def test_exported_modules_call_scipys_lapack(tmp_path, monkeypatch):
    """Whose integers have 32 bits; a matrix without an answer is LinAlgError there."""
    def answer(x):
        return L.solve(L.cholesky(x), x[:, 0]), L.lu_factor(x)[1], L.inv(x[:3, :3])

    x = positive(1, 20, "float64")[0]
    aj.export(answer, x, path=tmp_path / "solved_by_scipy.py")
    monkeypatch.syspath_prepend(tmp_path)
    made = importlib.import_module("solved_by_scipy")
    for got, want in zip(made.answer(x), answer(aj.tensor(x)), strict=True):
        np.testing.assert_allclose(got, want.numpy(), rtol=1e-9, atol=1e-10)
    with pytest.raises(np.linalg.LinAlgError):
        made.answer(-x)
    with pytest.raises(RuntimeError, match="dpotrf.*whose addresses no file may keep"):
        aj.export(answer, x, path=tmp_path / "kept.py", cache=True)


# ---------------------------------------------------------------- a use
def test_likelihood_of_a_gaussian_process(compiled):
    """Value, gradient and a product with the Hessian: one native call each, as by NumPy."""
    k, y = positive(1, 30, "float64")[0], matrices(1, 30, 1)[0]

    def likelihood(k, y):
        low = L.cholesky(k)
        z = L.solve_triangular(low, y, upper=False)
        return -0.5 * (z * z).sum() - aj.log(low.diagonal()).sum()

    f = aj.trace(aj.value_and_grad(likelihood))
    value, g = f(aj.tensor(k), aj.tensor(y))
    inverse = np.linalg.inv(k)
    np.testing.assert_allclose(value.item(), -0.5 * (y.T @ inverse @ y).item() - 0.5 * np.linalg.slogdet(k)[1], rtol=1e-12)
    np.testing.assert_allclose(g.numpy(), 0.5 * (inverse @ y @ y.T @ inverse - inverse), rtol=1e-8, atol=1e-10)
    assert "host step" not in f.explain() and f.last.program.native.plan is not None
    v = positive(1, 30, "float64")[0] * 0.1
    h = aj.trace(lambda k, y, v: aj.jvp(lambda k: aj.grad(likelihood)(k, y), (k,), (v,))[1])
    moved = h(aj.tensor(k), aj.tensor(y), aj.tensor(v)).numpy()
    step = 1e-5
    ahead, behind = (0.5 * (i @ y @ y.T @ i - i) for i in (np.linalg.inv(k + step * v), np.linalg.inv(k - step * v)))
    np.testing.assert_allclose(moved, (ahead - behind) / (2 * step), rtol=1e-4, atol=1e-6)
    assert "host step" not in h.explain()
