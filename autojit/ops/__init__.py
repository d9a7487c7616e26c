"""The place where operations are declared, by family.  Importing this package declares them all."""

from . import control, elementwise, index, movement, recompute, reduce  # noqa: F401  # isort: skip
from . import (  # noqa: F401
    activations,
    adaptive,
    arithmetic,
    comparisons,
    contraction,
    convolution,
    gathering,
    indexing,
    joins,
    losses,
    mathematics,
    matrices,
    moments,
    normalising,
    parts,
    placement,
    pooling,
    reductions,
    resampling,
    shapes,
    softmaxes,
    sorting,
    triangles,
)
