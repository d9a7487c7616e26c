"""Benchmarks: fourteen programs, each checked before it is timed, beside PyTorch and JAX.

`python -m perf` runs them; README.md says what is measured and how to add a program or a peer.
"""
