"""Every command, from its own declaration: what it reads is never written."""

from __future__ import annotations

import inspect
import os
import zipfile
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import onnx
import pytest
from typer.main import get_command

from edgefusion.cli.main import COMMANDS
from edgefusion.cli.paths import Reads, Role, Writes, WritesIn, guarded, is_stdout, roles
from edgefusion.runtime.errors import InputError, UsageError

_NAMES_FILES = ("FILE", "DIR", "SOURCE", "BUNDLE", "DATASET", ".npub", ".npz", ".toml")


def _leaves(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield name, command
    for key, each in (inner or {}).items():
        yield from _leaves(f"{name} {key}", each)


def _commands() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in COMMANDS:
        if find_spec(f"edgefusion.cli.{name}"):
            command = guarded(get_command(import_module(f"edgefusion.cli.{name}").app))
            found |= dict(_leaves(name, command))
    return found


_ALL = _commands()
_ROLES: dict[str, dict[str, Role]] = {
    name: roles(inspect.unwrap(command.callback)) for name, command in _ALL.items()
}


def _pairs(kind: type) -> list[tuple[str, str, str]]:
    """Each parameter that reads, with each of the same command that writes."""
    return [
        (name, reads, writes)
        for name, found in _ROLES.items()
        for reads, one in found.items()
        for writes, other in found.items()
        if isinstance(one, Reads) and isinstance(other, kind)
    ]


def _run(name: str, /, **values: Any) -> Any:
    return _ALL[name].callback(**values)


def _bundle(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", "{}")
        archive.writestr("latency.json", "{}")
    return path


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_parameter_that_names_a_file_says_what_it_is_for() -> None:
    missing = []
    for name, command in _ALL.items():
        signature = inspect.signature(inspect.unwrap(command.callback), eval_str=True)
        for parameter, declared in signature.parameters.items():
            kind, *marks = get_args(declared.annotation) or (declared.annotation,)
            metavar = next((m.metavar for m in marks if getattr(m, "metavar", None)), "")
            is_file = "Path" in str(kind) or any(part in metavar for part in _NAMES_FILES)
            if is_file and parameter not in _ROLES[name]:
                missing.append(f"{name}.{parameter}")
    assert not missing
    assert len(_pairs(Writes)) > 40, "the commands were not found"


@pytest.mark.parametrize(("name", "reads", "writes"), _pairs(Writes))
def test_no_file_that_is_read_is_written(inside: Path, name: str, reads: str, writes: str) -> None:
    """Under its own name, another spelling, a link, a hard link, and inside a folder; JSON, so that
    it is the same kind of file that is protected."""
    file = inside / "input"
    file.write_text("{}")
    (inside / "link").symlink_to("input")
    os.link(file, inside / "hard")
    (inside / "folder").mkdir()
    os.link(file, inside / "folder" / "in it")
    aliases = [("input", n) for n in ("input", "folder/../input", "link", "hard")]
    aliases += [("link", "input"), ("folder", "hard"), ("folder", "folder/new.json")]
    for read, written in aliases:
        with pytest.raises(UsageError, match=r"(would be written, but it (is read|lies in))"):
            _run(name, **{reads: read, writes: written})
    assert file.read_text() == "{}"


@pytest.mark.parametrize(("name", "reads", "writes"), _pairs(WritesIn))
def test_nothing_is_written_in_a_folder_that_is_read(
    inside: Path, name: str, reads: str, writes: str
) -> None:
    (inside / "folder").mkdir()
    for written in ("folder", "folder/new", "folder/../folder"):
        with pytest.raises(UsageError, match=r"(is read|lies in)"):
            _run(name, **{reads: "folder", writes: written})


def test_weights_beside_an_onnx_file_are_read_too(inside: Path) -> None:
    constant = onnx.helper.make_tensor("c", 1, [2], [1.0, 2.0])
    constant.ClearField("float_data")
    constant.data_location = onnx.TensorProto.EXTERNAL
    constant.external_data.add(key="location", value="weights.json")
    node = onnx.helper.make_node("Constant", [], ["y"], value=constant)
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", [], [])), "m.onnx")
    (inside / "weights.json").write_text("{}")
    with pytest.raises(UsageError, match=r"the same as the input .*weights.json"):
        _run("compile", source="m.onnx", output="o.npub", json_to="weights.json")


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"json_to": "a.json", "trace": "./a.json"}, "one file"),
        ({"json_to": "ops.csv", "csv_to": "./ops.csv"}, "one file"),
        ({"csv_to": "ops.csv", "components_csv": "./ops.csv"}, "one file"),
        ({"json_to": "photo"}, "photo is an image, and JSON"),
        ({"trace": "other.npub"}, "other.npub is a bundle, and a Perfetto trace"),
        ({"trace": "photo.json"}, "photo.json is an image, and JSON"),
        ({"csv_to": "csv/ops.csv"}, r"ops.csv is JSON, and CSV"),
    ],
)
def test_outputs_are_different_and_of_their_kind(
    inside: Path, values: dict[str, str], match: str
) -> None:
    _bundle(inside / "b.npub")
    _bundle(inside / "other.npub")
    for photo in ("photo", "photo.json"):
        (inside / photo).write_bytes(b"\xff\xd8\xff\xe0")
    (inside / "csv").mkdir()
    (inside / "csv" / "ops.csv").write_text("{}")
    with pytest.raises(UsageError, match=match):
        _run("simulate", bundle="b.npub", **values)


def test_a_folder_to_write_in_is_no_file(inside: Path) -> None:
    _bundle(inside / "b.npub")
    (inside / "photo").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(UsageError, match="no folder"):
        _run("inspect", bundle="b.npub", extract="photo")


def test_two_documents_do_not_share_the_standard_output(inside: Path) -> None:
    with pytest.raises(UsageError, match="two documents"):
        _run("targets", json_to="-", csv_to="/dev/stdout")


def test_standard_output_has_several_names() -> None:
    for name in ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"):
        assert is_stdout(name)
    for other in (None, "out.json", "/dev/fd/2", "/dev/null"):
        assert not is_stdout(other)


def test_the_check_comes_before_the_command(monkeypatch: pytest.MonkeyPatch, inside: Path) -> None:
    """And a command that is given nothing of the kind runs."""

    class Leaf:
        callback: Callable[..., str]

    ran = []
    leaf = Leaf()
    leaf.callback = lambda **values: ran.append(values)  # type: ignore[assignment, return-value]
    guarded(leaf).callback(json_to="a.json")
    assert ran == [{"json_to": "a.json"}]


def _helps() -> Iterator[tuple[str, str]]:
    """Every command and group, with what its ``--help`` says."""
    for name in COMMANDS:
        if find_spec(f"edgefusion.cli.{name}"):
            command = get_command(import_module(f"edgefusion.cli.{name}").app)
            if getattr(command, "commands", None):
                yield name, str(command.help)
    for name, command in _ALL.items():
        yield name, str(command.help)


@pytest.mark.parametrize(("name", "shown"), list(_helps()))
def test_every_help_has_an_example(name: str, shown: str) -> None:
    assert "Example" in shown
    assert f"`edgefusion {name}" in shown


def test_an_output_is_replaced_with_a_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = []
    for number in range(2):
        _run("targets", name="exynos2400", json_to=str(tmp_path / "t.json"), csv_to=None)
        said.append(capsys.readouterr().err)
        assert number == 1 or not said[0]
    assert said[1].startswith(f"replaced {tmp_path / 't.json'}, written 20")
    with pytest.raises(InputError):
        _run("targets", name="exynos9999", json_to=str(tmp_path / "t.json"), csv_to=None)
    assert "replaced" not in capsys.readouterr().err
    (tmp_path / "t.json").write_bytes(b"")
    _run("targets", name="exynos2400", json_to=str(tmp_path / "t.json"), csv_to=None)
    assert "replaced" not in capsys.readouterr().err
