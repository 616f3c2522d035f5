"""Where buffers lie in SRAM: whole tensors over the groups that they outlive, the groups' own
buffers around them.

Tensors that stay are packed from the top (``memory.placement``). Each group's buffers go into what
they leave, over the bytes that have been idle longest: the first transfers of a group then need not
wait for the last instructions of the one before. Who comes first, and for how long, is known better
once a program has run: of a group's buffers those that are needed first then choose first.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgefusion.compiler.memory.placement import Lifetime, aligned, best_placement

Span = tuple[int, int]
"""[start, stop) in bytes."""
Uses = Mapping[str, tuple[int, int]]
"""When a tensor that stays, or a buffer, is first and last in use."""

_SEARCH_EFFORT = 2_000_000


@dataclass(frozen=True, slots=True)
class SramLayout:
    """Addresses of tensors that stay, by name, and of each group's buffers, by label."""

    residents: Mapping[str, int]
    buffers: Sequence[Mapping[str, int]]
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Crowded:
    """The first group whose buffers do not fit beside the tensors that stay."""

    group: int


def lay_out(
    residents: Sequence[Lifetime],
    requests: Sequence[Mapping[str, int]],
    sram_bytes: int,
    align_bytes: int,
    uses: Uses | None = None,
) -> SramLayout | Crowded:
    """Lifetimes of ``residents`` are in groups; ``requests`` are bytes by label, a group each.
    ``uses`` are the picoseconds of a program that ran them; without one each group is a moment."""
    placed = best_placement(residents, align_bytes=align_bytes, search_effort=_SEARCH_EFFORT)
    spans: dict[str, Span] = {}
    for r in residents:
        stop = sram_bytes - placed.offsets[r.name]
        spans[r.name] = (stop - aligned(r.nbytes, align_bytes), stop)
    memory = _Memory(sram_bytes)
    layouts = []
    peak = sram_bytes if residents else 0
    for index, wanted in enumerate(requests):
        there = [r.name for r in residents if r.first <= index <= r.last]
        taken = sorted(spans[name] for name in there)
        if taken and taken[0][0] < 0:
            return Crowded(index)
        now = {name: (uses or {}).get(name, (index, index)) for name in (*there, *wanted)}
        largest = dict(sorted(wanted.items(), key=lambda item: -item[1]))
        earliest = dict(sorted(largest.items(), key=lambda item: now[item[0]][0]))
        layout = (
            memory.fit(earliest, taken, by_age=True)
            or memory.fit(largest, taken, by_age=True)
            or memory.fit(largest, taken, by_age=False)
        )
        if layout is None:
            return Crowded(index)
        layouts.append(layout)
        for label, address in layout.items():
            memory.use(address, address + wanted[label], now[label][1])
            peak = max(peak, address + wanted[label])
        for name in there:
            memory.use(*spans[name], now[name][1])
    return SramLayout({name: start for name, (start, _) in spans.items()}, layouts, peak)


class _Memory:
    """SRAM as segments in order: where each begins, and when it was last used (-1: never)."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self.starts, self.used = [0], [-1]

    def use(self, start: int, stop: int, moment: int) -> None:
        """Note that [start, stop) is used."""
        if start == stop:
            return
        first, last = self._cut(start), self._cut(stop)
        self.starts[first:last], self.used[first:last] = [start], [moment]
        for at in (first + 1, first):
            if 0 < at < len(self.used) and self.used[at] == self.used[at - 1]:
                del self.starts[at], self.used[at]

    def _cut(self, address: int) -> int:
        """The segment that begins at ``address``, made if there is none."""
        if address >= self.nbytes:
            return len(self.starts)
        at = bisect_right(self.starts, address) - 1
        if self.starts[at] != address:
            at += 1
            self.starts.insert(at, address)
            self.used.insert(at, self.used[at - 1])
        return at

    def latest(self, start: int, stop: int) -> int:
        """When any of [start, stop) was last used."""
        first = bisect_right(self.starts, start) - 1
        return max(self.used[first : max(bisect_left(self.starts, stop), first + 1)])

    def fit(
        self, wanted: Mapping[str, int], taken: Sequence[Span], *, by_age: bool
    ) -> dict[str, int] | None:
        """Addresses beside ``taken``, one after another; ``by_age``: where bytes have been idle
        longest, else as low as can be. None if they do not fit so."""
        gaps = _gaps(taken, self.nbytes)
        found: dict[str, int] = {}
        for label, nbytes in wanted.items():
            best: tuple[int, bool, int, Span] | None = None
            for gap in gaps:
                start, stop = gap
                if stop - start < nbytes:
                    continue
                places = [start, stop - nbytes] if by_age else [start]
                if by_age:
                    inside = slice(
                        bisect_left(self.starts, start), bisect_right(self.starts, stop - nbytes)
                    )
                    places += self.starts[inside]
                for address in places:
                    age = self.latest(address, address + nbytes) if by_age and nbytes else -1
                    # In the middle of a gap it leaves two smaller ones.
                    place = age, start < address < stop - nbytes, address, gap
                    if best is None or place < best:
                        best = place
            if best is None:
                return None
            _, _, address, (start, stop) = best
            found[label] = address
            gaps.remove((start, stop))
            gaps += [(a, b) for a, b in ((start, address), (address + nbytes, stop)) if a < b]
        return found


def _gaps(taken: Sequence[Span], nbytes: int) -> list[Span]:
    """What ``taken``, in order, leaves of the memory."""
    gaps, at = [], 0
    for start, stop in taken:
        if start > at:
            gaps.append((at, start))
        at = max(at, stop)
    if at < nbytes:
        gaps.append((at, nbytes))
    return gaps
