"""`autojit.special`: special functions under the names of torch.special.

In: tensors.  Out: tensors.  Functions that stand at the top level too are the same ones.

>>> import autojit as aj
>>> aj.special.expit(aj.tensor([0.0]))
tensor([0.5000])
"""

from __future__ import annotations

from typing import Any

from .eager import functional, functions
from .eager.binding import function_of
from .ops.declare import OPS

_ALL: dict[str, Any] = {**functional(), **functions()}
_SAME = ("digamma", "erf", "erfc", "erfinv", "exp2", "expm1", "i0", "log1p", "logit", "logsumexp", "round", "sinc", "softmax",
         "log_softmax", "xlogy")
_OTHERWISE = {"expit": "sigmoid", "psi": "digamma", "gammaln": "lgamma", "gammainc": "igamma", "gammaincc": "igammac",
              "multigammaln": "mvlgamma"}


def polygamma(n: int, input: Any) -> Any:
    """The n-th derivative of digamma."""
    return function_of(OPS["polygamma"])(input, n)


globals().update({name: _ALL[name] for name in _SAME})
globals().update({name: _ALL[other] for name, other in _OTHERWISE.items()})
globals().update({name.removeprefix("special_"): function_of(o) for name, o in OPS.items() if name.startswith("special_")})
