"""The documentation builds without a warning, says what the code says, and loads nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest

import edgefusion
from edgefusion.cli.main import COMMANDS
from edgefusion.runtime.target import load_target


@pytest.fixture(scope="module")
def site(repository_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does."""
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(folder)],
        cwd=repository_root,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "NO_COLOR": "1"},
    )
    assert built.returncode == 0, built.stdout + built.stderr
    assert "WARNING" not in built.stderr, built.stderr
    return folder


def words(page: Path) -> str:
    """The text of a page, without its markup."""
    return unescape(re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8")))


def test_every_guide_has_a_page(site: Path, repository_root: Path) -> None:
    for guide in (repository_root / "docs").glob("*.md"):
        assert (site / f"{guide.stem}.html").is_file(), guide


def test_every_public_name_is_documented(site: Path) -> None:
    page = (site / "python_api.html").read_text(encoding="utf-8")
    headings = set(re.findall(r'<h3 id="edgefusion\.[\w.]*?(\w+)"', page))
    assert headings == set(edgefusion.__all__) - {"__version__"}


def test_pages_made_from_the_code_are_complete(site: Path) -> None:
    commands = words(site / "command_line.html")
    assert all(f"edgefusion {name}" in commands for name in COMMANDS if name_is_there(name))
    target = words(site / "target_file.html")
    assert all(key in target for key in load_target("exynos2400").provenance)
    codes = words(site / "exit_codes.html")
    assert all(
        name in codes
        for name in edgefusion.__all__
        if name.endswith("Error") and name != "EdgeFusionError"
    )
    assert "down_blocks.0.*" in words(site / "recipe_file.html")
    assert "image_latency_ps" in words(site / "data_frames.html")


def name_is_there(name: str) -> bool:
    return (Path(edgefusion.__file__).parent / "cli" / f"{name}.py").is_file()


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    loads = re.compile(r'(?:src|<link[^>]*href)="(?:https?:)?//[^"]*"')
    for page in site.rglob("*.html"):
        assert not loads.findall(page.read_text(encoding="utf-8")), page
    for sheet in site.rglob("*.css"):
        assert "url(http" not in sheet.read_text(encoding="utf-8"), sheet


def test_links_between_files_are_links_between_pages(site: Path) -> None:
    overview = (site / "index.html").read_text(encoding="utf-8")
    assert 'href="architecture.html"' in overview
    assert 'href="miniature.html"' in (site / "benchmarks.html").read_text(encoding="utf-8")
    assert '.md"' not in overview
