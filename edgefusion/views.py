"""What a profile says, in other forms: a trace, a comparison, figures, a page, a sweep.

Functions take a profile, an open bundle, or its path.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from edgefusion.api import AnyBundle, opened, simulate
from edgefusion.compiler.bundle.bundle import Bundle
from edgefusion.runtime.arguments import names_of, path_of
from edgefusion.runtime.errors import UsageError
from edgefusion.runtime.progress import Say, silent
from edgefusion.toolchain.profiling.profile import Profile

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from edgefusion.toolchain.exploring.sweep import Sweep
    from edgefusion.toolchain.reporting.comparison.compare import Comparison

AnyProfile = Profile | AnyBundle
"""A profile, or a bundle that is timed as it was compiled."""
Choices = Mapping[str, Sequence[int | float | str]] | Iterable[str] | str
"""Values to try: ``{"sram": ["2MiB", "4MiB"]}``, or texts as on the command line,
``["sram=2MiB,4MiB"]``."""


def trace(profile: AnyProfile, path: str | PathLike[str], *, progress: Say | None = None) -> Path:
    """Write an image's timeline for Perfetto (ui.perfetto.dev), as protobuf, or as JSON where
    ``path`` ends in .json; the path."""
    from edgefusion.toolchain.reporting.traces.write import write_trace_file

    file = path_of(path, "the trace")
    write_trace_file(file, _profile(profile), progress or silent)
    return file


def diff(before: AnyProfile, after: AnyProfile, *, force: bool = False) -> Comparison:
    """What is different in ``after``, attributed to what changed; parts add up exactly. ``print``
    tells it in sentences.

    Raises UsageError for profiles of different machines unless ``force``, InputError for two
    without a common component.
    """
    from edgefusion.toolchain.reporting.comparison.compare import compare

    return compare(_profile(before), _profile(after), force=force)


def plots(profile: AnyProfile) -> dict[str, go.Figure]:
    """The figures of the HTML report by name: ``components``, ``limits``, ``engines``, ``causes``,
    ``traffic_ops``, ``traffic_tensors``, ``roofline``, ``bounds``."""
    from edgefusion.toolchain.reporting.page.charts import figures
    from edgefusion.toolchain.reporting.page.document import Findings, report_document

    return figures(report_document(_profile(profile), Findings()))


def report(
    bundles: AnyBundle | Sequence[AnyBundle],
    path: str | PathLike[str],
    *,
    title: str | None = None,
    top: int = 8,
    what_if: bool = True,
    progress: Say | None = None,
) -> Path:
    """Write the HTML report of a bundle, or of several side by side; the path.

    Tilings are searched again for the ``top`` costliest ops; ``what_if`` times what would help.
    """
    from edgefusion.runtime.file_kinds import Kind
    from edgefusion.runtime.files import disk_errors, replacing
    from edgefusion.toolchain.reporting.page.document import bundle_document, heading
    from edgefusion.toolchain.reporting.page.html import html_report

    say = progress or silent
    documents = [
        bundle_document(opened(each), top=top, with_what_ifs=what_if, progress=say)
        for each in ((bundles,) if isinstance(bundles, Bundle | str | PathLike) else bundles)
    ]
    if not documents:
        raise UsageError("bundles is empty; expected one or several.")
    file = path_of(path, "the report")
    with replacing((file,), Kind.HTML) as (partial,), disk_errors(file):
        partial.write_text(html_report(documents, title or heading(documents)), encoding="utf-8")
    return file


def sweep(
    bundle: AnyBundle,
    *,
    set: Choices = (),  # noqa: A002  # the name that the command line has
    targets: str | Sequence[str] = (),
    schedules: str | Sequence[str] = (),
    steps: Sequence[int] = (),
    lower_again: bool = False,
    progress: Say | None = None,
) -> Sweep:
    """Time a bundle on every combination of machine values, targets, schedules and steps; what is
    left out is the bundle's own. Points that do not fit are rows that say so."""
    from edgefusion.toolchain.exploring.sweep import sweep as run

    if isinstance(set, Mapping):
        texts = tuple(f"{key}={','.join(map(str, values))}" for key, values in set.items())
    else:
        texts = tuple(names_of(set, "set"))
    return run(
        opened(bundle),
        texts,
        targets=tuple(names_of(targets, "targets")) if targets else (),
        schedules=tuple(names_of(schedules, "schedules")) if schedules else (),
        steps=steps,
        lower_again=lower_again,
        progress=progress or silent,
    )


def _profile(given: AnyProfile) -> Profile:
    return given if isinstance(given, Profile) else simulate(given)
