"""Dropout as modules: of elements, of whole channels, and the kind that suits SELU.  In `eval()` mode each passes its input."""

from __future__ import annotations

from typing import Any

from ..errors import explain
from . import functional as F
from .module import Module


class Dropout(Module):
    """Each element 0 with probability p, else divided by 1 - p."""

    function = "dropout"

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise explain(ValueError(f"dropout probability has to be between 0 and 1, but got {p}"))
        self.p, self.inplace = p, inplace

    def forward(self, input: Any) -> Any:
        return getattr(F, self.function)(input, self.p, self.training, self.inplace)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout1d(Dropout):
    """Whole channels of (N, C, L) or (C, L)."""

    function = "dropout1d"


class Dropout2d(Dropout):
    """Whole channels of (N, C, H, W) or (C, H, W)."""

    function = "dropout2d"


class Dropout3d(Dropout):
    """Whole channels of (N, C, D, H, W) or (C, D, H, W)."""

    function = "dropout3d"


class AlphaDropout(Dropout):
    """Keeps mean and variance of what SELU gives."""

    function = "alpha_dropout"


class FeatureAlphaDropout(Dropout):
    """As AlphaDropout, whole channels at once."""

    function = "feature_alpha_dropout"
