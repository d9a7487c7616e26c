"""Every flag of autojit, in one table.

In: environment variables, read once, and assignments (``aj.config.tier = "compile"``).  Out: plain attributes.
Never grows a flag that a better default would make needless.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable
from typing import Any


def _tier(text: str) -> str:
    if text not in ("auto", "compile", "numpy"):
        raise ValueError(f"AUTOJIT_TIER must be auto, compile or numpy, not {text!r}")
    return text


def _blas(text: str) -> str:
    if text not in ("auto", "own", "numpy", "mkl"):
        raise ValueError(f"AUTOJIT_BLAS must be auto, own, numpy or mkl, not {text!r}")
    return text


def _cuda(text: str) -> str:
    if text not in ("auto", "standin", "off"):
        raise ValueError(f"AUTOJIT_CUDA must be auto, standin or off, not {text!r}")
    return text


PRECISIONS = ("highest", "high", "medium")                # torch's words for products of float32 on tensor cores


def _precision(text: str) -> str:
    if text not in PRECISIONS:
        raise ValueError(f"AUTOJIT_MATMUL_PRECISION must be {', '.join(PRECISIONS[:-1])} or {PRECISIONS[-1]}, not {text!r}")
    return text


def _whole(variable: str, least: int) -> Callable[[Any], int]:
    """A parser of whole numbers from `least` up; for the environment's text and for assigned values."""
    def parse(value: Any) -> int:
        try:
            number = int(value) if isinstance(value, str) else operator.index(value)
        except (TypeError, ValueError):
            number = least - 1
        if number < least:
            raise ValueError(f"{variable} must be a whole number, {least} or more, not {value!r}")
        return number
    return parse


def _default_cache() -> str:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "autojit")


def _default_threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# name: (environment variable, parser, default, what it does)
FLAGS: dict[str, tuple[str, Callable[[str], Any], Callable[[], Any], str]] = {
    "debug": ("AUTOJIT_DEBUG", _whole("AUTOJIT_DEBUG", 0), lambda: 0,
              "1 events, 2 kernels with times, 3 graphs, 4 kernel source, 5 rewrites"),
    "cache_dir": ("AUTOJIT_CACHE_DIR", str, _default_cache, "where compiled kernels are kept"),
    "tier": ("AUTOJIT_TIER", _tier, lambda: "auto",
             "auto: NumPy at once, compiled code when ready; compile: wait for it; numpy: never compile"),
    "forms": ("AUTOJIT_FORMS", _whole("AUTOJIT_FORMS", 0), lambda: 1,
              "0: each new size is scheduled; 1: made from what is known of other sizes; 2: and held against a schedule"),
    "blas": ("AUTOJIT_BLAS", _blas, lambda: "auto",
             "auto: by size; own: autojit's kernels wherever they can; numpy: NumPy's library; mkl: Intel's"),
    "tune": ("AUTOJIT_TUNE", _whole("AUTOJIT_TUNE", 0), lambda: 0,
             "1: schedules that are estimated level are timed at the first compile, and the winner remembered"),
    "num_threads": ("AUTOJIT_NUM_THREADS", _whole("AUTOJIT_NUM_THREADS", 1), _default_threads,
                    "threads that run kernels"),
    "workers": ("AUTOJIT_WORKERS", _whole("AUTOJIT_WORKERS", 0), _default_threads,
                "compile processes at most; 0 compiles in this process"),
    "cuda": ("AUTOJIT_CUDA", _cuda, lambda: "auto",
             "auto: the GPU if there is one; standin: kernels interpreted on the host, for tests; off: no GPU"),
    "matmul_precision": ("AUTOJIT_MATMUL_PRECISION", _precision, lambda: "highest",
                         "float32 products on a GPU. highest: float32; high, medium: TF32"),
}


class Config:
    """The flags as attributes; ``reset()`` reads the environment again.

    ValueError, which names the variable and what it may be, for a value that a flag cannot have.
    """

    debug: int
    cache_dir: str
    tier: str
    forms: int
    blas: str
    tune: int
    num_threads: int
    workers: int
    cuda: str
    matmul_precision: str

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        for name, (variable, parse, default, _) in FLAGS.items():
            text = os.environ.get(variable)
            object.__setattr__(self, name, parse(text) if text else default())

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in FLAGS:
            raise AttributeError(f"autojit has no flag {name!r}; flags are {', '.join(FLAGS)}")
        object.__setattr__(self, name, FLAGS[name][1](value))

    def __repr__(self) -> str:
        return "\n".join(f"{name:12s} = {getattr(self, name)!r:28}  # {doc} ({variable})"
                         for name, (variable, _, _, doc) in FLAGS.items())


config = Config()


def set_float32_matmul_precision(precision: str) -> None:
    """How exact products of float32 matrices on a GPU are: "highest" float32, "high" and "medium" TF32 (10 bits of mantissa
    in the factors, sums in float32).  The CPU's are always exact.  RuntimeError if it is no string; what is no such word is
    met with a warning and changes nothing, as in torch.

    >>> set_float32_matmul_precision("high"); get_float32_matmul_precision()
    'high'
    >>> set_float32_matmul_precision("highest")
    """
    if not isinstance(precision, str):
        raise RuntimeError(f"set_float32_matmul_precision expects a str, but got {type(precision).__name__}")
    if precision in PRECISIONS:
        config.matmul_precision = precision
        return
    import warnings
    warnings.warn(f"{precision} is not one of 'highest', 'high', or 'medium'; the current setFloat32MatmulPrecision call has "
                  "no effect.", UserWarning, stacklevel=2)


def get_float32_matmul_precision() -> str:
    """What `set_float32_matmul_precision` last said: "highest", "high" or "medium"."""
    return config.matmul_precision
