"""Samples of linear algebra: of its public ops, and of its primitives for the rules.

In: nothing.  Out: `linear_algebra`, which files samples of the ops (oplist calls it), and `PRIMITIVES`, examples of each
primitive for test_primitives.  Decompositions of symmetric matrices look at one triangle and have symmetric gradients:
finite differences of them are in test_linalg.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from autojit.ops.declare import P
from autojit.ops.factors import decomposed

from .sampling import F, case

_rng = np.random.default_rng(11)
M = _rng.standard_normal((2, 3, 3)) + 2 * np.eye(3)
TALL = _rng.standard_normal((2, 4, 3))
WIDE = _rng.standard_normal((3, 4))
SPD = M @ M.transpose(0, 2, 1) + np.eye(3)
SINGULAR = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [1.0, 0.0, 1.0]])
LOW = np.tril(M)
NONE = np.zeros((0, 3, 3))
LU = (np.array([[4.0, 2.0, 1.0], [0.5, 3.0, -1.0], [0.25, -0.5, 2.0]]), np.array([2, 3, 3], np.int32))
ORDERS = ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf)


def _lib(name: str, *words: str) -> Callable[..., Any]:
    """torch.linalg's function; the last arguments by name."""
    def f(*args: Any) -> Any:
        import torch
        plain = args[:len(args) - len(words)]
        return getattr(torch.linalg, name)(*plain, **dict(zip(words, args[len(args) - len(words):])))
    return f


def _top(name: str) -> Callable[..., Any]:
    def f(*args: Any) -> Any:
        import torch
        return getattr(torch, name)(*args)
    return f


def _solutions() -> None:
    for a in (M, M[0], NONE):
        case("inverse", a)
        case("linalg_inv", a, torch=_lib("inv"))
    case("linalg_inv_ex", M, torch=_lib("inv_ex", "check_errors"))
    for a, b in ((M, F(2, 3, 2)), (M, F(2, 3)), (M, F(3)), (M[0], F(3, 2)), (M[0], F(4, 3, 2))):
        case("linalg_solve", a, b, torch=_lib("solve", "left"), named=b is not None and getattr(b, "shape", ()) not in (
            (2, 3), (3,)))
    case("linalg_solve", M, F(2, 4, 3), False, torch=_lib("solve", "left"), named=False)
    case("linalg_solve_ex", M, F(2, 3, 2), torch=_lib("solve_ex", "left", "check_errors"))
    for upper in (False, True):
        for left in (False, True):
            for unit in (False, True):
                b = F(2, 3, 2) if left else F(2, 2, 3)
                case("linalg_solve_triangular", M, b, upper, left, unit,
                     torch=_lib("solve_triangular", "upper", "left", "unitriangular"))
                case("triangular_solve", F(2, 3, 2), M, upper, left, unit, torch=_top("triangular_solve"))
        case("cholesky_solve", F(2, 3, 2), M, upper, torch=lambda b, a, u: _cut(b, a, u))
        case("cholesky_inverse", M, upper, torch=lambda a, u: _cut(None, a, u))
    for left in (False, True):
        for adjoint in (False, True):
            case("linalg_lu_solve", *LU, F(3, 3), left, adjoint, torch=_lib("lu_solve", "left", "adjoint"), named=False)
    case("lu_solve", F(3, 2), *LU, torch=_top("lu_solve"), named=False)


def _cut(b: Any, a: Any, upper: bool) -> Any:
    """torch's rules for what is made of a Cholesky factor do not cut its cotangent to the triangle: here it is."""
    import torch
    a = a.triu() if upper else a.tril()
    return torch.cholesky_inverse(a, upper) if b is None else torch.cholesky_solve(b, a, upper)


def _determinants() -> None:
    for a in (M, M[1]):
        case("det", a)
        case("linalg_det", a, torch=_lib("det"))
    case("det", SINGULAR, torch_grad=False)                 # torch nudges what cannot be inverted
    case("det", np.outer([1.0, 2.0, 3.0], [1.0, -1.0, 2.0]))
    case("slogdet", M)
    case("linalg_slogdet", M, torch=_lib("slogdet"))
    case("logdet", SPD, named=False)
    case("logdet", -SPD, named=False, smooth=False, torch_grad=False)


def _symmetric() -> None:
    for upper in (False, True):
        case("linalg_cholesky", SPD, upper, torch=_lib("cholesky", "upper"), smooth=False)
        case("cholesky", SPD[0], upper, torch=_top("cholesky"), smooth=False)
        case("linalg_cholesky_ex", SPD, upper, torch=_lib("cholesky_ex", "upper", "check_errors"), smooth=False)
    for triangle in "LU":
        case("linalg_eigh", SPD, triangle, torch=_signed("eigh"), smooth=False)
        case("linalg_eigvalsh", SPD, triangle, torch=_lib("eigvalsh"), smooth=False)
    case("linalg_eigvalsh", 2 * np.eye(3), torch=_lib("eigvalsh"), smooth=False)


def _signed(name: str) -> Callable[..., Any]:
    """Vectors of a decomposition with NumPy's signs: LAPACKs differ in them."""
    def f(a: Any, *static: Any) -> Any:
        import torch
        own = a.detach().double().numpy()
        if name == "eigh":
            w, v = torch.linalg.eigh(a, *static)
            mine = torch.tensor(np.linalg.eigh(own, static[0])[1]).to(v.dtype)
            return w, v * (v * mine).sum(-2, keepdim=True).sign().detach()
        if name == "svd":
            full = not static[0]
            u, s, v = torch.svd(a, not full, static[1])
            vh = v.mT
        else:
            full = static[0]
            u, s, vh = torch.linalg.svd(a, full)
        m, _, n = [torch.tensor(x).to(s.dtype) for x in np.linalg.svd(own, full_matrices=full)]
        k = s.shape[-1]
        su, sv = (u * m).sum(-2, keepdim=True).sign().detach(), (vh * n).sum(-1, keepdim=True).sign().detach()
        assert k == min(own.shape[-2:])
        vh = vh * sv
        return u * su, s, vh.mT if name == "svd" else vh
    return f


def _decompositions() -> None:
    for a in (M, TALL, WIDE):
        square = a is M
        for full in (False, True):
            # of full matrices the columns that belong to no singular value have no derivative
            case("linalg_svd", a, full, torch=_signed("linalg_svd"), smooth=square or not full, named=False,
                 torch_grad=square or not full)
        case("linalg_svdvals", a, torch=_lib("svdvals", "driver"))
        case("svd", a, torch=_signed("svd"), named=False)
        for mode in ("reduced", *(["complete"] if a is not TALL else [])):
            case("linalg_qr", a, mode, torch=_lib("qr"))
        case("qr", a, torch=_top("qr"))
        case("linalg_lu", a, torch=_lib("lu", "pivot"), named=False, torch_grad=False)
        case("linalg_lu_factor", a, torch=_lib("lu_factor", "pivot"))
        case("linalg_lu_factor_ex", a, torch=_lib("lu_factor_ex", "pivot", "check_errors"))
        case("lu", a, torch=_top("lu"), named=False)
    case("lu_unpack", *LU, torch=_top("lu_unpack"), named=False, torch_grad=False)
    case("linalg_svdvals", np.eye(3), torch=_lib("svdvals", "driver"), smooth=False)


def _norms() -> None:
    for order in (2, 1, 3, 0, np.inf, -np.inf):
        case("linalg_vector_norm", F(2, 3, 4), order, torch=_lib("vector_norm", "dtype"), smooth=order != 0)
        case("linalg_vector_norm", F(2, 3, 4), order, (0, 2), True, torch=_lib("vector_norm", "dtype"), smooth=order != 0)
    for order in ORDERS:
        for more in ((), ((-1, 0), True)):
            case("linalg_matrix_norm", TALL, order, *more, torch=_lib("matrix_norm", "dim", "keepdim", "dtype"), named=False)
        case("linalg_norm", WIDE, order, torch=_lib("norm", "dtype"), named=False)
        case("linalg_cond", M, order, torch=_condition, named=False)
    case("linalg_norm", TALL, torch=_lib("norm", "dtype"))
    case("linalg_norm", TALL, 1, 1, torch=_lib("norm", "dtype"), named=False)
    case("linalg_cond", M, torch=_condition, named=False)
    case("linalg_matrix_rank", SINGULAR, torch=_rank, named=False)
    case("linalg_matrix_rank", TALL, torch=_rank, named=False)
    case("linalg_matrix_rank", SPD, None, True, torch=_rank, named=False)


def _condition(a: Any, order: Any) -> Any:
    """torch changes an inverse that its own rule needs: by its parts."""
    import torch
    if order in (None, 2, -2):
        return torch.linalg.cond(a, order)
    return torch.linalg.matrix_norm(a, order) * torch.linalg.matrix_norm(torch.linalg.inv(a), order)


def _rank(a: Any, tol: Any, hermitian: bool, *least: Any) -> Any:
    import torch
    return torch.linalg.matrix_rank(a, hermitian=hermitian)


def _pinv(a: Any, rcond: Any, hermitian: bool, *least: Any) -> Any:
    import torch
    return torch.linalg.pinv(a, hermitian=hermitian)


def _functions() -> None:
    for a in (M, TALL, WIDE):
        case("linalg_pinv", a, torch=_pinv)
        case("pinverse", a)
        case("linalg_lstsq", a, F(*a.shape[:-1], 2), torch=_lib("lstsq", "driver"), named=False)
    case("linalg_pinv", SPD, None, True, torch=_pinv, smooth=False, torch_grad=False)
    case("linalg_lstsq", TALL, F(2, 4), None, "gels", torch=_lib("lstsq", "driver"), named=False)
    case("linalg_lstsq", TALL, F(2, 4, 2), None, "gelsd", torch=_lib("lstsq", "driver"), named=False, torch_grad=False,
         smooth=False)
    for n in (-2, -1, 0, 1, 2, 3, 5):
        case("matrix_power", M, n, named=False)
        case("linalg_matrix_power", M, n, torch=_lib("matrix_power"), named=False)
    case("matrix_exp", M)
    case("linalg_matrix_exp", M[0], torch=_lib("matrix_exp"))
    case("linalg_multi_dot", [F(2, 5), F(5, 3), F(3, 4), F(4, 2)], torch=_lib("multi_dot"), named=False)
    case("linalg_multi_dot", [F(3), F(3, 4), F(4)], torch=_lib("multi_dot"), named=False)
    case("linalg_cross", F(2, 3), F(1, 3), torch=_lib("cross", "dim"))
    case("linalg_vecdot", F(2, 3), F(1, 3), torch=_lib("vecdot", "dim"), named=False)
    case("linalg_diagonal", F(2, 3, 4), 1, torch=lambda a, o, i, j: __import__("torch").linalg.diagonal(
        a, offset=o, dim1=i, dim2=j))
    case("linalg_vander", F(2, 3), 4, torch=lambda a, n: __import__("torch").linalg.vander(a, N=n))
    case("linalg_vander", F(3), torch=lambda a, n: __import__("torch").linalg.vander(a, N=n))
    case("linalg_tensorinv", F(6, 2, 3), 1, torch=_lib("tensorinv"), named=False, rtol=1e-8)
    case("linalg_tensorsolve", F(2, 3, 6), F(2, 3), torch=_lib("tensorsolve"), named=False)
    case("linalg_tensorsolve", F(6, 2, 3), F(2, 3), (0,), torch=_lib("tensorsolve"), named=False)


def linear_algebra() -> None:
    """File the samples."""
    for part in (_solutions, _determinants, _symmetric, _decompositions, _norms, _functions):
        part()


def _even(n: Any) -> Any:
    """The symmetric part, doubled."""
    return P.add(n, P.permute(n, (0, 2, 1)))


Y = _rng.standard_normal((2, 3, 2))
PRIMITIVES: dict[str, list[Any]] = {
    "inv": [(lambda x: P.inv(x, "linalg.inv"), [M])],
    "solve": [(lambda x, y: P.solve(x, y, "torch.linalg.solve"), [M, Y])],
    "solve_triangular": [(lambda x, y, u=u, d=d: P.solve_triangular(x, y, u, d), [M, Y])
                         for u in (False, True) for d in (False, True)],
    "lstsq": [(lambda x, y: P.lstsq(x, y, 1e-12), [TALL, _rng.standard_normal((2, 4, 2))])],
    "pinv": [(lambda x: P.pinv(x, 0.0, 1e-12, False), [a]) for a in (TALL, WIDE)],
    "cholesky": [(lambda x, u=u: P.cholesky(_even(x), u, "linalg.cholesky"), [SPD]) for u in (False, True)],
    "expm": [(P.expm, [M])],
    "det": [(P.det, [M]), (P.det, [SINGULAR]), (P.det, [np.outer([1.0, 2.0, 3.0], [1.0, -1.0, 2.0])])],
    "cofactor": [(P.cofactor, [M])],
    "cofactor_along": [(P.cofactor_along, [M, M[::-1].copy()])],
    "logabsdet": [(P.logabsdet, [M])],
    "factor": [*[(lambda x, k=k: decomposed(_even(x), "eigh", True)[k], [SPD]) for k in range(2)],
               *[(lambda x, k=k: decomposed(x, "svd", False)[k], [a]) for a in (M, TALL, WIDE) for k in range(3)],
               *[(lambda x, k=k: decomposed(x, "qr", False)[k], [a]) for a in (M, TALL) for k in range(2)]],
    "lu": [(lambda x: P.lu(x, ""), [a]) for a in (M, TALL, WIDE)],
    "eigh": [], "svd": [], "qr": [], "cholesky_info": [], "lu_info": [], "lu_pivots": [], "permutation": [], "detsign": [],
}

# torch keeps other things of these for its rules (steps of composites; LU and U with Vh, which we make again from the input),
# or samples turn its vectors
READ_INPUTS = {"cholesky_solve", "cholesky_inverse", "linalg_lu_solve", "lu_solve", "linalg_eigh", "linalg_eigvalsh",
               "linalg_svd", "linalg_svdvals", "svd", "linalg_matrix_norm", "linalg_norm", "linalg_cond", "matrix_power",
               "linalg_matrix_power", "linalg_tensorinv", "linalg_tensorsolve"}
