"""The benchmark programs, by the kind of work that rules them.

`fused`: elementwise work and sums; `products`: matrix products and memory; `steps`: many small
operations one after the other. What a program may use stands in `registry`.
"""

from __future__ import annotations

from perf.workloads import fused, products, steps
from perf.workloads.registry import WORKLOADS, Arrays, Workload

__all__ = ["WORKLOADS", "Arrays", "Workload", "fused", "products", "steps"]
