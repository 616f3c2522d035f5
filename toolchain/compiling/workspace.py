"""Where a compilation keeps its intermediate files, and which of them the next one may reuse.

Without a work folder everything lies in a temporary one and is gone afterwards. With one, exports
stay in ``exports/<digest of source and settings>/``, so that a compilation that was interrupted, or
another schedule, does not export again. Files there appear whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from edgefusion.compiler.bundle.deployment import AS_BEFORE
from edgefusion.runtime.files import disk_errors
from edgefusion.runtime.partials import partial_folder, remove_leftovers_below
from edgefusion.runtime.progress import Say

if TYPE_CHECKING:
    from edgefusion.models.source import Source

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Workspace:
    """``staging`` is this compilation's own; ``exports`` is kept where ``keeps_exports``."""

    staging: Path
    exports: Path
    keeps_exports: bool

    def export(self, source: Source, component: str, shapes: Shapes, progress: Say) -> Path:
        """The component's ``.onnx`` file, exported unless it lies here already: a component that
        others are calibrated with is asked for again."""
        from edgefusion.models.export import export_component

        folder = self.exports
        if self.keeps_exports:
            folder = folder / _export_key(source, shapes)
        found = folder / f"{component}.onnx"
        if found.is_file():
            progress(f"{component}: reusing {found}")
            return found
        return export_component(source, component, folder, shapes=shapes or None, progress=progress)

    def release_exports(self, but: Collection[str] = ()) -> None:
        """Graphs and weights have been taken over; delete them unless they are kept, except those
        of the components ``but``."""
        if not self.keeps_exports and self.exports.is_dir():
            for file in self.exports.iterdir():
                if file.name.partition(".")[0] not in but:
                    file.unlink()


@contextmanager
def open_workspace(work_dir: Path | None) -> Iterator[Workspace]:
    """A workspace in ``work_dir``, or in the system's folder for temporary files.

    Raises DoesNotFitError for a full disk, InputError for a folder that cannot be written.
    """
    root = work_dir.expanduser() if work_dir else None
    with ExitStack() as stack:
        with disk_errors(root or Path(tempfile.gettempdir())):
            if root is not None:
                root.mkdir(parents=True, exist_ok=True)
                remove_leftovers_below(root)
            staging = stack.enter_context(partial_folder(root))
        yield Workspace(staging, (root or staging) / "exports", root is not None)


def _export_key(source: Source, shapes: Shapes) -> str:
    exporters = [version(name) for name in ("onnx", "onnxscript", "torch")]
    identity: list[object] = [source.digest, sorted(shapes.items()), exporters]
    if source.deployed != AS_BEFORE:
        identity.append(asdict(source.deployed))
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:24]
