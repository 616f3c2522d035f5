"""What must hold before a bundle is trusted: its zip, its manifest, its list of members.

Digests are for ``Bundle.open``, the program's safety for ``runtime.verifier``.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgefusion.compiler.bundle.manifest import Manifest, manifest_from_json
from edgefusion.runtime.errors import InputError

MANIFEST = "manifest.json"
LATENCY = "latency.json"
GRAPH = "graph.onnx"
WEIGHTS = "weights.safetensors"
HOST = "host.json"
REFERENCE = "reference.npz"
REMARKS = "remarks.json"
_MEMBER_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*){0,2}")  # extracting stays in its folder


def stored_manifest(archive: zipfile.ZipFile) -> Manifest:
    """The manifest; InputError if there is none, or one that is not understood."""
    if MANIFEST not in archive.namelist():
        raise InputError(f"it has no {MANIFEST}, so it is no bundle")
    return manifest_from_json(json.loads(archive.read(MANIFEST)))


def stored_members(archive: zipfile.ZipFile, manifest: Manifest) -> dict[str, zipfile.ZipInfo]:
    """The zip's entries by name, the manifest's own left out, once they agree with the manifest."""
    entries = {entry.filename: entry for entry in archive.infolist()}
    del entries[MANIFEST]
    wanted = set(manifest.members)
    required = {LATENCY} | {
        f"{info.name}/{file}"
        for info in manifest.components
        for file in (GRAPH, WEIGHTS, "program.npz")
    }
    missing = sorted((wanted | required) - entries.keys())
    strange = sorted((entries.keys() - wanted) | (required - wanted))
    strange += [name for name in entries if not _MEMBER_NAME.fullmatch(name)]
    if missing or strange or len(entries) + 1 != len(archive.infolist()):
        what = f"lacks {', '.join(missing)}" if missing else ""
        what = what or f"holds {', '.join(strange) or 'a member twice'}, which is not in its list"
        raise InputError(what)
    for name, entry in entries.items():
        expected = manifest.members[name].nbytes
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != expected:
            raise InputError(f"{name} has {entry.file_size} bytes, its manifest says {expected}")
    return entries


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Whatever goes wrong while reading a bundle, as an InputError that names it."""
    advice = "Copy the bundle again, or compile the model again."
    try:
        yield
    except InputError as error:
        text = str(error)
        tail = "" if "ompile the model again" in text or "pdate the tool" in text else f". {advice}"
        raise InputError(f"{path}: {text}{tail}") from error
    except FileNotFoundError:
        raise InputError(f"{path} does not exist. Check the path, or compile one first.") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}.") from error
    except (zipfile.BadZipFile, ValueError, KeyError, TypeError, EOFError) as error:
        raise InputError(
            f"{path} is no bundle, or is truncated or damaged: {error}. {advice}"
        ) from error
