"""Which routine computes a matrix product, and how the product is split over threads.

In: a ``Shape``.  Out: ``routine()``, a calling convention and an address: our own kernels, the BLAS that NumPy loaded, MKL,
or plain loops; ``choose()``, the split.  Both follow the sizes, the CPU and ``config.blas`` alone, so results never depend
on how fast something happened to be.  Never runs anything.
"""

from __future__ import annotations

from ...config import config
from . import native
from .libraries import Blas, find, intel, mkl
from .products import BATCH, CBLAS32, CBLAS64, COLUMNS, FORTRAN32, GEMV32, GEMV64, LOOPS, OWN, ROWS


class Shape:
    """A product: C of m by n with rows ``ldc`` elements apart, from op(A) of m by k and op(B) of k by n, ``batch`` times."""

    __slots__ = ("dtype", "m", "n", "k", "batch", "trans_a", "trans_b", "lda", "ldb", "ldc")

    def __init__(self, dtype: str, m: int, n: int, k: int, batch: int = 1, trans_a: bool = False, trans_b: bool = False,
                 lda: int = 0, ldb: int = 0, ldc: int = 0) -> None:
        self.dtype, self.m, self.n, self.k, self.batch = dtype, m, n, k, batch
        self.trans_a, self.trans_b = trans_a, trans_b
        self.lda, self.ldb = lda or (m if trans_a else k), ldb or (k if trans_b else n)
        self.ldc = ldc or n

    @property
    def work(self) -> int:
        """Multiplications of one product."""
        return self.m * self.n * self.k

    @property
    def vector(self) -> bool:
        return self.m == 1 or self.n == 1

    def streams(self) -> bool:
        """Is it a matrix times a vector whose inner loop goes along memory?"""
        if self.n == 1:
            return self.ldc == 1 if self.trans_a else self.trans_b or self.ldb == 1
        return self.m == 1 and (not self.trans_b or not self.trans_a or self.lda == 1)


# ---------------------------------------------------------------------------------------------- our own kernels
_OWN_WORK = 1 << 28                # multiplications of one product up to which ours are used
_OWN_B = 1 << 22                   # bytes of B up to which they are: what the second cache does not hold, the third must
_own: dict[str, dict[str, int]] = {}
_store: list[native.Store | None] = [None]


def keep(store: native.Store | None) -> None:
    """Where the machine code of our kernels is kept between processes."""
    _store[0] = store


def own(dtype: str) -> dict[str, int]:
    """Addresses of our kernels by name, made when first asked for; empty on a CPU whose registers are too narrow."""
    if dtype not in _own:
        _own[dtype] = _made(dtype)
    return _own[dtype]


def expect(dtype: str) -> None:
    """Have the kernels ready that products of a type may take."""
    if config.blas in ("auto", "own"):
        own(dtype)


def _made(dtype: str) -> dict[str, int]:
    from . import microkernels
    from .target import vector_bits
    bits = vector_bits()
    if bits < 256:
        return {}
    kind = "float" if dtype == "f32" else "double"
    names = [f"vector_{kind}", f"matrices_{kind}"]
    library = native.load(microkernels.text(kind, bits), names, store=_store[0], level=1, host_cpu=True)
    return {"vector": library.address(names[0]), "matrices": library.address(names[1])}


def _ours(s: Shape) -> int:
    """The address of our kernel for a product; 0: not one of ours.

    One thread, float32, Zen 4 (AVX-512; GFLOP/s of OpenBLAS 0.3.31, MKL 2026, ours; the peak is about 116):

        16, 512, 128          74   71  114         512, 512, 128         104  100  114
        16, 128, 512 (B^T)    41   76   84         512, 128, 512         103  100  115
        64, 64, 32 (B^T)      67   55  101         784, 256, 64 (A^T)     98   99  110
        32, 32, 32           108   26  108         64, 256, 784           96   97  112
        64, 10, 256           68   16   72         512, 512, 512         106  101  112
        256, 10, 64 (A^T)     80   14   71         1024, 1024, 1024      100   95   90

    They pack nothing, which costs them the largest: those go to MKL on Intel's CPUs where it is installed, else to
    NumPy's library.  A matrix of 2000 by 2000 times a vector is read at 61 (by rows) and 71 (by columns) GB/s, by
    OpenBLAS at 48 and 46.
    """
    if config.blas not in ("auto", "own") or s.k == 0 or max(s.m, s.n, s.k, s.lda, s.ldb, s.ldc) >= 1 << 40:
        return 0
    if s.vector:
        return own(s.dtype).get("vector", 0) if s.streams() else 0
    size = 4 if s.dtype == "f32" else 8
    if config.blas == "auto" and (s.work > _OWN_WORK or s.n * s.k * size > _OWN_B):
        return 0
    return own(s.dtype).get("matrices", 0)


# ------------------------------------------------------------------------------------------------ which routine
def routine(s: Shape) -> tuple[int, int]:
    """Which calling convention of @gemm_one serves a product, and the function's address."""
    wide = int(s.dtype == "f64")
    address = _ours(s)
    if address:
        return OWN, address
    found = _library(s)
    if found is None:
        return LOOPS + wide, 0
    if found.fortran:
        return FORTRAN32 + wide, found.gemm[s.dtype]
    if s.vector and found.gemv[s.dtype]:
        return (GEMV64 if found.integers == 64 else GEMV32) + wide, found.gemv[s.dtype]
    return (CBLAS64 if found.integers == 64 else CBLAS32) + wide, found.gemm[s.dtype]


def _library(s: Shape) -> Blas | None:
    """The library for a product, None if there is none or its integers are too narrow."""
    if s.k == 0:
        return None
    wanted = config.blas == "mkl" or config.blas == "auto" and s.work > _OWN_WORK and intel()
    found = mkl() if wanted else None
    if found is None:
        found = find()
    if found is not None and found.integers == 32 and max(s.m, s.n, s.k, s.lda, s.ldb, s.ldc) >= 1 << 31:
        return None
    return found


# ------------------------------------------------------------------------------------------------ which split
class Split:
    """How a product is run by the pool: along ``axis`` in ``chunks`` parts, cut at multiples of ``align``."""

    __slots__ = ("axis", "chunks", "align")

    def __init__(self, axis: int, chunks: int, align: int) -> None:
        self.axis, self.chunks, self.align = axis, chunks, align

    def __repr__(self) -> str:
        name = ("batch", "rows", "columns")[self.axis]
        return f"Split({name}, {self.chunks} chunks, align {self.align})"


_WORTH_A_SPLIT, _WORTH_A_PART = 1 << 19, 1 << 17
_ALONE = 1 << 17                                    # libraries run smaller products on one thread by themselves


def choose(s: Shape, threads: int) -> Split:
    """How to run a product fastest on ``threads`` threads: always by our pool, never by a library's own threads.

    Measured with OpenBLAS on 2 cores (Zen 4, float32, us; pool: rows or columns in 2 parts):

        m, n, k            one thread   BLAS's two   pool    with both cores busy: BLAS's two, pool
        64, 256, 784              264          191    151                           4136, 280
        784, 256, 64 (A^T)        256          137    141                                 260
        512, 512, 128             656          596    364                          15998, 680
        256, 256, 256             320          179    168                          15994, 330
        1000, 16, 100              38           20     14                           7996, 32
        32 of 64, 64, 32           76           76     38

    The BLAS waits for all its threads by spinning, hence its collapse.  A part takes all rows, or all columns, of the
    longer side; columns of a transposed B, so that each part turns its own.  Two parts a thread halve what a delayed
    thread costs and let the caller go on while a sleeper wakes up.  Below half a million multiplications (9 us) the
    split costs more than it saves when the helper sleeps, so there is none; matrix times vector takes 4 times as
    long a multiplication.
    """
    found = find()
    ours = _ours(s) != 0
    if not ours and found is not None and not found.set_threads and s.work > _ALONE and config.blas != "mkl":
        return Split(BATCH, 1, 1)                   # it may start threads of its own and cannot be told not to
    work = s.work * s.batch * (2 if s.dtype == "f64" else 1) * (4 if s.vector else 1)
    if s.batch >= 4 * threads or (s.batch > 1 and s.batch % threads == 0):
        axis, extent, align, shortest = BATCH, s.batch, 1, 1
    elif s.vector:
        axis, extent = (ROWS, s.m) if s.n == 1 else (COLUMNS, s.n)
        align, shortest = 16, 64
    elif s.m >= s.n and not (s.trans_b and ours and s.n >= 64 * threads):
        axis, extent, align, shortest = ROWS, s.m, 8, 32
    else:
        axis, extent, align, shortest = COLUMNS, s.n, 32 if ours and s.n >= 256 else 16, 32
    parts = min(2 * threads, work // _WORTH_A_PART, extent // shortest)
    if threads > 1 and parts < 2 * threads:
        parts = min(parts, threads)
    if work < _WORTH_A_SPLIT or threads == 1 or parts < 2:
        return Split(BATCH, 1, 1)
    return Split(axis, int(parts), align)
