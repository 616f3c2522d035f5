"""The beam of the search over groups: which ways to come to an op are followed from there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgefusion.compiler.lowering.answers import Question
from edgefusion.compiler.lowering.group_search import Choice

_WIDTH = 8
"""States that are followed at each op."""

New = tuple[str, int, bool]
"""A tensor in SRAM: its root, the op at which it may go, and whether it has no copy in DRAM."""


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """Where the search has come to, and by which groups."""

    cost: float
    residents: tuple[New, ...]
    before: State | None = None
    choices: tuple[tuple[Question, Choice], ...] = ()
    ops: tuple[int, int] = (0, 0)
    new: New | None = None


@dataclass(frozen=True, slots=True)
class _Rank:
    """What states are compared by: their residents, what these take of SRAM, their cost, and their
    cost less what residents promise to save."""

    residents: frozenset[New]
    held_bytes: int
    cost: float
    promise: float


class Reached:
    """States that have come to one op, of which ``width`` and a few are kept. ``held_bytes`` says
    what residents take of SRAM, and ``saved`` what so many bytes there promise to save."""

    def __init__(
        self,
        held_bytes: Callable[[Sequence[New]], int],
        saved: Callable[[int], float],
        width: int = _WIDTH,
    ) -> None:
        self._held_bytes, self._saved, self._width = held_bytes, saved, width
        self._states: list[tuple[_Rank, State]] = []

    def __bool__(self) -> bool:
        return bool(self._states)

    def enter(self, state: State) -> None:
        """Add one."""
        self._states.append((self._rank(state.cost, state.residents), state))

    def kept(self) -> list[State]:
        """The best of each set of residents, and of these the most promising."""
        distinct: dict[frozenset[New], tuple[_Rank, State]] = {}
        # Of ways that cost the same, one whose last group is the longest.
        for rank, state in sorted(self._states, key=lambda entry: entry[1].ops[0]):
            best = distinct.get(rank.residents)
            if best is None or rank.cost < best[0].cost:
                distinct[rank.residents] = rank, state
        ranked = sorted(distinct.values(), key=lambda entry: entry[0].promise)
        if not ranked:
            return []
        # What pays now may stand in the way of what follows: those with room are kept as well.
        roomy = min(ranked, key=lambda entry: (entry[0].held_bytes, entry[0].cost))
        cheapest = min(ranked, key=lambda entry: entry[0].cost)
        return list(dict.fromkeys(s for _, s in (*ranked[: self._width], roomy, cheapest)))

    def may_keep(self, least_cost: float, residents: Sequence[New]) -> bool:
        """Whether a state that costs at least so much can be among those that are kept: not if one
        with the same residents is cheaper, or others are better in every way that counts."""
        own = self._rank(least_cost, residents)
        ranks = [rank for rank, _ in self._states]
        cheaper = [rank for rank in ranks if rank.cost < own.cost]
        if any(rank.residents == own.residents for rank in cheaper):
            return False
        ahead = {rank.residents for rank in ranks if rank.promise < own.promise}
        roomier = any(r.held_bytes < own.held_bytes for r in ranks) or any(
            r.held_bytes == own.held_bytes for r in cheaper
        )
        return not (cheaper and roomier and len(ahead) >= self._width)

    def _rank(self, cost: float, residents: Sequence[New]) -> _Rank:
        held = self._held_bytes(residents)
        return _Rank(frozenset(residents), held, cost, cost - self._saved(held))
