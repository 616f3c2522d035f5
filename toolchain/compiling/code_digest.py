"""What tells one state of this tool from another: caches of compiled sources are named by it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

_CODE = ("compiler", "models", "passes", "runtime", "toolchain")
_EXPORTERS = ("onnx", "onnxscript", "torch", "transformers", "diffusers")


@cache
def code_digest() -> str:
    """sha256, as hex, of all that decides what a source is compiled to: this tool's own files, and
    the versions of the libraries that export."""
    digest = hashlib.sha256()
    for name, content in _code():
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    for name in _EXPORTERS:
        digest.update(f"{name} {version(name)}\0".encode())
    return digest.hexdigest()


def _code() -> Iterator[tuple[str, bytes]]:
    for name in _CODE:
        spec = find_spec(f"edgefusion.{name}")
        assert spec is not None
        assert spec.submodule_search_locations
        root = Path(spec.submodule_search_locations[0])
        for path in sorted((*root.rglob("*.py"), *root.rglob("*.toml"))):
            yield f"{name}/{path.relative_to(root).as_posix()}", path.read_bytes()
