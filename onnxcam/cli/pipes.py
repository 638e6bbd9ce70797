"""`-` on the command line: standard input where a file is read, and standard output behind -o.

Every reader and writer here works on files that can be rewound, checked and replaced, so what is piped is kept in a
temporary folder while the command runs: as `stdin`, by which the files that are written are named, and as `stdout.png`.
"""

import io
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import BinaryIO

from onnxcam.cli.failures import END, wants_json
from onnxcam.cli.printing import write_bytes
from onnxcam.errors import OptionError
from onnxcam.files import CHUNK, MODEL, reason

PIPE = "-"
OUT_FLAGS = ("-o", "--out")
MODELS_WRITTEN = ("compile", "rewrite")
"""Commands whose output is a model; that of the others is a picture, or what --format says."""


@contextmanager
def piped(words: Sequence[str]) -> Iterator[list[str]]:
    """The words of a command line with files in place of `-`. Behind the block, what was written goes to the pipe.

    While something is piped out, what the command prints goes to standard error. Raises OptionError for a terminal at
    either end, for `-` twice, and where not exactly one file was written.
    """
    end = words.index(END) if END in words else len(words)
    inputs = [i for i in range(end) if words[i] == PIPE and not (i and words[i - 1] in OUT_FLAGS)]
    outputs = [i for i in range(1, end) if words[i] == PIPE and words[i - 1] in OUT_FLAGS]
    if not inputs and not outputs:
        yield [*words]
        return
    if len(inputs) > 1:
        raise OptionError("standard input (-) is one file, and it is named twice; save one of them to a file")
    replaced = [*words]
    with tempfile.TemporaryDirectory(prefix="onnxcam-") as folder:
        for i in inputs:
            replaced[i] = str(_saved(Path(folder, "stdin")))
        if not outputs:
            yield replaced
            return
        _check_output(words)
        target = Path(folder, f"out/stdout.{_ending(words)}")
        target.parent.mkdir()
        for i in outputs:
            replaced[i] = str(target)
        with redirect_stdout(sys.stderr):
            yield replaced
        written = [path for path in target.parent.rglob("*") if path.is_file()]
        if written:  # --help writes nothing
            write_bytes(_only(written).read_bytes())


def _check_output(words: Sequence[str]) -> None:
    if wants_json(words):
        raise OptionError("--json and -o - both write to standard output; leave one out, or give -o a file")
    if "--watch" in words:
        raise OptionError("-o - writes one file, and --watch those of many pictures; give -o a folder, which ends in /")
    if sys.stdout.isatty():
        raise OptionError("standard output is a terminal, and -o - writes a file's bytes; add > FILE, or give -o FILE")


def _ending(words: Sequence[str]) -> str:
    if words[0] in MODELS_WRITTEN:
        return "onnx"
    formats = [words[i + 1] for i in range(len(words) - 1) if words[i] == "--format"]
    return formats[-1] if formats and formats[-1].isalnum() else "png"


def _only(written: Sequence[Path]) -> Path:
    if len(written) > 1:
        raise OptionError(f"-o - writes one file, and this command makes {len(written)}; end -o in / for a folder")
    return written[0]


def _saved(path: Path) -> Path:
    """Standard input as a file. Raises OptionError for a terminal, and for what is empty or too large."""
    stream = sys.stdin
    if stream is None or stream.isatty():
        raise OptionError("standard input (-) is a terminal; pipe a file into it, as in: onnxcam ... - < photo.jpg")
    source: BinaryIO = stream.buffer if isinstance(stream, io.TextIOWrapper) else stream  # type: ignore[assignment]
    size = 0
    try:
        with path.open("wb") as file:
            while block := source.read(CHUNK):
                size += len(block)
                if size > MODEL.most:
                    raise OptionError(f"standard input (-) holds more than {MODEL.most:,} bytes; save it to a file")
                file.write(block)
    except OSError as error:
        raise OptionError(f"standard input (-) cannot be read or kept ({reason(error)}); save it to a file") from None
    if not size:
        raise OptionError("standard input (-) is empty (0 bytes)")
    return path
