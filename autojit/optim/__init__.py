"""`autojit.optim`: what changes parameters by their gradients.  Each family is imported when it is first named."""

from __future__ import annotations

import importlib
from typing import Any

from .optimizer import Optimizer
from .sgd import SGD

_WHERE = {**dict.fromkeys(("Adam", "AdamW", "Adamax", "NAdam", "RAdam"), "adam"), "LBFGS": "lbfgs",
          **dict.fromkeys(("Adadelta", "Adagrad", "RMSprop", "Rprop"), "rms")}

__all__ = ["SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "LBFGS", "NAdam", "Optimizer", "RAdam", "RMSprop", "Rprop",
           "lr_scheduler"]


def __getattr__(name: str) -> Any:
    if name == "lr_scheduler":
        return importlib.import_module(".lr_scheduler", __name__)
    if name in _WHERE:
        found = globals()[name] = getattr(importlib.import_module(f".{_WHERE[name]}", __name__), name)
        return found
    raise AttributeError(f"module 'autojit.optim' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
