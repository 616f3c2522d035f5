"""The host functions of an open bundle."""

from __future__ import annotations

import json

from edgefusion.compiler.bundle.bundle import Bundle
from edgefusion.compiler.bundle.check import HOST, reading
from edgefusion.runtime.host import HostFunctions, load_host
from edgefusion.runtime.host_signature import HostManifest, host_manifest_from_json


def host_manifest(bundle: Bundle, component: str) -> HostManifest:
    """The signatures of a component's host functions, and what its library was compiled for."""
    bundle.manifest.component(component)
    name = f"{component}/{HOST}"
    if name not in bundle.manifest.members:
        return HostManifest((), None)
    with reading(bundle.path):
        return host_manifest_from_json(json.loads(bundle.read(name)))


def open_host(bundle: Bundle, component: str, backend: str = "tvm") -> HostFunctions:
    """What ``runtime.executor`` calls for ``component``: by its library, or by ONNX Runtime
    (``ort``), which also stands in for a library that this machine cannot load.

    Raises UsageError for another backend, InputError for what cannot be loaded.
    """
    manifest = host_manifest(bundle, component)
    constants = bundle.weights(component) if manifest.functions else {}
    return load_host(manifest, lambda name: bundle.read(f"{component}/{name}"), constants, backend)
