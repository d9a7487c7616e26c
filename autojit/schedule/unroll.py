"""Which axes have no loop, and in which order loops stand.

In: a frame and its nodes.  Out: the axes whose indices become constants of the text, and a rank for each axis.  An axis is
unrolled if it is tiny and a constant, never the only one, and would else be an innermost loop of a few turns: the last axis
of some array, or all that a reduction reduces.  A budget on the product keeps the text short.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..ir.graph import Node
from ..ir.primitive import REDUCE
from .axes import SMALL, Frame, Layout
from .index import Size
from .scalar import TooMuch

TINY = 10                          # turns of a loop that may be written out
COPIES = 64                        # copies of one value that may be
TEXT = 2_000                       # values in all
REGISTERS = 240                    # values in all on a GPU: one thread computes what is written out, others could share a loop


def unrolled(frame: Frame, nodes: Sequence[Node], moving: Sequence[Node], bounded: bool = False,
             simt: bool = False) -> set[int]:
    """Axes (as layouts name them) to write out.  TooMuch, if `bounded`, where only the length of the text forbids to write
    out all; but loops are no loss to a GPU."""
    most = REGISTERS if simt else TEXT
    layouts = {id(frame.layouts[n]): frame.layouts[n] for n in nodes if n in frame.layouts}
    if all([_all_small(a) for a in layouts.values()]):
        if sum([copies(a, None) for a in _written(frame, moving)]) <= most:
            return {axis for a in layouts.values() for axis in a.axes}
        if bounded and not simt:
            raise TooMuch
    wanted = _inner(list(layouts.values())) | _reduced(frame, moving)
    out: set[int] = set()
    for axis, _ in sorted(wanted, key=lambda w: (w[1], w[0])):
        more = out | {axis}
        if all([copies(a, more) <= COPIES for a in layouts.values()]) and \
                sum([copies(a, more) for a in _written(frame, moving)]) <= most:
            out = more
    return out


def _written(frame: Frame, moving: Sequence[Node]) -> list[Layout]:
    """The layouts of all values that have more than one element."""
    return [frame.layouts[n] for n in moving if n in frame.layouts and frame.layouts[n].axes]


def _tiny(n: int) -> bool:
    return type(n) is not Size and n <= TINY


def _all_small(a: Layout) -> bool:
    return all([type(n) is not Size and n <= SMALL for n in a.extents]) and copies(a, None) <= COPIES


def copies(a: Layout, axes: set[int] | None) -> int:
    """Elements of a value that are written out if these axes have no loop (None: no axis has)."""
    total = 1
    for axis, n in zip(a.axes, a.extents):
        if axes is None or axis in axes:
            total *= int(n)
    return total


def _inner(layouts: Sequence[Layout]) -> set[tuple[int, int]]:
    last = {(a.axes[-1], int(a.extents[-1])) for a in layouts if len(a.axes) > 1 and _tiny(a.extents[-1])}
    outer = {axis for a in layouts for k, axis in enumerate(a.axes[:-1]) if any([not _tiny(n) for n in a.extents[k + 1:]])}
    return {(axis, n) for axis, n in last if axis not in outer}


def _reduced(frame: Frame, moving: Sequence[Node]) -> set[tuple[int, int]]:
    """Tiny axes that make up all that some reduction reduces."""
    out = set()
    for n in moving:
        x = n.inputs[0] if n.prim.kind == REDUCE else None
        x = x.real or x if x is not None else None
        if x is None or x not in frame.layouts or n not in frame.layouts:
            continue
        stays = set(frame.layouts[n].axes)
        gone = [(a, e) for a, e in zip(frame.layouts[x].axes, frame.layouts[x].extents) if a not in stays]
        if gone and len(gone) < len(frame.layouts[x].axes) and all([_tiny(e) for _, e in gone]):
            out.update([(a, int(e)) for a, e in gone])
    return out


def loop_order(frame: Frame, nodes: Sequence[Node]) -> dict[int, int]:
    """The memory order of the widest nodes, as a rank for each axis."""
    order: dict[int, int] = {}
    layouts = {id(frame.layouts[n]): frame.layouts[n] for n in nodes if n in frame.layouts}
    for a in sorted(layouts.values(), key=lambda a: (-len(a.axes), a.axes)):
        for axis in a.axes:
            order.setdefault(axis, len(order))
    return order
