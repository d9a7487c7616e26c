"""`autojit.utils`: what stands around training.  `utils.data` feeds it."""

from . import data

__all__ = ["data"]
