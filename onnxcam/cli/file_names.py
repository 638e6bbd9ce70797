"""What the files of `onnxcam explain` are called, so that maps of several models lie beside each other.

A name holds the picture, the target, the method and the layer. Where a file of that name is of another model, it holds
the model too, and where a file of the same model is of another preset than the --preset of this call, it holds that. So
the same call finds its files again, and only what differs in other ways asks for --overwrite.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from onnxcam.cli.explain_options import ExplainArgs
from onnxcam.cli.parsing import files_of, parse_list, parse_output, parse_path

if TYPE_CHECKING:
    from onnxcam.explainer.explainer import Explainer
    from onnxcam.explainer.targets.resolving import ParsedTargets
    from onnxcam.methods.blocks import Method
    from onnxcam.outputs.paths import Plan


@dataclass(frozen=True, eq=False)
class FileNames:
    """The names of a call. input_name: of the model's input that the call explains, of several; else ""."""

    args: ExplainArgs
    targets: "ParsedTargets"
    method: "Method"
    input_name: str = ""

    def plan(
        self, images: Sequence[Path], folders: Sequence[PurePath], *, model: bool = False, preset: bool = False
    ) -> "Plan":
        """The files of each picture, of each target by the name of the format. folders: of each picture, below -o.

        model, preset: whether the names hold them. Raises OnnxCamError for an unknown format, and for a file that would
        overwrite an input.
        """
        from onnxcam.outputs.paths import plan

        args = self.args
        formats = parse_list(args.files.format, "format") if args.files.format is not None else None
        names = list(self.targets.names) if args.targets.is_chosen else [""]
        names = [" ".join(filter(None, (self.input_name, name))) for name in names] if self.input_name else names
        read = parse_path(args.model)
        return plan(
            images, [names] * len(images), self.method.name, formats, parse_output(args.files.out),
            layer=" ".join(layer for layer in args.opening.layer or () if layer != "auto"),
            model=read.stem if model else "", preset=args.preprocessing.preset or "" if preset else "",
            protected=[read, *files_of(args)], folders=folders,
        )  # fmt: skip

    def beside_others(self, images: Sequence[Path], folders: Sequence[PurePath], explainer: "Explainer") -> "Plan":
        """plan() with the model or the preset in the names of those pictures whose files are there of another one.

        With --overwrite such a name is taken only where its file is there: it is replaced, not the other model's.
        A file that -o names keeps its name. Raises OutputError where two files would have one name.
        """
        from onnxcam.outputs.paths import check_distinct, is_folder

        out = parse_output(self.args.files.out)
        if out is not None and not is_folder(out):
            return self.plan(images, folders)
        names = _Names(self, images, folders, explainer)
        planned = [names.of(i) for i in range(len(images))]
        check_distinct(path for sources in planned for files in sources for path in files.values())
        return planned


@dataclass(frozen=True, eq=False)
class _Names:
    """The plans of some pictures, each made where it is needed. plans: by whether they hold model and preset."""

    names: FileNames
    images: Sequence[Path]
    folders: Sequence[PurePath]
    explainer: "Explainer"
    plans: dict[tuple[bool, bool], "Plan"] = field(default_factory=dict)

    def of(self, i: int) -> list[dict[str, Path]]:
        """The files of the picture at a place in the list."""
        from onnxcam.outputs.completeness import made_of

        model = preset = False
        while True:
            files = self._plan(model, preset)[i]
            made = made_of(files)
            if not model and any(one.model_sha256 not in (None, self.explainer.model_sha256) for one in made):
                model = True
            elif not preset and any(self._is_of_another_preset(one.model_sha256, one.preset_sha256) for one in made):
                preset = True
            else:
                break
        is_there = any(os.path.lexists(path) for one in files for path in one.values())
        return self._plan(False, False)[i] if self.names.args.files.overwrite and not is_there else files

    def _plan(self, model: bool, preset: bool) -> "Plan":
        if (model, preset) not in self.plans:
            self.plans[model, preset] = self.names.plan(self.images, self.folders, model=model, preset=preset)
        return self.plans[model, preset]

    def _is_of_another_preset(self, model_sha256: str | None, said: str | None) -> bool:
        """Whether a file is of this model and of another preset than --preset says."""
        from onnxcam.outputs.record import preset_sha256
        from onnxcam.types import Source

        explainer = self.explainer
        if self.names.args.preprocessing.preset is None or said is None or model_sha256 != explainer.model_sha256:
            return False
        # An image that came preprocessed says so in place of where the preset came from.
        sources = (explainer.preset_origin.source, Source.PREPARED)
        return said not in {preset_sha256(explainer.preset.to_json(), source) for source in sources}
