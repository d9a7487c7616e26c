"""All systems by name: ours first, then the peers, then the rivals made for single programs."""

from __future__ import annotations

from perf import ours, peers, rivals
from perf.system import System

SYSTEMS: dict[str, System] = {
    system.name: system
    for system in (
        ours.AutojitTraced(),
        ours.AutojitBound(),
        ours.AutojitEager(),
        peers.TorchEager(),
        peers.TorchCompile(),
        peers.TorchCompileJoint(),
        peers.Jax(),
        peers.JaxScan(),
        rivals.DrJit(),
        rivals.Heyoka(),
        rivals.CasADi(),
        rivals.Halide(),
        rivals.Iree(),
        rivals.PyTensor(),
    )
}
OURS = tuple(name for name, system in SYSTEMS.items() if system.role == "ours")
# the first that is installed gives the float64 results that every system is checked against
REFERENCES = ("torch", "jax")
