"""The place where operations are declared, by family.  Importing this package declares them all."""

from . import control, elementwise, index, movement, reduce  # noqa: F401
