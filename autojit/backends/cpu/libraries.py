"""Libraries of matrix products in this process: the BLAS that NumPy already loaded, and MKL where it is installed.

In: nothing but an imported NumPy (SciPy only where NumPy shows no BLAS).  Out: ``find()`` and ``mkl()``: addresses of
functions and how they take their integers; ``function()``: addresses of LAPACK's in the first, and of SciPy's special ones.
Never chooses between them, and changes one setting: MKL, where it is this module that loads it, runs on one thread.
"""

from __future__ import annotations

import ctypes
import glob
import os
import platform
import sys
from collections.abc import Callable
from importlib import import_module


class Blas:
    """A BLAS in this process: ``integers`` has 64 or 32 bits; addresses are 0 where a function is missing.  ``function``:
    from Fortran's name of one of its functions, or LAPACK's, to the address."""

    __slots__ = ("name", "integers", "fortran", "gemm", "gemv", "get_threads", "set_threads", "function")

    def __init__(self, name: str, integers: int, fortran: bool, gemm: dict[str, int], gemv: dict[str, int],
                 get_threads: int = 0, set_threads: int = 0, function: Callable[[str], int] = lambda name: 0) -> None:
        self.name, self.integers, self.fortran = name, integers, fortran
        self.gemm, self.gemv, self.function = gemm, gemv, function
        self.get_threads, self.set_threads = get_threads, set_threads

    def threads(self) -> int:
        """How many threads a product may use now; 0 if the library does not say."""
        return int(ctypes.CFUNCTYPE(ctypes.c_int)(self.get_threads)()) if self.get_threads else 0

    def limit_threads(self, n: int) -> None:
        """Let products use ``n`` threads from now on, NumPy's too."""
        if self.set_threads:
            ctypes.CFUNCTYPE(None, ctypes.c_int)(self.set_threads)(n)

    def __repr__(self) -> str:
        kind = "Fortran" if self.fortran else "C"
        return f"Blas({self.name}, {kind}, {self.integers}-bit integers, {self.threads()} threads)"


_found: list[Blas | None] = []


def find() -> Blas | None:
    """The BLAS of this process, looked for once; None if NumPy and SciPy show none.

    >>> find().threads() >= 1
    True
    """
    if not _found:
        _found.append(_of_numpy() or _of_scipy())
    return _found[0]


def _of_numpy() -> Blas | None:
    import numpy

    core = numpy._core if hasattr(numpy, "_core") else numpy.core
    folder = os.path.dirname(numpy.__file__)
    # Looking a symbol up in NumPy's extension searches the libraries it was linked to as well, whatever they are.
    files = [core._multiarray_umath.__file__]
    for pattern in ("../numpy.libs/*blas*", ".dylibs/*blas*", ".libs/*blas*"):
        files += sorted(glob.glob(os.path.join(folder, pattern)))
    for file in files:
        try:
            library = ctypes.CDLL(file)
        except OSError:
            continue
        found = _of_library(library, os.path.basename(file))
        if found is not None:
            return found
    return None


# prefix, suffix, width of integers: wheels of NumPy, Debian's and conda's 64-bit builds, plain, Accelerate.
_SPELLINGS = (("scipy_", "64_", 64), ("", "64_", 64), ("", "_64", 64), ("scipy_", "", 32), ("", "", 32),
              ("", "$NEWLAPACK$ILP64", 64), ("", "$NEWLAPACK", 32))


def _of_library(library: ctypes.CDLL, file: str) -> Blas | None:
    for prefix, suffix, integers in _SPELLINGS:
        def address(name: str, prefix: str = prefix, suffix: str = suffix) -> int:
            return _symbol(library, f"{prefix}{name}{suffix}")

        gemm = {"f32": address("cblas_sgemm"), "f64": address("cblas_dgemm")}
        if all(gemm.values()):
            gemv = {"f32": address("cblas_sgemv"), "f64": address("cblas_dgemv")}
            get = address("openblas_get_num_threads") or _symbol(library, "MKL_Get_Max_Threads")
            set_ = address("openblas_set_num_threads") or _symbol(library, "MKL_Set_Num_Threads")
            return Blas(file, integers, False, gemm, gemv, get, set_ if get else 0,
                        lambda name, f=address: f(name + "_") or f(name))  # type: ignore[misc]
    return None


_functions: dict[str, int] = {}


def function(name: str) -> int:
    """The address of a function of LAPACK (or BLAS) that takes its arguments as Fortran's do, its integers of the width that
    ``find()`` tells; or of SciPy's special one of doubles: ``special.j0``.  0 where there is none.

    >>> function("dpotrf") != 0, function("special.j0") != 0, function("dnothing")
    (True, True, 0)
    """
    if name not in _functions:
        found = find()
        _functions[name] = _shown(name) if "." in name else found.function(name) if found is not None else 0
    return _functions[name]


def cython(name: str) -> tuple[str, str] | None:
    """Where SciPy has the function for others to call, as (module, name); its integers have 32 bits.

    >>> cython("dpotrf")
    ('scipy.linalg.cython_lapack', 'dpotrf')
    """
    kind, _, plain = name.rpartition(".")
    for module in ("scipy.special.cython_special",) if kind else ("scipy.linalg.cython_lapack", "scipy.linalg.cython_blas"):
        capsules = import_module(module).__pyx_capi__
        for full in (plain, f"__pyx_fuse_0{plain}", f"__pyx_fuse_1{plain}"):
            if full in capsules and (not kind or _name_of(capsules[full]).startswith(b"double (double")):
                return module, full
    return None


def _shown(name: str) -> int:
    """The address of what ``cython`` finds."""
    found = cython(name)
    if found is None:
        return 0
    capsule = import_module(found[0]).__pyx_capi__[found[1]]
    return _pointer(capsule, _name_of(capsule)) or 0


_name_of = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", ctypes.pythonapi))
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", ctypes.pythonapi))


def _symbol(library: ctypes.CDLL, name: str) -> int:
    try:
        return ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0
    except AttributeError:
        return 0


def _of_scipy() -> Blas | None:
    try:
        gemm = {kind: _shown(name) for kind, name in (("f32", "sgemm"), ("f64", "dgemm"))}
    except ImportError:
        return None
    return Blas("scipy.linalg.cython_blas", 32, True, gemm, {"f32": 0, "f64": 0}, function=_shown)


def intel() -> bool:
    """Is this CPU one that MKL is made for?  (On AMD's, NumPy's OpenBLAS is as fast or faster.)"""
    try:
        with open("/proc/cpuinfo") as file:
            return "GenuineIntel" in file.read(4096)
    except OSError:
        return "Intel" in platform.processor()


_mkl: list[Blas | None] = []


def mkl() -> Blas | None:
    """Intel's library, if the environment holds it and nobody in this process has loaded it: set to one thread, since
    the pool is ours.  None elsewhere.  (Loading takes 30 ms, its first product 200.)"""
    if not _mkl:
        _mkl.append(_load_mkl())
    return _mkl[0]


def _load_mkl() -> Blas | None:
    loaded = getattr(os, "RTLD_NOLOAD", None)
    for pattern in ("lib/libmkl_rt.so*", "Library/bin/mkl_rt*.dll", "lib/libmkl_rt*.dylib"):
        for file in sorted(glob.glob(os.path.join(sys.prefix, pattern))):
            try:
                if loaded is not None:
                    ctypes.CDLL(file, mode=loaded)
                    return None                     # its settings are somebody else's
            except OSError:                         # nobody has loaded it
                pass
            try:
                library = ctypes.CDLL(file)
                library.MKL_Set_Threading_Layer(_SEQUENTIAL)
            except (OSError, AttributeError):
                continue
            found = _of_library(library, os.path.basename(file))
            if found is not None:
                return Blas(found.name, 32, False, found.gemm, found.gemv)
    return None


_SEQUENTIAL = 1
