"""The place where operations are declared, by family.  Importing this package declares them all."""

from . import control, elementwise, index, movement, recompute, reduce  # noqa: F401  # isort: skip
from . import (  # noqa: F401
    activations,
    arithmetic,
    comparisons,
    contraction,
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
    reductions,
    shapes,
    softmaxes,
    sorting,
    triangles,
)
