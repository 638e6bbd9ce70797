"""`onnxcam explain`: pictures in, saliency maps out, one picture after another.

The files of a picture are written together as soon as it is explained, and its maps are dropped then. So a run takes
constant memory, and one that is stopped keeps the pictures that it finished.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from onnxcam.cli.groups import command
from onnxcam.cli.measuring import Measuring
from onnxcam.cli.opening import open_explainer
from onnxcam.cli.options import ExplainArgs
from onnxcam.cli.parsing import (
    build_method,
    files_of,
    parse_list,
    parse_output,
    parse_path,
    parse_requests,
    parse_style,
    parse_targets,
)
from onnxcam.cli.pictures import list_pictures
from onnxcam.cli.printing import print_note
from onnxcam.cli.progress import progress_bar
from onnxcam.cli.several_inputs import by_input
from onnxcam.cli.stopping import Stop, stoppable
from onnxcam.cli.summary import Show, printer
from onnxcam.errors import OnnxCamError, OutputError, PictureError

if TYPE_CHECKING:
    from onnxcam.explainer.prefetch import PictureResult
    from onnxcam.metrics.measurement import Measurement
    from onnxcam.outputs.overlay import Style


@command
def explain(args: ExplainArgs) -> None:
    """Write a heat map over each picture that shows where the model saw the class.

    The files of a picture are written together as soon as it is explained.
    A run that stops keeps the files of the pictures before.
    `onnxcam methods` lists the methods.
    """
    explain_pictures(args)


@dataclass
class Tally:
    """How a run goes. pictures: all that were named; failures: why some were skipped; written: those with files."""

    pictures: int
    failures: list[OnnxCamError]
    written: int = 0

    def __str__(self) -> str:
        return f"{self.written} of {self.pictures} pictures {'was' if self.written == 1 else 'were'} written"


def explain_pictures(args: ExplainArgs) -> None:
    """Explains the pictures in their order, writes and prints each. Raises OnnxCamError."""
    calls = by_input(args)
    with printer(json=args.json, quiet=args.quiet) as show:
        tallies = [_explain(one, show, name) for one, name in calls]
    for tally in tallies:
        if tally.failures:
            raise SkippedPictures(tally)


def _explain(args: ExplainArgs, show: Show, input_name: str) -> Tally:
    """Explains the pictures of one input of the model, whose name files bear if there are several inputs."""
    from onnxcam.explainer.prefetch import explain_each
    from onnxcam.outputs.atomic import check_writable
    from onnxcam.outputs.paths import plan

    style, targets, method = parse_style(args.files), parse_targets(args.targets), build_method(args.method)
    formats = parse_list(args.files.format, "format") if args.files.format is not None else None
    images, failures = list_pictures(args.images, keep_going=args.keep_going)
    tally = Tally(len(images) + len(failures), failures)
    requests = parse_requests(args.measuring, tally.pictures)
    style = replace(style, truth=requests.boxes if requests is not None else ())
    measuring = Measuring(targets.targets, requests)
    if not images:
        raise failures[0] if len(failures) == 1 else SkippedPictures(tally)
    names = list(targets.names) if len(targets.names) > 1 else [""]
    names = [" ".join(filter(None, (input_name, name))) for name in names] if input_name else names
    read = [parse_path(args.model), *files_of(args)]
    out = parse_output(args.files.out)
    planned = plan(images, [names] * len(images), method.name, formats, out, protected=read)
    check_writable(path for files in planned for paths in files for path in paths.values())
    pictures = ((image, targets.targets) for image in images)
    with (
        _stoppable(tally) as stop,
        open_explainer(args, targets, method) as explainer,
        progress_bar(images, quiet=args.quiet) as bar,
        closing(explain_each(explainer, pictures, progress=measuring.counted(bar.begin))) as results,
    ):
        measuring.check(explainer)
        for image, files, explained in zip(images, planned, results, strict=True):
            result, metrics = measuring.measured(explainer, explained, image)
            if result.error is None:
                with stop.deferred():
                    _write(result, metrics, image, files, style, tally)
                    with bar.hidden(), _counted(tally):
                        show(result.saliencies, files, metrics)
            elif args.keep_going:
                failures.append(_named(result.error, image))
            else:
                raise _last(result.error, image, tally)
    return tally


def _write(
    result: "PictureResult",
    metrics: "Sequence[Mapping[str, Measurement]]",
    image: Path,
    files: Sequence[Mapping[str, Path]],
    style: "Style",
    tally: Tally,
) -> None:
    """Writes all files of a picture, or none. metrics, files: of each target; files by the name of the format."""
    from onnxcam.outputs.atomic import write_together
    from onnxcam.outputs.formats import FORMATS

    try:
        write_together(
            {
                path: FORMATS[name].write(saliency, result.original, style, measured)
                for saliency, measured, paths in zip(result.saliencies, metrics, files, strict=True)
                for name, path in paths.items()
            }
        )
    except OnnxCamError as error:
        raise _last(error, image, tally) from None
    tally.written += 1


@contextmanager
def _stoppable(tally: Tally) -> Iterator[Stop]:
    """Says what was written when a signal or a closed standard output ends the run."""
    try:
        with stoppable() as stop:
            yield stop
    except SystemExit:
        print_note(f"stopped: {tally}")
        raise


@contextmanager
def _counted(tally: Tally) -> Iterator[None]:
    """Says what was written where standard output takes no more."""
    try:
        yield
    except OutputError as error:
        raise OutputError(f"{error}; {tally}") from None


def _named(error: OnnxCamError, image: Path) -> OnnxCamError:
    """The error with its picture's name, and without its traceback, whose frames hold arrays."""
    return type(error)(f"{image}: {str(error).removeprefix(f'{image}: ')}")


def _last(error: OnnxCamError, image: Path, tally: Tally) -> OnnxCamError:
    """The error that ends a run: it names the picture and says what was written before it."""
    if tally.pictures == 1:
        return error
    hint = " (--keep-going leaves such a picture out)" if isinstance(error, PictureError) else ""
    return type(error)(f"{_named(error, image)}; {tally}{hint}")


class SkippedPictures(PictureError):
    """Pictures that --keep-going left out. lines: how many, and why each."""

    def __init__(self, tally: Tally) -> None:
        count = f"skipped {len(tally.failures)} of {tally.pictures} pictures:"
        self.lines = (count, *map(str, tally.failures))
        super().__init__("\n  ".join(self.lines))
