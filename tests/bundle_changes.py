"""Bundles changed on purpose: a program with other scales, members added or left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path

from edgefusion.compiler.bundle.bundle import Bundle, write_bundle
from edgefusion.compiler.bundle.manifest import Manifest
from edgefusion.runtime.program import Program, TensorRecord
from edgefusion.runtime.tensor_numbers import steps_of


def changed(
    source: Path,
    target: Path,
    members: Mapping[str, bytes],
    manifest: Callable[[Manifest], Manifest] = lambda m: m,
) -> Path:
    """A copy of the bundle ``source`` with other or more ``members``."""
    bundle = Bundle.open(source)
    contents = {name: bundle.read(name) for name in bundle.manifest.members} | dict(members)
    write_bundle(target, manifest(replace(bundle.manifest, members={})), contents)
    return target


def rescaled(source: Path, target: Path, factor: Callable[[TensorRecord], float]) -> Path:
    """A copy whose U-Net has ``factor`` times the scales of INT16 tensors."""
    program = Bundle.open(source).program("unet", verify=False)
    records = [
        t if t.numbers.scale is None else replace(t, numbers=steps_of(t.numbers.scale * factor(t)))
        for t in program.tensors
    ]
    return changed(source, target, {"unet/program.npz": _saved(program, records)})


def _saved(program: Program, tensors: list[TensorRecord]) -> bytes:
    file = BytesIO()
    replace(program, tensors=tuple(tensors)).save(file)
    return file.getvalue()
