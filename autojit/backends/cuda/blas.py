"""Matrix products by cuBLAS: one function of its library, called through ctypes.

In: a GemmStep, or what has its fields, and the addresses of first elements.  Out: the same product, row-major, on the driver's
stream; written down where work is captured.  Never chooses what is a product: the schedule did.

A row-major matrix is its transpose to cuBLAS, which counts columns first: C = op(A) op(B) is asked for as C' = op(B)' op(A)',
with the operands exchanged and the flags as they are.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

from ...config import config
from .driver import INSTALL, DriverError, Unavailable

if TYPE_CHECKING:
    from .driver import Driver

TYPE = {"f32": 0, "f64": 1, "f16": 2, "bf16": 14}         # cudaDataType
EXACT, TF32, DOUBLE = 68, 77, 70                          # cublasComputeType: float32, float32 with TF32 factors, double
NORMAL, TRANSPOSED = 0, 1
DEFAULT = -1                                              # of the algorithms: cuBLAS chooses
STATUS = {1: "NOT_INITIALIZED", 3: "ALLOC_FAILED", 7: "INVALID_VALUE", 8: "ARCH_MISMATCH", 11: "MAPPING_ERROR",
          13: "EXECUTION_FAILED", 14: "INTERNAL_ERROR", 15: "NOT_SUPPORTED"}
WORKSPACE = 32 << 20, 8 << 20                             # bytes: what NVIDIA asks for from Hopper on, and before


def compute_type(code: str) -> int:
    """How products of a type are computed, by what `set_float32_matmul_precision` said."""
    if code == "f64":
        return DOUBLE
    return TF32 if code == "f32" and config.matmul_precision != "highest" else EXACT


def swapped(s: Any, a: int, b: int, c: int) -> tuple[int, ...]:
    """The arguments in the order of cuBLAS, of matrices that it reads column by column: op, op, m, n, k, then address, leading
    dimension and stride of its A (our B), its B (our A), and C."""
    return (TRANSPOSED if s.trans_b else NORMAL, TRANSPOSED if s.trans_a else NORMAL, s.n, s.m, s.k,
            b, s.ldb, s.stride_b, a, s.lda, s.stride_a, c, s.ldc, s.stride_c)


class Blas:
    """A handle on the driver's stream, with a workspace of its own: cuBLAS allocates nothing, so captures are possible."""

    def __init__(self, driver: Driver) -> None:
        self._lib = _library()
        self._gemm, whole = _function(self._lib)
        pointer, number = ctypes.c_void_p, ctypes.c_int
        self._gemm.argtypes = [pointer, number, number, whole, whole, whole, pointer,
                               pointer, number, whole, ctypes.c_longlong, pointer, number, whole, ctypes.c_longlong, pointer,
                               pointer, number, whole, ctypes.c_longlong, whole, number, number]
        self._handle = pointer()
        self._check("cublasCreate", self._lib.cublasCreate_v2(ctypes.byref(self._handle)))
        self._check("cublasSetStream", self._lib.cublasSetStream_v2(self._handle, pointer(driver.stream)))
        size = WORKSPACE[0 if driver.capability[0] >= 9 else 1]
        self._workspace = driver.alloc(size)              # after the stream: setting that takes the workspace away
        self._check("cublasSetWorkspace", self._lib.cublasSetWorkspace_v2(
            self._handle, pointer(self._workspace), ctypes.c_size_t(size)))

    def _check(self, what: str, status: int) -> None:
        if status:
            raise DriverError(f"CUBLAS_STATUS_{STATUS.get(status, status)}: {what}")

    def gemm(self, s: Any, a: int, b: int, c: int) -> None:
        """C := alpha * op(A) @ op(B) + beta * C for all of a step's matrices; float16 and bfloat16 sum in float32."""
        code = s.dtype.code
        if 0 in (s.m, s.n, s.batch, s.outer[0]):
            return
        kind, compute, size, out = TYPE[code], compute_type(code), s.dtype.itemsize, s.result or s.dtype
        kind3, size3 = TYPE[out.code], out.itemsize
        scalar = ctypes.c_double if code == "f64" else ctypes.c_float
        alpha, beta = scalar(s.alpha), scalar(s.beta)     # read at once, also by a capture
        count, step_a, step_b, step_c = s.outer
        for turn in range(count):
            op1, op2, m, n, k, p1, ld1, stride1, p2, ld2, stride2, p3, ld3, stride3 = swapped(
                s, a + turn * step_a * size, b + turn * step_b * size, c + turn * step_c * size3)
            self._check("cublasGemmStridedBatchedEx", self._gemm(
                self._handle, op1, op2, m, n, k, ctypes.addressof(alpha), p1, kind, ld1, stride1, p2, kind, ld2, stride2,
                ctypes.addressof(beta), p3, kind3, ld3, stride3, s.batch, compute, DEFAULT))


def _library() -> ctypes.CDLL:
    from cuda.pathfinder import DynamicLibNotFoundError, load_nvidia_dynamic_lib
    try:
        path = load_nvidia_dynamic_lib("cublas").abs_path
    except DynamicLibNotFoundError as e:
        raise Unavailable(f"matrix products need cuBLAS, and its library cannot be found ({INSTALL} brings it): {e}") from e
    return ctypes.CDLL(path)


def _function(lib: ctypes.CDLL) -> tuple[Any, Any]:
    """The function, and the type of its sizes: 64 bits from CUDA 12 on."""
    wide = getattr(lib, "cublasGemmStridedBatchedEx_64", None)
    return (wide, ctypes.c_int64) if wide is not None else (lib.cublasGemmStridedBatchedEx, ctypes.c_int)
