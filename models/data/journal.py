"""A list of records that survives interruption: appended a chunk a line, read back on resume."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from edgefusion.runtime.errors import InputError

Record = dict[str, Any]
Item = TypeVar("Item")
Tell = Callable[[int], None]


def journaled(
    path: Path,
    items: Iterable[Item],
    work: Callable[[int, Sequence[Item]], list[Record]],
    *,
    chunk: int,
    tell: Tell,
) -> list[Record]:
    """``work(first index, chunk of items)`` of all items, one record for each, in order.

    What ``path`` already holds is not worked on again. Chunks always begin at the same items, so
    batched models see the same batches whether or not the work was interrupted; a line that was
    cut off in writing counts as not written. ``tell`` hears how many items are done.
    """
    done = _read(path)
    tell(len(done))
    with path.open("ab") as file:
        rest = islice(items, len(done), None)
        while part := list(islice(rest, chunk)):
            records = work(len(done), part)
            if len(records) != len(part):
                raise AssertionError(f"{len(part)} items gave {len(records)} records")
            file.write(json.dumps(records, ensure_ascii=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
            done += records
            tell(len(done))
    return done


def _read(path: Path) -> list[Record]:
    """The records of all whole lines; what follows the last of them is cut from the file."""
    content = path.read_bytes() if path.is_file() else b""
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        os.truncate(path, len(whole))
    try:
        return [record for line in whole.splitlines() for record in json.loads(line)]
    except ValueError as error:
        raise InputError(
            f"{path} is damaged ({error}), so the work cannot go on from it. Remove the folder "
            f"{path.parent} and start again."
        ) from error
