"""model_index.json of a diffusers pipeline folder: its parts, and which of them are compiled.

No part that computes is dropped in silence: each is compiled, or known to leave pictures as they
are, or the folder is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from edgefusion.runtime.errors import InputError

if TYPE_CHECKING:
    from edgefusion.models.architectures import Component

INDEX = "model_index.json"
FOLDERS: Mapping[Component, str] = MappingProxyType(
    {"text_encoder": "text_encoder", "unet": "unet", "vae_decoder": "vae"}
)
CLASSES: Mapping[Component, str] = MappingProxyType(
    {
        "text_encoder": "CLIPTextModel",
        "unet": "UNet2DConditionModel",
        "vae_decoder": "AutoencoderKL",
    }
)
"""The one class that is compiled for each component."""
_BESIDE = ("scheduler", "tokenizer")
"""Parts without weights, read from their files."""
_HARMLESS: Mapping[str, str] = MappingProxyType(
    {
        "feature_extractor": "it only prepares pictures for the safety checker",
        "image_encoder": "it only reads pictures for an IP-Adapter, which this folder has none of",
        "safety_checker": "pictures are not filtered",
    }
)
"""Parts that a prompt's picture does not pass through, and what leaving them out means."""


@dataclass(frozen=True, slots=True)
class PipelineIndex:
    """``parts``: class by name, of all parts that are there (those that are null are not)."""

    path: Path
    parts: Mapping[str, str]

    @property
    def components(self) -> tuple[Component, ...]:
        """Those of a class that is compiled, in pipeline order."""
        return tuple(c for c, name in FOLDERS.items() if self.parts.get(name) == CLASSES[c])

    def remarks(self, wanted: Sequence[str] | None) -> list[str]:
        """What is left out, a line each; ``wanted`` are the components asked for, None for all.

        Raises InputError for a component of another class that is asked for, and, where all are
        wanted, for any part that pictures pass through and that is not compiled.
        """
        found = []
        components = {name: component for component, name in FOLDERS.items()}
        for part, class_name in self.parts.items():
            if part in _BESIDE or components.get(part) in self.components:
                continue
            if part in _HARMLESS:
                found.append(f"{part} ({class_name}) is not compiled: {_HARMLESS[part]}")
            elif wanted is None or components.get(part) in wanted:
                raise self._refusal(part, class_name)
            else:
                found.append(
                    f"warning: {part} ({class_name}) is no part that this toolchain compiles; "
                    f"only {', '.join(wanted)} of this pipeline will be in the bundle"
                )
        return found

    def _refusal(self, part: str, class_name: str) -> InputError:
        component = next((c for c, name in FOLDERS.items() if name == part), None)
        if component is not None:
            return InputError(
                f"{self.path} names the class {class_name} for {part}; expected "
                f"{CLASSES[component]}, the one this toolchain compiles. Export that component "
                "to ONNX yourself and compile the .onnx file instead, or choose other components "
                f"with --components{self._choice()}."
            )
        return InputError(
            f"{self.path} names the part {part} ({class_name}), through which every picture of "
            f"this pipeline passes; expected none but {', '.join(FOLDERS.values())} (compiled), "
            f"{', '.join((*_BESIDE, *_HARMLESS))}. Without {part} the bundle would make other "
            "pictures, or none. Compile a Stable Diffusion v1 or v2 pipeline, or choose networks "
            f"of this one with --components{self._choice()}."
        )

    def _choice(self) -> str:
        return f" ({', '.join(self.components)})" if self.components else ""


def json_object(path: Path, advice: str) -> dict[str, Any]:
    """The JSON object in ``path``. Raises InputError, with ``advice`` where it cannot be read, for
    whatever else there is."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {error}. {advice}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}; expected an object.")
    return content


def read_index(folder: Path) -> PipelineIndex:
    """The index of ``folder``.

    Raises InputError for one that cannot be read, names none of the components that are compiled
    (those of another class included), or names one whose folder is missing.
    """
    path = folder / INDEX
    content = json_object(
        path,
        "Expected the index of a diffusers pipeline, as save_pretrained writes it. Name the folder "
        "that holds model_index.json.",
    )
    parts = {}
    for name, entry in content.items():
        class_name = entry[-1] if isinstance(entry, list) and entry else entry
        is_part = isinstance(entry, list) or name in FOLDERS.values()
        if is_part and isinstance(class_name, str) and class_name:
            parts[name] = class_name
    index = PipelineIndex(path, parts)
    if not set(parts) & set(FOLDERS.values()):
        raise InputError(
            f"{path} names none of {', '.join(FOLDERS.values())}; expected a text-to-image "
            "pipeline. Check that this is the pipeline you mean."
        )
    if not index.components:
        name = next(name for name in FOLDERS.values() if name in parts)
        raise index._refusal(name, parts[name])
    for component in index.components:
        if not (folder / FOLDERS[component]).is_dir():
            raise InputError(
                f"{folder} has no folder {FOLDERS[component]}/, though its model_index.json names "
                "one. Download the whole pipeline again."
            )
    return index
