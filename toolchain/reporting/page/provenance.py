"""How far a machine's figures can be trusted: where each value is from, and how far the model that
was fitted to them is from the published ones."""

from __future__ import annotations

import json
from collections import Counter
from importlib.resources import files
from typing import Any

from edgefusion.runtime.machine import Machine
from edgefusion.runtime.target import STATUSES, Target

_MEASURED = ("edgefusion.benchmarks", "results/paper.json")
"""What ``bench paper`` measured when it was last recorded."""
_KEYS = ("table6", "table7")


def parameter_rows(target: Target) -> list[dict[str, Any]]:
    """Each parameter of the machine with its value, status and source; those of tables by dotted
    names. The status of one of which nothing is known is empty."""
    rows = []
    for key, value in target.machine.parameters().items():
        if key == "name":
            continue
        entries = value.items() if isinstance(value, dict) else [("", value)]
        for entry, each in entries:
            name = f"{key}.{entry}" if entry else key
            known = target.provenance.get(name)
            rows.append(
                {
                    "name": name,
                    "value": each,
                    "status": known.status if known else "",
                    "source": known.source if known else "",
                }
            )
    return rows


def status_counts(rows: list[dict[str, Any]]) -> dict[str, int]:
    """How many parameters have each status, those that none has left out."""
    counts = Counter(row["status"] for row in rows)
    return {status: counts[status] for status in (*STATUSES, "") if counts[status]}


def residuals(machine: Machine) -> dict[str, Any] | None:
    """The paper's Tables 6 and 7 beside what the model gave for the target of ``machine``'s name;
    None if none was measured, or it did not come with the installation. ``same_machine`` says
    whether that was with the very same values."""
    package, name = _MEASURED
    try:
        document = json.loads(files(package).joinpath(name).read_text(encoding="utf-8"))
    except (ModuleNotFoundError, OSError, ValueError):
        return None
    if document.get("target") != machine.name:
        return None
    same = document.get("target_digest") == machine.digest
    return {"same_machine": same, **{key: document[key] for key in _KEYS}}
