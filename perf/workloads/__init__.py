"""The benchmark programs, by the kind of work that rules them.

`fused`: elementwise work and sums; `products`: matrix products and memory; `steps`: many small
operations one after the other; `networks`: convolutions and pools. What a program may use stands
in `registry`, at which other sizes and in which other dtype it runs in `variants`.
"""

from __future__ import annotations

from perf.workloads import fused, networks, products, steps
from perf.workloads.registry import WORKLOADS, Arrays, Workload
from perf.workloads.variants import PARTS, find, rows

__all__ = ["PARTS", "WORKLOADS", "Arrays", "Workload", "find", "fused", "networks", "products", "rows", "steps"]
