"""A target as the text of a target file: complete, with the comments of the file that it is from.

What ``load_target`` makes of the text is the same machine, to the digest, and the same provenance.
"""

from __future__ import annotations

from typing import Any

import tomlkit

from edgefusion.runtime.target import Target, load_target, target_files


def target_toml(name_or_path: str, target: Target | None = None) -> str:
    """The file of the target ``name_or_path``, or, of the same parameters, ``target``'s values.

    Sections, order and comments are those of the file without a base that it comes from; an entry
    is written anew only where its value or provenance differs. Raises what ``load_target`` does.
    """
    wanted = target or load_target(name_or_path)
    files = target_files(name_or_path)
    document: Any = tomlkit.parse(files[-1].read_text(encoding="utf-8"))
    document["name"] = wanted.machine.name
    document["description"] = wanted.description
    values = wanted.machine.flat_parameters()
    for key, place in _places(document).items():
        entry, origin = place[key.rpartition(".")[2]], wanted.provenance[key]
        for name, new in (
            ("value", values[key]),
            ("status", origin.status),
            ("source", origin.source),
        ):
            old = entry.get(name, "")
            if old != new or type(_plain(old)) is not type(new):
                entry[name] = new
    text = tomlkit.dumps(document)
    if load_target(str(files[-1])).machine.name == wanted.machine.name:
        return text
    return (
        f"# {' '.join(wanted.description.split())}. The file that this comes from begins:\n{text}"
    )


def _places(document: Any) -> dict[str, Any]:
    """The table that holds each parameter's entry, by the parameter's flat name."""
    found: dict[str, Any] = {}
    for section in document.values():
        if not isinstance(section, dict):
            continue
        for key, entry in section.items():
            if "value" in entry and not isinstance(entry["value"], dict):
                found[key] = section
            else:
                found |= {f"{key}.{name}": entry for name in entry}
    return found


def _plain(value: Any) -> Any:
    return value.unwrap() if hasattr(value, "unwrap") else value
