"""Accesses that hypothesis draws, and which of them have to keep their order."""

from __future__ import annotations

from hypothesis import strategies as st

from edgefusion.compiler.schedule.dependences import Access, Region


def accesses_of(data: st.DataObject) -> list[Access]:
    """Any reads and writes of a few regions."""
    regions = [Region(partial=data.draw(st.booleans())) for _ in range(4)]
    count = data.draw(st.integers(1, 30))
    some = st.lists(st.sampled_from(regions), max_size=2, unique_by=id)
    return [Access(tuple(data.draw(some)), tuple(data.draw(some))) for _ in range(count)]


def conflict(early: Access, late: Access) -> bool:
    """Whether two instructions touch one region and one of them overwrites it."""
    for region in {*early.reads, *early.writes} & {*late.reads, *late.writes}:
        both_write = region in early.writes and region in late.writes
        reads_and_writes = (region in early.writes and region in late.reads) or (
            region in early.reads and region in late.writes
        )
        if reads_and_writes or (both_write and not region.partial):
            return True
    return False
