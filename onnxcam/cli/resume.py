"""Which pictures of `onnxcam explain` have their files already, made of the same things; which files are of others."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxcam.cli.explain_options import ExplainArgs
from onnxcam.cli.options import MeasuringArgs
from onnxcam.cli.overwriting import digest, file_sha256, without_places
from onnxcam.cli.parsing import files_of, parse_path

if TYPE_CHECKING:
    from onnxcam.explainer.explainer import Explainer


@dataclass(frozen=True)
class Inputs:
    """What the files of every picture of a call depend on, apart from the picture.

    digest: its SHA-256; None where a file changed while the model was opened. unmeasured: of the same call without
    metrics, whose files a call that measures as well may replace. before: the SHA-256 of each picture as it was before
    it was read.
    """

    digest: str | None
    unmeasured: str | None = None
    before: dict[Path, str | None] = field(default_factory=dict)

    def begin(self, picture: Path, files: Iterable[Mapping[str, Path]]) -> Path | None:
        """Begins a picture, which is read next. Returns the first of its files that is there from another call.

        None where there is none, and for a picture that cannot be read: of it nothing will be written.
        """
        self.before[picture] = file_sha256(picture)
        return self.of_another_call(picture, files)

    def of_another_call(self, picture: Path, files: Iterable[Mapping[str, Path]]) -> Path | None:
        """What begin() returned, as it is now: what is explained takes time, and others may write meanwhile."""
        from onnxcam.outputs.completeness import of_another_call

        content = self.before[picture]
        if content is None:
            return None
        both = (_joined(self.digest, content), _joined(self.unmeasured, content))
        return of_another_call(files, {one for one in both if one is not None})

    def forget(self, picture: Path) -> None:
        """Drops a picture of begin() that will have no files."""
        self.before.pop(picture, None)

    def of(self, picture: Path) -> str | None:
        """SHA-256 of all that the files of a picture depend on; None where one of it changed since begin()."""
        before = self.before.pop(picture)
        return self._with(before) if before == file_sha256(picture) else None

    def are_explained(self, picture: Path, files: Iterable[Mapping[str, Path]]) -> bool:
        """Whether all files of a picture were made of the same things. files: of each target, by format."""
        from onnxcam.outputs.completeness import is_complete

        whole = self._with(file_sha256(picture))
        return whole is not None and is_complete(files, whole)

    def _with(self, content: str | None) -> str | None:
        return _joined(self.digest, content)


def _joined(digest: str | None, content: str | None) -> str | None:
    if digest is None or content is None:
        return None
    return hashlib.sha256(f"{digest} {content}".encode()).hexdigest()


Contents = list[str | None]


def contents_of(args: ExplainArgs) -> Contents:
    """SHA-256 of each file that the options name, and of a step graph's weights."""
    from onnxcam.surgeon.weights_files import weights_files

    step = args.method.step
    return [
        file_sha256(path) for path in [*files_of(args), *(weights_files(parse_path(step)) if step is not None else [])]
    ]


def inputs_of(args: ExplainArgs, explainer: "Explainer", contents: Contents) -> Inputs:
    """What a call depends on: onnxcam, every file that it reads, and every option that changes what it writes.

    contents: of the files before they were read. The preset, the size and the labels count as they were chosen, so that
    a file beside the model that changes them counts too. Where and how fast the model runs does not count.
    """
    from onnxcam.versions import versions

    if contents != contents_of(args):
        return Inputs(None)
    named = files_of(args)
    depends: dict[str, Any] = {
        "onnxcam": versions().get("onnxcam"),
        "model": explainer.model_fingerprint,
        "files": contents,
        "method": [explainer.method.name, explainer.method.options],
        "opening": without_places(asdict(args.opening), named),
        "targets": without_places(asdict(args.targets), named),
        "preprocessing": asdict(args.preprocessing),
        "chosen": [explainer.preset, explainer.size, explainer.labels],
        "measuring": asdict(args.measuring),
        "drawing": [
            args.files.colormap,
            args.files.alpha,
            args.files.caption,
            args.files.threshold,
            args.files.max_size,
        ],
        "rounding": [args.engine.half, args.engine.tf32, args.engine.precision],
        "max_pixels": args.limits.max_pixels,
    }
    return Inputs(digest(depends), digest({**depends, "measuring": asdict(MeasuringArgs())}))
