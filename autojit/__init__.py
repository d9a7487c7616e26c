"""autojit: automatic differentiation for people who live in NumPy and Numba.

The names here are torch's: a program that says ``import autojit as torch`` and stays inside them runs and prints the same.
Ops come from their declarations (`autojit.ops`); what belongs to no op is named below.
"""

from __future__ import annotations

import importlib
from typing import Any

from . import dtypes as _dtypes
from . import eager as _eager
from .config import config, get_float32_matmul_precision, set_float32_matmul_precision
from .dtypes import bfloat16, complex64, complex128, finfo, float16, iinfo, int8, int16, int32, int64, set_default_dtype, uint8
from .dtypes import complex64 as cfloat
from .dtypes import complex128 as cdouble
from .dtypes import default_float as get_default_dtype
from .dtypes import float16 as half
from .dtypes import float32 as float
from .dtypes import float32 as float32
from .dtypes import float64 as double
from .dtypes import float64 as float64
from .dtypes import int16 as short
from .dtypes import int32 as int
from .dtypes import int64 as long
from .eager.creation import (
    arange,
    as_tensor,
    empty,
    empty_like,
    eye,
    from_numpy,
    frombuffer,
    full,
    full_like,
    linspace,
    logspace,
    ones,
    ones_like,
    tensor,
    zeros,
    zeros_like,
)
from .eager.format import get_printoptions, printoptions, set_printoptions
from .eager.interop import from_dlpack
from .eager.modes import enable_grad, inference_mode, is_grad_enabled, is_inference_mode_enabled, no_grad, set_grad_enabled
from .eager.placing import Device as device
from .eager.random import (
    Generator,
    bernoulli,
    default_generator,
    get_rng_state,
    initial_seed,
    manual_seed,
    multinomial,
    normal,
    rand,
    rand_like,
    randint,
    randint_like,
    randn,
    randn_like,
    randperm,
    seed,
    set_rng_state,
)
from .eager.tensor import Size, Tensor
from .engine.programs import wait_compiled
from .errors import CacheWarning, CompileError, TraceError
from .functional import grad, stop_gradient, value_and_grad, vjp
from .tracing import trace

__version__ = "0.1.0"

bool = _dtypes.bool_
dtype = _dtypes.DType
strided = "torch.strided"
contiguous_format = preserve_format = None
e, pi, inf, nan = 2.718281828459045, 3.141592653589793, _dtypes.np.inf, _dtypes.np.nan
newaxis = None

globals().update(_eager.creation.typed())
globals().update({name: f for name, f in _eager.functions().items() if name not in globals()})

_TRANSFORMS = ("vmap", "jvp", "jacrev", "jacfwd", "jacobian", "hessian", "hvp", "linearize", "checkpoint", "custom_vjp")
_LATE = {"export": "exporter", "scan": "control", "fori_loop": "control", "while_loop": "control", "cond": "control",
         "custom_op": "custom", "load": "saving", "save": "saving",
         **dict.fromkeys(("chain_matmul", "combinations", "histogram", "poisson", "polygamma", "unravel_index", "hann_window",
                          "hamming_window", "blackman_window", "bartlett_window", "kaiser_window"), "extras"),
         **dict.fromkeys(_TRANSFORMS, "transforms")}      # functions whose modules are large
_LAZY = {"autograd": "autograd", "cuda": "cuda", "fft": "fft", "linalg": "linalg", "nn": "nn", "optim": "optim",
         "special": "special", "testing": "testing", "utils": "utils"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return importlib.import_module(f".{_LAZY[name]}", __name__)
    if name in _LATE:
        found = globals()[name] = getattr(importlib.import_module(f".{_LATE[name]}", __name__), name)
        return found
    raise AttributeError(f"module 'autojit' has no attribute {name!r}")
