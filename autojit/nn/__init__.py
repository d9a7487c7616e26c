"""`autojit.nn`: building blocks of networks, torch's names.

Each family is imported when one of its names is first asked for, so that a program which uses `nn.functional` alone, or none of
it, does not pay for modules.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import functional as functional
    from . import init as init
    from . import stateless as stateless
    from . import utils as utils
    from .activations import *  # noqa: F403
    from .attention import *  # noqa: F403
    from .containers import *  # noqa: F403
    from .convolution import *  # noqa: F403
    from .dropouts import *  # noqa: F403
    from .linear import *  # noqa: F403
    from .losses import *  # noqa: F403
    from .measures import *  # noqa: F403
    from .module import Module as Module
    from .normalisation import *  # noqa: F403
    from .parameter import Buffer as Buffer
    from .parameter import Parameter as Parameter
    from .recurrent import *  # noqa: F403
    from .shapes import *  # noqa: F403

_FAMILIES = {
    "activations": "CELU ELU GELU GLU Hardshrink Hardsigmoid Hardswish Hardtanh LeakyReLU LogSigmoid LogSoftmax Mish "
                   "PReLU RReLU ReLU ReLU6 SELU SiLU Sigmoid Softmax Softmax2d Softmin Softplus Softshrink Softsign "
                   "Tanh Tanhshrink Threshold",
    "attention": "MultiheadAttention Transformer TransformerDecoder TransformerDecoderLayer TransformerEncoder "
                 "TransformerEncoderLayer",
    "containers": "ModuleDict ModuleList ParameterDict ParameterList Sequential",
    "convolution": "AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveMaxPool1d AdaptiveMaxPool2d "
                   "AdaptiveMaxPool3d AvgPool1d AvgPool2d AvgPool3d Conv1d Conv2d Conv3d ConvTranspose1d "
                   "ConvTranspose2d ConvTranspose3d LPPool1d LPPool2d LPPool3d MaxPool1d MaxPool2d MaxPool3d",
    "dropouts": "AlphaDropout Dropout Dropout1d Dropout2d Dropout3d FeatureAlphaDropout",
    "linear": "Bilinear Embedding EmbeddingBag Flatten Identity Linear Unflatten",
    "losses": "BCELoss BCEWithLogitsLoss CTCLoss CosineEmbeddingLoss CrossEntropyLoss GaussianNLLLoss "
              "HingeEmbeddingLoss HuberLoss KLDivLoss L1Loss MSELoss MarginRankingLoss MultiLabelMarginLoss "
              "MultiLabelSoftMarginLoss MultiMarginLoss NLLLoss PoissonNLLLoss SmoothL1Loss SoftMarginLoss "
              "TripletMarginLoss TripletMarginWithDistanceLoss",
    "measures": "CosineSimilarity PairwiseDistance Upsample UpsamplingBilinear2d UpsamplingNearest2d",
    "module": "Module",
    "normalisation": "BatchNorm1d BatchNorm2d BatchNorm3d GroupNorm InstanceNorm1d InstanceNorm2d InstanceNorm3d "
                     "LayerNorm RMSNorm",
    "parameter": "Buffer Parameter",
    "recurrent": "GRU GRUCell LSTM LSTMCell RNN RNNCell",
    "shapes": "ChannelShuffle CircularPad1d CircularPad2d CircularPad3d ConstantPad1d ConstantPad2d ConstantPad3d Fold "
              "LocalResponseNorm PixelShuffle PixelUnshuffle ReflectionPad1d ReflectionPad2d ReflectionPad3d "
              "ReplicationPad1d ReplicationPad2d ReplicationPad3d Unfold ZeroPad1d ZeroPad2d ZeroPad3d",
}
_WHERE = {name: family for family, names in _FAMILIES.items() for name in names.split()}
_MODULES = ("functional", "init", "stateless", "utils")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name in _WHERE:
        found = globals()[name] = getattr(importlib.import_module(f".{_WHERE[name]}", __name__), name)
        return found
    raise AttributeError(f"module 'autojit.nn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*_MODULES, *_WHERE])
