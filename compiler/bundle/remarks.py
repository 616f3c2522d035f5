"""What the passes remarked on a component's graph, and how a bundle keeps it.

``<component>/remarks.json`` holds one remark a line, in the order in which they were made: what a
pass rewrote, and what looked like its pattern and was not. Bundles of earlier versions have none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from edgefusion.runtime.errors import InputError
from edgefusion.runtime.validation import Whole, validated

SCHEMA_VERSION = 1
RemarkKind = Literal["matched", "missed"]
_ADVICE = "Compile the model again."


@dataclass(frozen=True, slots=True)
class Remark:
    """One place that a pass changed (``matched``) or refused to (``missed``), and why."""

    pass_name: Annotated[str, Field(alias="pass")]
    kind: RemarkKind
    node: str
    """Of a rewrite the node that came of it, of a near-match the node that stayed."""
    scope: str
    """The module of the checkpoint, "" where there is none."""
    reason: str
    origin: tuple[str, ...] = ()
    """The source's nodes that it stands for."""

    def __str__(self) -> str:
        where = f"{self.node} ({self.scope})" if self.scope else self.node
        return f"{self.pass_name}: {self.kind} {where}: {self.reason}"

    def to_json(self) -> dict[str, Any]:
        """As bundles and ``compile --json`` have it."""
        return {
            "pass": self.pass_name,
            "kind": self.kind,
            "node": self.node,
            "scope": self.scope,
            "reason": self.reason,
            "origin": list(self.origin),
        }


@dataclass(frozen=True, slots=True)
class _Stored:
    """The file; other keys are of later versions, and left."""

    schema_version: Whole
    remarks: tuple[Remark, ...]


def remarks_bytes(remarks: Iterable[Remark]) -> bytes:
    """The file; the same bytes for the same remarks."""
    rows = ",".join(f"\n{json.dumps(remark.to_json())}" for remark in remarks)
    return f'{{"schema_version": {SCHEMA_VERSION}, "remarks": [{rows}\n]}}\n'.encode()


def remarks_from_bytes(content: bytes) -> tuple[Remark, ...]:
    """The inverse of ``remarks_bytes``. Raises InputError for what it did not write."""
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the remarks are damaged: {error}. {_ADVICE}") from error
    return validated(_Stored, data, "the remarks are damaged", _ADVICE).remarks
