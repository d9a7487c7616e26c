"""What is particular to complex tensors on the face: parts as attributes, conjugates, memory seen as the other kind.

In: tensors.  Out: tensors; parts and `view_as_*` are views.  A conjugate is a value of its own, never a view (torch's writes
through `conj()` to the tensor: ours do not).
"""

from __future__ import annotations

from typing import Any

from ..dtypes import COMPLEX
from ..errors import explain
from ..ops.declare import OPS
from .apply import apply
from .tensor import Tensor, expect
from .views import layout_of


def real(input: Tensor) -> Tensor:
    """The real part, in the same memory; of a real tensor itself.

    >>> real(tensor([1 + 2j]))
    tensor([1.])
    """
    expect("real", input)
    return apply(OPS["real"], (input,)) if input.aval.dtype.category == COMPLEX else input


def imag(input: Tensor) -> Tensor:
    """The imaginary part, in the same memory.  RuntimeError for a real tensor."""
    expect("imag", input)
    return apply(OPS["imag"], (input,))  # type: ignore[no-any-return]


def conj(input: Tensor) -> Tensor:
    """The conjugate; of a real tensor itself."""
    expect("conj", input)
    return apply(OPS["conj"], (input,)) if input.aval.dtype.category == COMPLEX else input


def itself(input: Tensor) -> Tensor:
    """The tensor: no conjugate or sign of ours waits to be carried out."""
    expect("resolve_conj", input)
    return input


def view_as_complex(input: Tensor) -> Tensor:
    """Memory of real numbers, (..., 2), as complex ones: a view.  RuntimeError where strides do not allow it."""
    expect("view_as_complex", input)
    out: Tensor = apply(OPS["view_as_complex"], (input,))
    strides, offset = layout_of(input)
    if strides[-1] != 1:
        raise explain(RuntimeError("Tensor must have a last dimension with stride 1"))
    if any([s % 2 for s in strides[:-1]]):
        raise explain(RuntimeError("Tensor must have a stride divisible by 2 for all but last dimension"))
    if offset % 2:
        raise explain(RuntimeError("Tensor must have a storage_offset divisible by 2"))
    return out


def _transposed(self: Tensor) -> Tensor:
    """Matrices transposed, and conjugated."""
    t: Tensor = apply(OPS["mT"], (self,))
    return conj(t)


def adjoint(input: Tensor) -> Tensor:
    """Matrices transposed and conjugated; of real ones a view."""
    expect("adjoint", input)
    if input.ndim < 2:
        raise explain(RuntimeError(f"tensor.adjoint() is only supported on matrices or batches of matrices. Got {input.ndim}-D "
                                   "tensor."))
    return _transposed(input)


def _h(self: Tensor) -> Tensor:
    if len(self.aval.shape) not in (0, 2):
        raise explain(RuntimeError(f"tensor.H is only supported on matrices (2-D tensors). Got {self.ndim}-D tensor.For "
                                   "batches of matrices, consider using tensor.mH"))
    return _transposed(self) if self.aval.shape else conj(self)


def _write(name: str) -> Any:
    def f(self: Tensor, value: Any) -> None:
        getattr(self, name).copy_(value)
    return f


METHODS: dict[str, Any] = {
    "conj": conj, "resolve_conj": itself, "resolve_neg": itself, "is_conj": lambda self: False, "is_neg": lambda self: False,
    "real": property(real, _write("real")), "imag": property(imag, _write("imag")),
    "adjoint": adjoint, "H": property(_h), "mH": property(_transposed),
}
FUNCTIONS: dict[str, Any] = {"real": real, "imag": imag, "conj": conj, "adjoint": adjoint, "view_as_complex": view_as_complex,
                             **{name: METHODS[name] for name in ("resolve_conj", "resolve_neg", "is_conj", "is_neg")}}


def install() -> None:
    for name, f in METHODS.items():
        setattr(Tensor, name, f)
