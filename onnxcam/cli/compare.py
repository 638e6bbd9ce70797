"""`onnxcam compare`: the maps of several methods beside each other, for targets, layers, models or pictures."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxcam.cli.compare_options import CompareArgs
from onnxcam.cli.comparison_summary import comparison_summary
from onnxcam.cli.groups import command
from onnxcam.cli.isolated import ran_isolated
from onnxcam.cli.opening import open_explainer
from onnxcam.cli.overwriting import call_sha256, check_same_call, of_pictures
from onnxcam.cli.parsing import (
    build_methods,
    files_of,
    parse_limits,
    parse_list,
    parse_output,
    parse_path,
    parse_requests,
    parse_targets,
    split_labels,
)
from onnxcam.cli.pictures import list_pictures
from onnxcam.cli.printing import json_list, print_lines
from onnxcam.cli.progress import share_bar
from onnxcam.cli.stopping import stoppable
from onnxcam.errors import OptionError

if TYPE_CHECKING:
    from onnxcam.explainer.explainer import Explainer
    from onnxcam.explainer.targets.kind import TargetLike
    from onnxcam.methods.blocks import Method
    from onnxcam.outputs.overlay import Style

MODEL_SUFFIXES = (".onnx", ".ort")
FIRST_BYTE = b"\x08"
"""Of an ONNX file: the field of its version. No picture's file begins with it."""
Add = Callable[[Sequence[Mapping[str, Any]]], None]


@command
def compare(args: CompareArgs) -> None:
    """Draw the maps of several methods side by side, for print. Needs matplotlib, the extra `plot`.

    Columns are methods: --method score-cam,grad-cam. A method's own option follows its name: score-cam:fill=blur.
    Rows are the pictures; or targets (--target cat,dog), layers (--layer A,B) or models of one picture.
    The methods of a model share its sessions and the picture's forward pass.
    """
    if ran_isolated(args.engine.isolated, args.limits):
        return
    from onnxcam.inputs.opencv import opencv
    from onnxcam.outputs.atomic import check_writable
    from onnxcam.outputs.figure import check_matplotlib

    check_matplotlib()
    opencv()
    job = _parsed(args)
    check_writable(job.figures)
    whole = call_sha256("compare", asdict(args), job.models, files_of(args))
    calls = {file: of_pictures(whole, pictures) for file, pictures in job.figures.items()}
    for file, call in calls.items():
        check_same_call([file], call, overwrite=args.overwrite)
    with stoppable(), _printer(args) as add, ExitStack() as opened:
        kept: list[Explainer] = []
        if len(job.figures) > 1:  # the next picture needs them again
            kept = [opened.enter_context(one) for one in job.openings()]
        for file, call in calls.items():
            _write(args, job, kept or _in_turn(job), file, call, add)


@dataclass(frozen=True, eq=False)
class _Job:
    """What the words say. figures: the pictures of each file. metrics: names; boxes: of the object."""

    args: CompareArgs
    models: tuple[Path, ...]
    figures: dict[Path, list[Path]]
    methods: "list[Method]"
    layers: tuple[str, ...]
    metrics: tuple[str, ...]
    boxes: tuple[tuple[float, float, float, float], ...]
    style: "Style"

    def openings(self) -> "Iterator[Explainer]":
        """An Explainer of each model at each layer, opened when it is asked for; the caller closes it."""
        from onnxcam.network.warm import known_facts
        from onnxcam.surgeon.loading import read_model

        targets, limits = parse_targets(self.args.targets), parse_limits(self.args.limits)
        for model in self.models:
            file = read_model(model, limits, known_facts(limits))
            for layer in self.layers:
                yield open_explainer(file, self.args, targets, self.methods[0], layer=[layer])

    def targets(self, explainer: "Explainer") -> "tuple[TargetLike, ...]":
        """The targets; a text with commas that is no label of the model is several."""
        words = split_labels(self.args.targets.target or (), explainer.labels or ())
        return parse_targets(replace(self.args.targets, target=words or None)).targets


def _in_turn(job: _Job) -> "Iterator[Explainer]":
    """The Explainers one after the other, so that one model is in memory at a time."""
    for opened in job.openings():
        with opened as explainer:
            yield explainer


def _write(
    args: CompareArgs,
    job: _Job,
    explainers: "Iterable[Explainer]",
    file: Path,
    call: str,
    add: Add | None,
) -> None:
    """Makes one figure, writes it, and prints what it shows. call: what the file says of itself."""
    from onnxcam.evaluation.comparison import compare
    from onnxcam.outputs.atomic import write_together
    from onnxcam.outputs.comparison import comparison_record
    from onnxcam.outputs.figure import figure, figure_bytes
    from onnxcam.outputs.formats import INPUTS_TEXT

    rest, pictures = iter(explainers), job.figures[file]
    with share_bar(pictures[0].name if len(pictures) == 1 else f"{len(pictures)} pictures", quiet=args.quiet) as bar:
        first = next(rest)
        comparison = compare(
            chain([first], rest), pictures, job.methods, job.targets(first), metrics=job.metrics,
            box=job.boxes or None, progress=bar,
        )  # fmt: skip
    drawn = figure(comparison, width=args.width, curves=args.curves, style=job.style)
    check_same_call([file], call, overwrite=args.overwrite)  # others may have written meanwhile
    write_together({file: figure_bytes(drawn, file.suffix, {INPUTS_TEXT: call})})
    if add is not None:
        add([comparison_record(comparison, [file])])
    elif not args.quiet:
        print_lines(comparison_summary(comparison, pictures, file))


def _parsed(args: CompareArgs) -> _Job:
    """The words of the command line, checked before anything is opened. Raises OnnxCamError."""
    models, pictures = _sorted(args.paths)
    requests = parse_requests(args.measuring, len(pictures))
    metrics = requests.names if requests is not None else ()
    if args.curves:
        measured = {name.partition(":")[0] for name in metrics}
        metrics = (*metrics, *(name for name in ("deletion", "insertion") if name not in measured))
    if args.width is not None and not 1 <= args.width <= 100:
        raise OptionError(f"--width is a number of inches from 1 to 100, not {args.width:g}")
    layers = tuple(dict.fromkeys(part for text in args.opening.layer or ["auto"] for part in parse_list(text, "layer")))
    if len(layers) > 1 < len(models):
        raise OptionError("compare several layers or several models, not both at once")
    figures = _figures(parse_output(args.out), pictures, [*models, *pictures, *files_of(args)])
    if len(layers) * len(models) > 1 and any(len(of) > 1 for of in figures.values()):
        raise OptionError(
            "the rows of a figure are its pictures, or the layers or models of one; end -o in / for a figure each"
        )
    boxes = requests.boxes if requests is not None else ()
    if args.method.step is not None:
        raise OptionError("a step graph serves one method, so `compare` takes none")
    return _Job(args, tuple(models), figures, build_methods(args.method), layers, metrics, boxes, _style(args))


def _style(args: CompareArgs) -> "Style":
    from onnxcam.outputs.overlay import Style

    plain = Style()
    return replace(
        plain,
        colormap=args.colormap if args.colormap is not None else plain.colormap,
        alpha=args.alpha if args.alpha is not None else plain.alpha,
    )


def _sorted(paths: Sequence[str]) -> tuple[list[Path], list[Path]]:
    """(the models, the pictures) among files and folders. Raises OptionError where one kind is missing."""
    models = [path for path in map(parse_path, paths) if _is_model(path)]
    pictures = list_pictures([text for text in paths if parse_path(text) not in models], keep_going=False)[0]
    if not models:
        raise OptionError("there is no model among the files; give MODEL.onnx and then the pictures")
    if not pictures:
        raise OptionError("there is no picture among the files; give MODEL.onnx and then the pictures")
    return list(dict.fromkeys(models)), pictures


def _is_model(path: Path) -> bool:
    """Whether a file is a model, by its ending, and where that says nothing by its first byte."""
    from onnxcam.files import first_bytes
    from onnxcam.inputs.images import SUFFIXES

    suffix = path.suffix.lower()
    if suffix in MODEL_SUFFIXES or suffix in (*SUFFIXES, ".npy"):
        return suffix in MODEL_SUFFIXES
    return first_bytes(path, 1) == FIRST_BYTE


def _figures(out: str | None, pictures: list[Path], protected: Sequence[Path]) -> dict[Path, list[Path]]:
    """The pictures of each file: all in the file that -o names, else each in one of its own."""
    from onnxcam.outputs.figure import FORMATS
    from onnxcam.outputs.paths import check_inputs, is_folder, named_file, plan

    if out is None or is_folder(out):
        planned = plan(pictures, [[""]] * len(pictures), "compare", ["png"], out, protected=protected)
        return {files["png"]: [picture] for (files,), picture in zip(planned, pictures, strict=True)}
    path = named_file(out, "a figure", FORMATS)
    check_inputs([path], protected)
    return {path: pictures}


@contextmanager
def _printer(args: CompareArgs) -> Iterator[Add | None]:
    """Takes the records of the figures, which become a JSON list; None where no JSON is printed."""
    if not args.json:
        yield None
        return
    with json_list() as add:
        yield add
