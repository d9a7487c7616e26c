"""autojit: automatic differentiation for people who live in NumPy and Numba."""

__version__ = "0.1.0"
