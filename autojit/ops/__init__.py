"""The place where operations are declared, by family.  Importing this package declares them all."""

from . import control, elementwise, index, movement, reduce  # noqa: F401  # isort: skip
from . import (  # noqa: F401
    activations,
    arithmetic,
    comparisons,
    joins,
    losses,
    mathematics,
    moments,
    parts,
    reductions,
    shapes,
    softmaxes,
)
