"""What is no regular file, or not of the size that it says, is refused at once, with a sentence."""

import ast
import os
import socket
import threading
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

import onnxcam
from onnxcam import files
from onnxcam.errors import ModelError, OnnxCamError
from onnxcam.files import CONFIG, LABELS, MODEL, FileKind, open_inside, open_regular, parse_json, read_bytes, read_text

SMALL = FileKind("model", 1000, ModelError)
posix = pytest.mark.skipif(os.name != "posix", reason="pipes and devices by name")


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


def bound_socket(folder: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "s"))
    return folder / "s"


def sparse(folder: Path) -> Path:
    with open(folder / "sparse", "wb") as file:
        file.write(b"start")
        file.truncate(MODEL.most)
    return folder / "sparse"


def link_to_itself(folder: Path) -> Path:
    (folder / "loop").symlink_to(folder / "loop")
    return folder / "loop"


HOSTILE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a pipe that nobody writes to": (pipe, "not a regular file but a pipe"),
    "a socket": (bound_socket, "not a regular file but a socket"),
    "an endless device": (lambda folder: Path("/dev/zero"), "not a regular file but a device"),
    "an empty device": (lambda folder: Path("/dev/null"), "not a regular file but a device"),
    "a folder": (lambda folder: folder, "a folder, not a model; give the .onnx file"),
    "a file of the kernel that says 0 bytes": (lambda folder: Path("/proc/self/environ"), "empty"),
    "holes": (sparse, "claims 2,147,483,647 bytes but holds"),
    "a link to itself": (link_to_itself, "cannot be read"),
    "no file": (lambda folder: folder / "none", "no such model file"),
    "no name": (lambda folder: Path("a\0b"), "no such model file"),
    "too long a name": (lambda folder: folder / ("n" * 5000), "cannot be read"),
    "a file below a file": (lambda folder: Path(__file__) / "x", "cannot be read"),
}


@posix
@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_regular_file_is_refused_at_once(name: str, tmp_path: Path) -> None:
    make, message = HOSTILE[name]
    path, caught = make(tmp_path), list[BaseException]()
    before = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()

    def read() -> None:
        try:
            read_bytes(path, MODEL)
        except OnnxCamError as error:
            caught.append(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive(), "hangs"
    with pytest.raises(ModelError, match=message) as raised:
        raise caught[0]
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 500
    if before:
        assert len(os.listdir("/proc/self/fd")) <= len(before), "a descriptor is left open"


def test_size_is_checked_before_the_content_and_the_limit_can_be_given(tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_bytes(b"x" * 1001)
    with pytest.raises(ModelError, match="1,001 bytes is more than a model may have"):
        read_bytes(path, SMALL)
    assert len(read_bytes(path, SMALL, most=1001)) == 1001


def test_holes_that_are_less_than_half_are_read(tmp_path: Path) -> None:
    path = tmp_path / "m"
    with open(path, "wb") as file:
        file.write(b"\1" * 3_000_000)
        file.truncate(5_000_000)
    assert read_bytes(path, MODEL) == b"\1" * 3_000_000 + bytes(2_000_000)


def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_bytes(b"x" * 100)
    with open_regular(path, MODEL) as file, pytest.raises(ModelError, match="ends after 100 of 200 bytes"):
        files.read_exactly(file, 200, path, MODEL)


def test_a_read_that_fails_is_an_error_of_its_kind(tmp_path: Path) -> None:
    class Broken(BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(ModelError, match=r"cannot be read \(input/output error\)"):
        files.read_exactly(Broken(), 1, "m", MODEL)


@posix
def test_no_link_below_a_folder_is_followed(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    (inner / "sub").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (inner / "sub" / "w").write_text("weights")
    (inner / "link").symlink_to(tmp_path)
    (inner / "sub" / "direct").symlink_to("w")
    with open_inside(inner, ("sub", "w"), MODEL) as file:
        assert file.read() == b"weights"
    for parts in (("link", "secret"), ("sub", "direct"), ("sub",), ("none", "w")):
        with pytest.raises(ModelError):
            open_inside(inner, parts, MODEL)


def test_text_may_have_a_mark_and_must_be_utf8(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes("\ufeffcat\nsüß".encode())
    assert read_text(path, LABELS) == "cat\nsüß"
    for data in ("cat".encode("utf-16"), b"caf\xe9", b"\xed\xa0\x80"):
        path.write_bytes(data)
        with pytest.raises(OnnxCamError, match="not UTF-8 text"):
            read_text(path, LABELS)


def test_text_of_a_gigabyte_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with open(path, "wb") as file:
        file.truncate(2**30)
    with pytest.raises(OnnxCamError, match="more than a configuration may have"):
        read_text(path, CONFIG)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("1" * 5000, "a number of 5000 digits"),
        ('{"a": 1e999}', "no float holds"),
        ('{"a": -1e999}', "no float holds"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "repeats the key 'c'"),
        ("{" + ", ".join(f'"k{i}": 0' for i in range(50_000)) + ', "k49999": 1}', "repeats the key 'k49999'"),
        ('{"a": 1', "not JSON"),
        ("", "not JSON"),
        ("{'a': 1}", "not JSON"),
        ("\0", "not JSON"),
    ],
    ids=range(11),
)
def test_json_that_is_not_plain_is_an_error_in_a_sentence(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_json(text)


def test_plain_json_is_read() -> None:
    assert parse_json('{"a": [1, 2.5, null, true], "b": {"a": "x"}}') == {"a": [1, 2.5, None, True], "b": {"a": "x"}}


def test_an_endless_stream_ends() -> None:
    class Endless:
        taken = 0

        def read(self, size: int) -> bytes:
            self.taken += size
            return bytes(size)

    stream = Endless()
    assert len(files.read_stream(stream, 1000)) == 1001  # type: ignore[arg-type]
    assert stream.taken == 1001
    assert files.read_stream(BytesIO(b"abc"), 1000) == b"abc"
    with open(os.devnull, "rb") as device:
        assert files.is_device(device)
    with open(__file__, "rb") as regular:
        assert not files.is_device(regular)


ROOT = Path(onnxcam.__file__).parent
OPENS = {"open", "fdopen", "read_text", "read_bytes", "load", "fromfile", "imread", "memmap", "loadtxt", "genfromtxt"}
"""Calls that read a file by its name."""
MODULES = {"os", "io", "np", "numpy", "onnx", "Image", "cv2", "pickle", "builtins", "Path"}
FIXED = {
    "engine/batching.py": "/proc and /sys, for the memory that is free",
    "engine/session.py": "/sys, for the cores of a container",
    "temporary.py": "/etc/machine-id",
    "engine/precision.py": "/proc/cpuinfo",
    "network/cache.py": "/proc/cpuinfo; and writes",
    "outputs/atomic.py": "writes",
    "outputs/completeness.py": "files that are open already",
    "cli/pipes.py": "its own temporary folder",
    "cli/streams.py": "the null device, as standard output",
    "explainer/isolated_process.py": "/proc/self, and the null device",
    "explainer/sending.py": "a picture that is bytes in memory",
    "evaluation/map_files.py": "arrays that are bytes in memory; and writes",
    "evaluation/ray_process.py": "the null device, and the pipes of the process",
    "evaluation/report.py": "the package's own assets",
}
"""Modules that open what no user and no model names."""


def opens_a_file(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    call = node.func
    if isinstance(call, ast.Name):
        return call.id == "open"
    if not isinstance(call, ast.Attribute) or call.attr not in OPENS:
        return False
    if call.attr in ("read_text", "read_bytes"):  # of a Path
        return True
    return isinstance(call.value, ast.Name) and call.value.id in MODULES


def test_no_other_module_opens_a_file_by_its_name() -> None:
    others = {
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*.py")
        if path.name != "files.py" and any(map(opens_a_file, ast.walk(ast.parse(path.read_text()))))
    }
    assert others <= set(FIXED), "open it through onnxcam/files.py"


def test_how_a_file_begins_is_nothing_where_it_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    assert files.first_bytes(tmp_path / "f", 2) == b"ab"
    for path in (tmp_path, tmp_path / "none", tmp_path / ("n" * 5000), "a\0b", "/dev/zero"):
        assert files.first_bytes(path, 2) == b""
