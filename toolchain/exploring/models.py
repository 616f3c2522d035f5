"""The models that a suite chooses among: bundles that are there, or sources that are compiled."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from edgefusion.compiler.bundle.bundle import Bundle, json_bytes
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.progress import Say
from edgefusion.runtime.validation import Whole
from edgefusion.toolchain.compiling.source_options import Positive, SourceOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Model(SourceOptions):
    """As a suite gives it: a ``bundle``, or a ``source`` with what ``compile`` takes; then what
    ``verify --json`` wrote of it, for its SQNR."""

    bundle: str | None = None
    steps: Positive | None = None
    calibration_prompts: Whole = 0
    verification: str | None = None


@dataclass(frozen=True, slots=True)
class OpenModel:
    """An open bundle, the digest of all that is in it, and its SQNR if that was measured."""

    bundle: Bundle
    digest: str
    sqnr_db: float | None


def open_model(name: str, model: Model, folder: Path, work_dir: Path, progress: Say) -> OpenModel:
    """Open a model's bundle; one of a source is compiled in ``work_dir``, unless it is there.

    Paths are relative to ``folder``. Raises InputError and what compiling raises.
    """
    if bool(model.bundle) == bool(model.source):
        raise InputError(f"model {name}: expected either bundle or source.")
    if model.bundle:
        if given := [*model.chosen, *(["steps"] if model.steps else [])]:
            raise InputError(
                f"model {name}: {', '.join(given)}: only a source is compiled, a bundle already is."
            )
        path = folder / model.bundle
    else:
        path = _compiled(name, model, folder, work_dir, progress)
    progress(f"checking {path}")
    bundle = Bundle.open(path)
    measured = folder / model.verification if model.verification else None
    return OpenModel(bundle, bundle_digest(bundle), _sqnr_db(measured) if measured else None)


def bundle_digest(bundle: Bundle) -> str:
    """sha256 of the manifest, which holds that of every member."""
    return hashlib.sha256(json_bytes(bundle.manifest.to_json())).hexdigest()


def _compiled(name: str, model: Model, folder: Path, work_dir: Path, progress: Say) -> Path:
    from edgefusion.toolchain.compiling.code_digest import code_digest
    from edgefusion.toolchain.compiling.compile_source import compile_source

    def beside(file: str) -> str:
        return str(folder / file) if (folder / file).exists() else file

    located = model.located(beside)
    try:
        recipe = located.recipe_text()
    except InputError as error:
        raise InputError(f"model {name}: {error}") from error
    depends = [
        code_digest(),
        located.resolve().digest,
        recipe,
        model.chosen,
        model.steps,
        model.calibration_prompts,
    ]
    digest = hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()
    path = work_dir / f"{name}-{digest[:12]}.npub"
    if not path.exists():
        work_dir.mkdir(parents=True, exist_ok=True)
        progress(f"compiling {name}")
        compile_source(
            located.source,
            output=path,
            steps=model.steps,
            calibration_prompts=model.calibration_prompts,
            progress=progress,
            **located.arguments,
        )
    return path


def _sqnr_db(path: Path) -> float:
    """The least SQNR that ``verify`` found: against the source where it was compared with it, else
    against the bundle's own graph. Raises InputError for another file."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["values"]
        rows = [row for row in rows if row["measure"] == "sqnr"]
        found = [row["bundle_db"] if row["source_db"] is None else row["source_db"] for row in rows]
        return min(float(value) for value in found if value is not None)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} holds no SQNR ({type(error).__name__}: {error}); expected what `edgefusion "
            "verify --json` wrote."
        ) from error
