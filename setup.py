"""Maps the top-level folders onto the one installed package, `edgefusion`.

The folders stay short in the repository (`compiler/`, `runtime/`, ...) and install as
`edgefusion.compiler`, `edgefusion.runtime`, ..., so that no package with such a common name lands
in anyone's site-packages. Everything else about the project is in pyproject.toml.
"""

from __future__ import annotations

from pathlib import Path

from setuptools import setup

FACE = "edgefusion"
FOLDERS = ("compiler", "passes", "runtime", "models", "toolchain", "benchmarks")
DATA_SUFFIXES = ("toml", "csv", "html", "css", "js", "json", "txt", "md", "safetensors")


def packages_under(folder: Path, name: str) -> list[str]:
    """Names of `folder` and of all packages below it: a package is a folder with __init__.py."""
    found = [name]
    for child in sorted(folder.iterdir()):
        if (child / "__init__.py").is_file():
            found += packages_under(child, f"{name}.{child.name}")
    return found


root = Path(__file__).parent
package_dir = {FACE: FACE} | {f"{FACE}.{folder}": folder for folder in FOLDERS}
packages = [
    package
    for name, folder in package_dir.items()
    for package in packages_under(root / folder, name)
]
setup(
    packages=packages,
    package_dir=package_dir,
    # Data may lie in plain subfolders (runtime/targets/), which are no packages themselves.
    package_data={"": ["py.typed"] + [f"**/*.{suffix}" for suffix in DATA_SUFFIXES]},
    include_package_data=False,
)
