"""model_index.json of a diffusers pipeline folder: its family, its parts, which are compiled.

No part that computes is dropped in silence: each is compiled, or known to leave pictures as they
are, or the folder is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgefusion.models.config_file import json_object
from edgefusion.models.families.family import Configs, Family, Part
from edgefusion.models.families.registry import FAMILIES, STABLE_DIFFUSION, family_of_class
from edgefusion.models.given_graph import given_as_graph
from edgefusion.runtime.errors import InputError

INDEX = "model_index.json"
"""By which a pipeline's folder is known."""
_EXPORTER = "ORT"
"""What optimum's classes begin with: a pipeline's with diffusers' name behind it."""


@dataclass(frozen=True, slots=True)
class PipelineIndex:
    """``parts``: class by name, of all parts that are there (those that are null are not);
    ``class_name`` is the pipeline's, empty where none is stated."""

    path: Path
    class_name: str
    parts: Mapping[str, str]
    family: Family
    """By the pipeline's class, where no other was chosen; Stable Diffusion's for one that is not
    known."""

    @property
    def compiled(self) -> Mapping[str, Part]:
        """By component, in pipeline order: the family's parts that are there, of a class that it
        takes."""
        made = (self._compiled(part) for part in self.family.parts)
        return {part.component: part for part in made if part is not None}

    def _compiled(self, part: Part) -> Part | None:
        """``part`` as the folder has it."""
        named = self.parts.get(part.folder)
        given = None if named is None else given_as_graph(self.path.parent, part)
        if given is None:
            return part.of_class(named)
        class_name = part.kind.class_name if _is_exporters(named) else named
        return given.of_class(class_name)

    @property
    def components(self) -> tuple[str, ...]:
        """Names of ``compiled``."""
        return tuple(self.compiled)

    @property
    def configs(self) -> Configs:
        """Of all parts that are compiled."""
        return Configs(self.path.parent, self.compiled)

    def place(self, component: str) -> Path:
        """The folder of a component that is compiled."""
        return self.path.parent / self.compiled[component].folder

    def remarks(self, wanted: Sequence[str] | None) -> list[str]:
        """What is left out, a line each; ``wanted`` are the components asked for, None for all.

        Raises InputError for a component of another class that is asked for, and, where all are
        wanted, for a pipeline of no known family, for any part that pictures pass through and that
        is not compiled, and for a part of the family that is missing.
        """
        if self.class_name and family_of_class(self.class_name) is None and wanted is None:
            known = ", ".join(name for family in FAMILIES for name in family.pipelines)
            raise InputError(
                f"{self.path}: _class_name is {self.class_name}; expected one of {known}: a "
                "pipeline of another class makes pictures in another way. Compile networks of it "
                f"with --components{self._choice()}, or take another pipeline."
            )
        found = []
        components = {part.folder: part.component for part in self.family.parts}
        for name, class_name in self.parts.items():
            if name in self._beside or components.get(name) in self.components:
                continue
            if name in self.family.harmless:
                found.append(f"{name} ({class_name}) is not compiled: {self.family.harmless[name]}")
            elif wanted is None or components.get(name) in wanted:
                raise self._refusal(name, class_name)
            else:
                found.append(
                    f"warning: {name} ({class_name}) is no part that this toolchain compiles; "
                    f"only {', '.join(wanted)} of this pipeline will be in the bundle"
                )
        folders = dict.fromkeys(part.folder for part in self.family.parts)
        missing = [folder for folder in folders if folder not in self.parts]
        if self.class_name and missing and wanted is None:
            raise InputError(
                f"{self.path} names no {' and no '.join(missing)}; expected all networks of a "
                f"{self.class_name}, for its pictures pass through each. Download the whole "
                f"pipeline, or choose networks of it with --components{self._choice()}."
            )
        return found

    @property
    def _beside(self) -> tuple[str, ...]:
        """Parts without weights, read from their files."""
        tokenizers = (part.tokenizer for part in self.family.parts if part.tokenizer)
        return ("scheduler", *tokenizers)

    def _refusal(self, part: str, class_name: str) -> InputError:
        family = self.family
        expected = {
            each.folder: " or ".join(kind.class_name for kind in (each.kind, *each.others))
            for each in family.parts
        }
        if part in expected:
            return InputError(
                f"{self.path} names the class {class_name} for {part}; expected "
                f"{expected[part]}, which this toolchain compiles. Export that component "
                "to ONNX yourself and compile the .onnx file instead, or choose other components "
                f"with --components{self._choice()}."
            )
        titles = " or ".join(each.title for each in FAMILIES)
        return InputError(
            f"{self.path} names the part {part} ({class_name}), through which every picture of "
            f"this pipeline passes; expected none but {', '.join(expected)} (compiled), "
            f"{', '.join((*self._beside, *family.harmless))}. Without {part} the bundle would make "
            f"other pictures, or none. Compile a pipeline of {titles}, or choose networks "
            f"of this one with --components{self._choice()}."
        )

    def _choice(self) -> str:
        return f" ({', '.join(self.components)})" if self.components else ""


def _is_exporters(class_name: str | None) -> bool:
    """Whether a part's class only says that its network is a graph."""
    return class_name is not None and class_name.startswith(_EXPORTER)


def read_index(folder: Path, family: Family | None = None) -> PipelineIndex:
    """The index of ``folder``, taken for one of another ``family`` than its own where one is given.

    Raises InputError for one that cannot be read, names none of the components that are compiled
    (those of another class included), or names one whose folder is missing.
    """
    path = folder / INDEX
    content = json_object(
        path,
        "Expected the index of a diffusers pipeline, as save_pretrained writes it. Name the folder "
        "that holds model_index.json.",
    )
    pipeline = content.get("_class_name")
    stated = pipeline.removeprefix(_EXPORTER) if isinstance(pipeline, str) else ""
    expected = family or family_of_class(stated) or STABLE_DIFFUSION
    folders = [*dict.fromkeys(part.folder for part in expected.parts)]
    parts = {}
    for name, entry in content.items():
        class_name = entry[-1] if isinstance(entry, list) and entry else entry
        is_part = isinstance(entry, list) or name in folders
        if is_part and isinstance(class_name, str) and class_name:
            parts[name] = class_name
    found = family or family_of_class(stated, parts) or STABLE_DIFFUSION
    index = PipelineIndex(path, stated, parts, found)
    if not set(parts) & set(folders):
        raise InputError(
            f"{path} names none of {', '.join(folders)}; expected a text-to-image "
            "pipeline. Check that this is the pipeline you mean."
        )
    if not index.components:
        name = next(name for name in folders if name in parts)
        raise index._refusal(name, parts[name])
    for component in index.components:
        place = index.place(component)
        if not place.is_dir():
            raise InputError(
                f"{folder} has no folder {place.name}/, though its model_index.json names "
                "one. Download the whole pipeline again."
            )
    return index
