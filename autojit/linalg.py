"""`autojit.linalg`: linear algebra under torch's names, from the declared ops.

In: tensors of float32 or float64 whose last two dims are matrices.  Out: tensors.  Complex matrices are taken by `eig`,
`eigvals`, products, powers and norms alone, all else refuses them by name.  LinAlgError where a matrix has no answer.

>>> linalg.solve(tensor([[2.0, 0.0], [0.0, 4.0]]), tensor([1.0, 1.0]))
tensor([0.5000, 0.2500])
>>> linalg.cholesky(zeros(2, 2))
Traceback (most recent call last):
    ...
autojit.ops.lapack.LinAlgError: linalg.cholesky: The factorization could not be completed because ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .eager import functions
from .eager.binding import function_of
from .ops.declare import OPS
from .ops.lapack import LinAlgError

_PREFIX = "linalg_"


def _renamed(f: Any, name: str) -> Any:
    f.__name__ = f.__qualname__ = name
    return f


_FACE = {name.removeprefix(_PREFIX): _renamed(function_of(op), name.removeprefix(_PREFIX))
         for name, op in OPS.items() if name.startswith(_PREFIX)}
_FACE["matmul"] = functions()["matmul"]
globals().update(_FACE)

__all__ = [*sorted(_FACE), "LinAlgError"]  # noqa: PLE0604


if TYPE_CHECKING:
    def __getattr__(name: str) -> Any: ...


def __dir__() -> list[str]:
    return list(__all__)
