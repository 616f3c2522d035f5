"""What mkdocs is told beside mkdocs.yml: pages that lie elsewhere or are made from the code, and
links between files of the repository as links between pages."""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))
import pages

ROOT = Path(__file__).resolve().parents[2]
ELSEWHERE = {
    "index.md": "README.md",
    "architecture.md": "ARCHITECTURE.md",
    "supported_ops.md": "SUPPORTED_OPS.md",
    "changelog.md": "CHANGELOG.md",
    "benchmarks.md": "benchmarks/README.md",
}
"""Pages that are files outside docs/."""
_LINK = re.compile(r"(?<!!)\[([^\]\n]+)\]\(([^)\s]+)\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that do not lie in docs/."""
    for name, source in ELSEWHERE.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=text))
    for name, make in pages.PAGES.items():
        files.append(File.generated(config, name, content=make()))
    return files


def on_page_markdown(markdown: str, *, page: Any, files: Files, **_: Any) -> str:
    """Links to files of the repository lead to their pages; what has none is named, not linked."""
    name = page.file.src_uri
    folder = posixpath.dirname(ELSEWHERE.get(name, f"docs/{name}"))
    homes = {source: page_name for page_name, source in ELSEWHERE.items()}

    def linked(found: re.Match[str]) -> str:
        text, link = found.groups()
        target, _, anchor = link.partition("#")
        if ":" in target or not target:
            return found[0]
        file = posixpath.normpath(posixpath.join(folder, target))
        place = homes.get(file, file.removeprefix("docs/") if file.startswith("docs/") else "")
        if place and files.get_file_from_path(place):
            return f"[{text}]({place}{'#' if anchor else ''}{anchor})"
        if (ROOT / file).exists():
            return text if file in text else f"{text} (`{file}`)"
        return found[0]

    return _LINK.sub(linked, markdown)
