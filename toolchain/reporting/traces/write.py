"""Traces: a profile as a file that ui.perfetto.dev opens."""

from __future__ import annotations

from pathlib import Path

from edgefusion.runtime.file_kinds import Kind, trace_kind
from edgefusion.runtime.files import disk_errors, replacing
from edgefusion.runtime.progress import Say, silent
from edgefusion.toolchain.profiling.profile import Profile
from edgefusion.toolchain.reporting.traces.events import events_of


def write_trace_file(path: Path, profile: Profile, progress: Say = silent) -> None:
    """Write ``path``: JSON where it ends in .json, else Perfetto's protobuf. The same profile gives
    the same bytes; they are written as they are made.

    Raises UsageError for a place that holds a file of another kind, and what ``disk_errors`` makes
    of what the file system refuses.
    """
    kind = trace_kind(path)
    with replacing((path,), kind) as (partial,), disk_errors(path):
        if kind is Kind.JSON:
            from edgefusion.toolchain.reporting.traces.json_encoding import json_of

            with partial.open("w", encoding="utf-8") as text:
                text.writelines(json_of(events_of(profile, progress)))
        else:
            from edgefusion.toolchain.reporting.traces.protobuf_encoding import protobuf_of

            with partial.open("wb") as file:
                file.writelines(protobuf_of(events_of(profile, progress)))
