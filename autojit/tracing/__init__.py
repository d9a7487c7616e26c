"""`@trace`: functions recorded once for each kind of arguments and run as compiled programs."""

from .traced import Traced, trace

__all__ = ["Traced", "trace"]
