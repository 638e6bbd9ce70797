"""`onnxcam explain --resume`: which pictures have their files already, made of the same things."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxcam.cli.options import ExplainArgs
from onnxcam.cli.parsing import files_of, parse_path
from onnxcam.errors import OnnxCamError

if TYPE_CHECKING:
    from onnxcam.explainer.explainer import Explainer


@dataclass(frozen=True)
class Inputs:
    """What the files of every picture of a call depend on, apart from the picture. digest: its SHA-256."""

    digest: str

    def of(self, picture: Path) -> str | None:
        """SHA-256 of all that the files of a picture depend on; None where it cannot be read."""
        content = _sha256(picture)
        return None if content is None else hashlib.sha256(f"{self.digest} {content}".encode()).hexdigest()

    def are_explained(self, picture: Path, files: Iterable[Mapping[str, Path]]) -> bool:
        """Whether all files of a picture are there, made of the same things. files: of each target, by format."""
        from onnxcam.outputs.completeness import is_complete

        planned = list(files)
        if not all(path.is_file() for one in planned for path in one.values()):
            return False
        whole = self.of(picture)
        return whole is not None and is_complete(planned, whole)


def inputs_of(args: ExplainArgs, explainer: "Explainer") -> Inputs:
    """What a call depends on: the content of every file that it reads, and every option that changes what it writes.

    The preset, the size and the labels count as they were chosen, so that a file beside the model that changes them
    counts too. Where and how fast the model runs does not count.
    """
    from onnxcam.outputs.record import plain
    from onnxcam.surgeon.weights_files import weights_files

    model = parse_path(args.model)
    files = [model, *weights_files(model), *files_of(args)]
    depends: dict[str, Any] = {
        "files": [_sha256(path) for path in files],
        "method": [explainer.method.name, explainer.method.options],
        "opening": asdict(args.opening),
        "targets": asdict(args.targets),
        "preprocessing": asdict(args.preprocessing),
        "chosen": [explainer.preset, explainer.size, explainer.labels],
        "measuring": asdict(args.measuring),
        "drawing": [args.files.colormap, args.files.alpha, args.files.caption],
        "rounding": [args.engine.half, args.engine.tf32],
        "max_pixels": args.limits.max_pixels,
    }
    return Inputs(hashlib.sha256(json.dumps(plain(depends), sort_keys=True).encode()).hexdigest())


def _sha256(path: Path) -> str | None:
    """Of a file's content; None for what cannot be read, which whoever reads it reports."""
    from onnxcam.files import ANY, CHUNK, open_regular

    digest = hashlib.sha256()
    try:
        with open_regular(path, ANY) as file:
            while content := file.read(CHUNK):
                digest.update(content)
    except (OnnxCamError, OSError):
        return None
    return digest.hexdigest()
