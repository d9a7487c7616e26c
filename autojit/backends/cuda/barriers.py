"""Barriers where one thread reads, or writes, what another wrote or read.

In: statements that are dealt to threads.  Out: the same, with `Barrier`s between them.  A thread's own stores need none: who
touches a place is written down as a *hand*, equal for two accesses only if the same thread makes them whenever the places are
one.  Loops that all threads run together are gone through until what is pending at their end changes nothing at their start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ...schedule.loops import At, Let, Store
from .deals import Barrier, Combine, Deal, Home, Single

Hand = tuple[Any, ...] | None
Touch = tuple[str, bool, Hand]     # buffer, is it a store, who


class Guard:
    """Puts the barriers into one kernel.  `shared`: the buffers that it both stores to and reads, or stores to twice."""

    def __init__(self, shared: set[str], homes: dict[str, Home]) -> None:
        self.shared, self.homes = shared, homes

    def guarded(self, body: Sequence[Any], width: int) -> tuple[Any, ...]:
        return tuple(self._block(body, width, frozenset())[0]) if self.shared and width > 1 else tuple(body)

    def _block(self, body: Sequence[Any], width: int, pending: frozenset[Touch]) -> tuple[list[Any], frozenset[Touch]]:
        """The statements of `width` threads together, and what nothing has made visible at their end."""
        out: list[Any] = []
        for s in body:
            touched = self._touched(s)
            if width > 1 and any([_clash(a, b) for a in touched for b in pending]):
                out.append(Barrier(width))
                pending = frozenset()
            if type(s) is Deal and s.by == "turns":
                s, end = self._repeated(s, width)
                pending |= end
            elif type(s) is Deal and s.by == "teams":
                pending |= frozenset(touched)
                s, _ = self._repeated(s, s.lanes)
            elif touched:
                pending |= frozenset(touched)
            out.append(s)
            if type(s) is Combine and s.lanes == width > 32:
                pending = frozenset()                       # the word has barriers in it
        return out, pending

    def _repeated(self, s: Deal, width: int) -> tuple[Deal, frozenset[Touch]]:
        """A loop whose turns follow each other."""
        last: frozenset[Touch] = frozenset()
        while True:
            body, end = self._block(s.body, width, last)
            if end <= last:
                return replace(s, body=tuple(body)), end
            last = last | end

    def _touched(self, s: Any) -> list[Touch]:
        """What a statement touches that all threads reach together."""
        if type(s) is Deal and s.by == "turns":
            return [t for q in s.body for t in self._touched(q)]
        if type(s) is Deal:
            return self._dealt(s, s, None)
        found: list[Touch] = []
        if type(s) is Let and s.op == "load":
            found.append((s.params[0].buffer.name, False, ("all",)))
        elif type(s) is Store:
            found.append((s.at.buffer.name, True, ("all",)))
        elif type(s) is Single:
            found += [(q.at.buffer.name, True, ("one",)) for q in s.body if type(q) is Store]
        return [t for t in found if t[0] in self.shared]

    def _dealt(self, s: Any, deal: Deal, team: Deal | None) -> list[Touch]:
        """What a loop touches whose turns are dealt by `deal`, in the rows that `team` was dealt."""
        out: list[Touch] = []
        for q in s.body:
            if type(q) is Deal and q.by == "lanes":
                out += self._dealt(q, q, team or (deal if deal.by == "teams" else None))
            elif type(q) is Deal:
                out += self._dealt(q, deal, team)
            elif type(q) is Single:
                out += [self._hand(c.at, True, None, team or deal) for c in q.body if type(c) is Store]
            elif type(q) is Let and q.op == "load":
                out.append(self._hand(q.params[0], False, deal, team))
            elif type(q) is Store:
                out.append(self._hand(q.at, True, deal, team))
        return [t for t in out if t[0] in self.shared]

    def _hand(self, at: At, store: bool, deal: Deal | None, team: Deal | None) -> Touch:
        if deal is not None and deal.by == "teams":
            return at.buffer.name, store, None             # all lanes of the team
        home = self.homes.get(at.buffer.name)
        lane = ("one",) if deal is None else ("own",) if home is not None and home.per == "thread" else _place(at, deal)
        row: Hand = () if team is None else ("own",) if home is not None and home.per == "team" else _place(at, team)
        if lane is None or row is None:
            return at.buffer.name, store, None
        return at.buffer.name, store, (lane, row)


def _place(at: At, deal: Deal) -> Hand:
    """The dimension that tells whose turn a place belongs to."""
    if deal.rows and not at.buffer.per_chunk:
        return ("row", deal.by, deal.lanes, deal.vector, deal.ranges)
    spots = []
    for r in deal.ranges or (deal.range,):
        spot = [(d, int(ix.const), int(ix.terms[0][1])) for d, ix in enumerate(at.index)
                if len(ix.terms) == 1 and ix.terms[0][0] is r]
        if not spot:
            return None
        spots.append(spot[0])
    return (tuple(spots), tuple(map(int, at.shape)), deal.by, deal.lanes, deal.vector, deal.rows)


def _clash(a: Touch, b: Touch) -> bool:
    return a[0] == b[0] and (a[1] or b[1]) and (a[2] is None or a[2] != b[2])
