"""Benchmarks: twenty-two programs, each checked before it is timed, beside the best that others have.

`python -m perf` runs them; README.md says what is measured and how to add a program or a peer.
"""
