"""`onnxcam explain`: pictures in, saliency maps out, one picture after another.

The files of a picture are written together as soon as it is explained, and its maps are dropped then. So a run takes
constant memory, and one that is stopped keeps the pictures that it finished.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from onnxcam.cli.answers import COUNT
from onnxcam.cli.explain_options import ExplainArgs
from onnxcam.cli.file_names import FileNames
from onnxcam.cli.groups import command
from onnxcam.cli.measuring import Measuring
from onnxcam.cli.opening import open_explainer
from onnxcam.cli.overwriting import refused
from onnxcam.cli.parsing import (
    build_method,
    parse_output,
    parse_path,
    parse_requests,
    parse_style,
    parse_targets,
)
from onnxcam.cli.pictures import picture_tree
from onnxcam.cli.printing import print_lines, print_note
from onnxcam.cli.progress import ProgressBar, progress_bar
from onnxcam.cli.resume import Inputs, contents_of, inputs_of
from onnxcam.cli.several_inputs import by_input
from onnxcam.cli.stopping import Stop, stoppable
from onnxcam.cli.summary import Show, Shows, printer
from onnxcam.errors import OnnxCamError, OutputError, PictureError

if TYPE_CHECKING:
    from onnxcam.cli.watched_folder import OwnFiles
    from onnxcam.explainer.explainer import Explainer
    from onnxcam.explainer.prefetch import PictureResult
    from onnxcam.explainer.targets.resolving import ParsedTargets
    from onnxcam.methods.blocks import Method
    from onnxcam.metrics.measurement import Measurement
    from onnxcam.outputs.overlay import Style


@command
def explain(args: ExplainArgs) -> None:
    """Write a heat map over each picture that shows where the model saw the class.

    The files of a picture are written together as soon as it is explained.
    A run that stops keeps the files of the pictures before, and goes on with --resume.
    `onnxcam methods` lists the methods.
    """
    explain_pictures(args)


@dataclass
class Tally:
    """How a run goes. pictures: all that were named; failures: why some were skipped; written: those with files.

    complete: those whose files --resume found; replaced: those with a file that was there, made of other things.
    """

    pictures: int
    failures: list[OnnxCamError]
    written: int = 0
    complete: int = 0
    replaced: int = 0

    def __str__(self) -> str:
        before = f"; {self.complete} had their files before" if self.complete else ""
        return f"{self.written} of {self.pictures} pictures {'was' if self.written == 1 else 'were'} written{before}"


def explain_pictures(args: ExplainArgs) -> None:
    """Explains the pictures in their order, writes and prints each. Raises OnnxCamError."""
    if args.watch:
        from onnxcam.cli.watching import watch_folder

        watch_folder(args)
        return
    calls = by_input(args)
    with printer(json=args.json, quiet=args.quiet) as shows:
        for tally in [_explain(one, shows, name) for one, name in calls]:
            if tally.failures:
                raise SkippedPictures(tally)


def _explain(args: ExplainArgs, shows: Shows, input_name: str) -> Tally:
    """Explains the pictures of one input of the model, whose name files bear if there are several inputs."""
    begun = time.monotonic()
    contents = contents_of(args)
    job = _parsed(args, input_name)
    images = [*job.planned]
    with (
        _stoppable(job) as stop,
        progress_bar(images, quiet=args.quiet) as bar,
        open_explainer(parse_path(args.model), args, job.targets, job.method) as explainer,
    ):
        job.check(explainer)
        job.keep_beside_others(explainer)
        inputs = inputs_of(args, explainer, contents)
        if args.resume:  # the bar shows what is left
            images[:] = job.without_complete(inputs)
            job.tally.complete = len(job.planned) - len(images)

        def failed(image: Path, error: OnnxCamError) -> None:
            if not args.keep_going:
                raise _last(error, image, job.tally)
            job.tally.failures.append(named(error, image))

        show = shows.several if job.is_several else shows.single
        explain_images(images, job, Opened(explainer, inputs, stop), bar, show, failed)
    _close(job, args, time.monotonic() - begun)
    return job.tally


@dataclass(frozen=True, eq=False)
class Opened:
    """What the pictures of a call have in common: the model, what the files depend on, and how signals end it."""

    explainer: "Explainer"
    inputs: Inputs
    stop: Stop


def explain_images(
    images: Sequence[Path],
    job: "Job",
    opened: Opened,
    bar: ProgressBar,
    show: Show,
    failed: Callable[[Path, OnnxCamError], None],
) -> None:
    """Explains pictures in their order, writes their files as planned, and shows them. failed: takes what went wrong.

    Raises OnnxCamError for files that cannot be written.
    """
    from onnxcam.explainer.prefetch import explain_each

    explainer, inputs = opened.explainer, opened.inputs
    pictures = ((job.begun(image, inputs), job.targets.targets) for image in images)
    progress = job.measuring.counted(bar.begin)
    with closing(explain_each(explainer, pictures, progress=progress, answers=job.answers)) as results:
        job.measuring.check(explainer)
        for image, explained in zip(images, results, strict=True):
            result, metrics = job.measuring.measured(explainer, explained, image)
            error = result.error or job.appeared(image, inputs)
            if error is not None:
                inputs.forget(image)
                failed(image, error)
                continue
            with opened.stop.deferred():
                result = _signed(result, inputs.of(image))
                job.tally.replaced += image in job.replaced
                job.replaced.discard(image)
                _write(result, metrics, image, job)
                with bar.hidden(), _counted(job.tally):
                    show(result.saliencies, job.planned[image], metrics, result.answers)


@dataclass(frozen=True, eq=False)
class Job:
    """What the words say. planned: the files of each picture, for each target by the name of the format.

    names: how they are called. folders: of each picture, below -o; none of --watch, which plans them as they come.
    replaces: whether files of another call may be replaced; replaced: the pictures whose files are there from one.
    answers: how many of the model's best answers are shown. own: what --watch wrote, which it replaces when the picture
    changes; None for a call that explains each picture once.
    """

    targets: "ParsedTargets"
    method: "Method"
    style: "Style"
    measuring: Measuring
    planned: dict[Path, list[dict[str, Path]]]
    tally: Tally
    has_folders: bool
    names: FileNames
    folders: Mapping[Path, PurePath] = field(default_factory=dict)
    replaces: bool = False
    answers: int = 0
    replaced: set[Path] = field(default_factory=set)
    own: "OwnFiles | None" = None

    @property
    def is_several(self) -> bool:
        """Whether a folder or several pictures were named."""
        return self.has_folders or self.tally.pictures > 1

    def check(self, explainer: "Explainer") -> None:
        """Raises OnnxCamError for a class that the model has not, so that it is said once."""
        from onnxcam.explainer.targets.resolving import check_classes

        check_classes(self.targets.targets, explainer.anatomy.logits, explainer.labels)

    def keep_beside_others(self, explainer: "Explainer") -> None:
        """Plans other names where files of another model or preset are there. Raises OutputError."""
        from onnxcam.outputs.atomic import check_writable

        planned = self.names.beside_others([*self.folders], [*self.folders.values()], explainer)
        check_writable(path for files in planned for paths in files for path in paths.values())
        self.planned.update(zip(self.folders, planned, strict=True))

    def begun(self, image: Path, inputs: Inputs) -> "Path | OnnxCamError":
        """The picture, which is read next; an error in its place where a file of another call would be replaced."""
        other = inputs.begin(image, self.planned[image])
        if other is None:
            return image
        if not self._may_replace(image):
            return refused(other)
        self.replaced.add(image)
        return image

    def appeared(self, image: Path, inputs: Inputs) -> OutputError | None:
        """An error where a file of another call came while the picture was explained."""
        other = None if self.replaces else inputs.of_another_call(image, self.planned[image])
        return refused(other) if other is not None and not self._may_replace(image) else None

    def _may_replace(self, image: Path) -> bool:
        """Whether files of another call may be replaced, or all that are there were written by this run of --watch."""
        return self.replaces or (self.own is not None and self.own.are_all(image, self.paths(image)))

    def paths(self, image: Path) -> list[Path]:
        """All files of a picture."""
        return [path for files in self.planned[image] for path in files.values()]

    def has_files(self, image: Path) -> bool:
        """Whether all files of a picture are there, whatever they were made of."""
        return all(path.is_file() for path in self.paths(image))

    def without_complete(self, inputs: Inputs) -> list[Path]:
        """The pictures that are left to explain: those that have no files of the same inputs."""
        return [
            image
            for image, files in self.planned.items()
            if not (self.has_files(image) and inputs.are_explained(image, files))
        ]

    @property
    def tells(self) -> bool:
        """Whether the files say what they were made of, so that --resume can go on with the others."""
        return any(set(files) - {"npy"} for planned in self.planned.values() for files in planned)


def _parsed(args: ExplainArgs, input_name: str) -> Job:
    """The words of the command line, checked before anything is opened. Raises OnnxCamError."""
    from onnxcam.outputs.atomic import check_writable
    from onnxcam.outputs.completeness import check_tells
    from onnxcam.outputs.formats import check_drawable

    style, targets, method = parse_style(args.files), parse_targets(args.targets), build_method(args.method)
    out = parse_output(args.files.out)
    listing = picture_tree(args.images, keep_going=args.keep_going, recursive=args.recursive, out=out)
    images = listing.images
    tally = Tally(len(images) + len(listing.failures), listing.failures)
    requests = parse_requests(args.measuring, tally.pictures)
    style = replace(style, truth=requests.boxes if requests is not None else ())
    if not images:
        raise tally.failures[0] if len(tally.failures) == 1 else SkippedPictures(tally)
    names = FileNames(args, targets, method, input_name)
    planned = names.plan(images, [*listing.folders.values()])
    check_drawable(planned[0][0])
    check_writable(path for files in planned for paths in files for path in paths.values())
    if args.resume:
        check_tells(planned[0][0], "--resume")
    files = dict(zip(images, planned, strict=True))
    measuring = Measuring(targets.targets, requests)
    return Job(
        targets,
        method,
        style,
        measuring,
        files,
        tally,
        listing.has_folders,
        names,
        listing.folders,
        replaces=args.files.overwrite,
        answers=answers_of(args),
    )


def answers_of(args: ExplainArgs) -> int:
    """How many of the model's best answers are shown of a picture."""
    return 0 if args.quiet and not args.json else COUNT


def _signed(result: "PictureResult", inputs_sha256: str | None) -> "PictureResult":
    """The result with maps that say what they were made of."""
    return replace(
        result,
        saliencies=[
            replace(one, provenance=replace(one.provenance, inputs_sha256=inputs_sha256)) for one in result.saliencies
        ],
    )


def _close(job: Job, args: ExplainArgs, seconds: float) -> None:
    """Says how much was done, of several pictures, and where files were there before.

    Beside --json it is on standard error, and only where files were there.
    """
    if args.quiet or not (job.is_several or job.tally.complete or job.tally.replaced):
        return
    line = closing_line(job.tally, len(job.tally.failures), seconds, args.files.out)
    if not args.json:
        print_lines([line])
    elif args.resume or job.tally.replaced:
        print_note(line)


def closing_line(tally: Tally, skipped: int, seconds: float, out: str | None) -> str:
    """14 pictures, 2 skipped, 3.1 s, maps/"""
    replaced = f" ({tally.replaced} replaced: made of another picture, model or options)" if tally.replaced else ""
    parts = [f"{tally.written} picture{'' if tally.written == 1 else 's'}{replaced}"]
    parts += [f"{tally.complete} complete before"] if tally.complete else []
    parts += [f"{skipped} skipped"] if skipped else []
    return ", ".join([*parts, f"{seconds:.1f} s", _place(out)])


def _place(out: str | None) -> str:
    """Where the files of several pictures are: the folder as it was given, or that of the file in whose names each has
    its own."""
    if out is None or out.endswith(("/", os.sep)) or os.path.isdir(out):
        return out or "in the working directory"
    return f"{folder}/" if (folder := os.path.dirname(out)) else "in the working directory"


def _write(result: "PictureResult", metrics: "Sequence[Mapping[str, Measurement]]", image: Path, job: Job) -> None:
    """Writes all files of a picture, or none. metrics: of each target."""
    from onnxcam.outputs.atomic import write_together
    from onnxcam.outputs.formats import FORMATS

    try:
        write_together(
            {
                path: FORMATS[name].write(saliency, result.original, job.style, measured)
                for saliency, measured, paths in zip(result.saliencies, metrics, job.planned[image], strict=True)
                for name, path in paths.items()
            }
        )
    except OnnxCamError as error:
        raise _last(error, image, job.tally) from None
    job.tally.written += 1
    if job.own is not None:
        job.own.wrote(image, job.paths(image))


@contextmanager
def _stoppable(job: Job) -> Iterator[Stop]:
    """Says what was written when a signal or a closed standard output ends the run."""
    try:
        with stoppable() as stop:
            yield stop
    except SystemExit:
        done = job.tally.written + job.tally.complete
        more = "; --resume goes on with the others" if 0 < done < job.tally.pictures and job.tells else ""
        print_note(f"stopped: {job.tally}{more}")
        raise


@contextmanager
def _counted(tally: Tally) -> Iterator[None]:
    """Says what was written where standard output takes no more."""
    try:
        yield
    except OutputError as error:
        raise OutputError(f"{error}; {tally}") from None


def named(error: OnnxCamError, image: Path) -> OnnxCamError:
    """The error with its picture's name, and without its traceback, whose frames hold arrays."""
    return type(error)(f"{image}: {str(error).removeprefix(f'{image}: ')}")


def _last(error: OnnxCamError, image: Path, tally: Tally) -> OnnxCamError:
    """The error that ends a run: it names the picture and says what was written before it."""
    if tally.pictures == 1:
        return error
    hint = " (--keep-going leaves such a picture out)" if isinstance(error, PictureError) else ""
    return type(error)(f"{named(error, image)}; {tally}{hint}")


class SkippedPictures(PictureError):
    """Pictures that --keep-going left out. lines: how many, and why each."""

    def __init__(self, tally: Tally) -> None:
        count = f"skipped {len(tally.failures)} of {tally.pictures} pictures:"
        self.lines = (count, *map(str, tally.failures))
        super().__init__("\n  ".join(self.lines))
