"""`onnxcam explain --watch`: the pictures of a folder as they come, with one open model, until a signal ends it.

A picture that has its files is left out, as with --resume; one that cannot be explained is named, and tried again when
it changes. Memory stays the same however many pictures come.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath

from onnxcam.cli.explain import Job, Opened, Tally, answers_of, closing_line, explain_images, named
from onnxcam.cli.explain_options import ExplainArgs
from onnxcam.cli.failures import error_record
from onnxcam.cli.file_names import FileNames
from onnxcam.cli.measuring import Measuring
from onnxcam.cli.opening import open_explainer
from onnxcam.cli.parsing import (
    build_method,
    parse_output,
    parse_path,
    parse_requests,
    parse_style,
    parse_targets,
)
from onnxcam.cli.printing import json_lines, print_lines, print_note
from onnxcam.cli.progress import progress_bar
from onnxcam.cli.resume import Contents, contents_of, inputs_of
from onnxcam.cli.stopping import Stop, stoppable
from onnxcam.cli.summary import Show, printer, show_records
from onnxcam.cli.watched_folder import Arrivals, OwnFiles, WatchedFolder
from onnxcam.errors import OnnxCamError, OptionError, OutputError, PictureError

MOST = 100
"""Pictures that are explained between two looks at the folder."""

Refuse = Callable[[Path, OnnxCamError], None]
"""Says why a picture is skipped."""


def watch_folder(args: ExplainArgs) -> None:
    """Explains the pictures of a folder, and those that come, until a signal raises SystemExit. Raises OnnxCamError."""
    with _shown(args) as (show, refuse):
        contents = contents_of(args)
        folder, job = _parsed(args)
        arrivals, begun = Arrivals(), time.monotonic()
        try:
            with stoppable() as stop, folder.changes() as changes:
                next(changes, None)  # watched from here on, so that nothing is missed that comes after the list
                stop.raise_again()
                listed = folder.listed()
                with _opened(args, job, contents, stop) as opened:
                    if not args.quiet:
                        print_note(f"watching {folder.root} (Ctrl-C ends it)")
                    _Watch(args, folder, job, opened, arrivals, show, refuse).run(listed, changes)
                stop.raise_again()
        except SystemExit:
            _close(args, job.tally, arrivals.skipped, time.monotonic() - begun)
            raise


@contextmanager
def _opened(args: ExplainArgs, job: Job, contents: Contents, stop: Stop) -> Iterator[Opened]:
    """The model, open for the block; the bar of its opening ends before."""
    with ExitStack() as stack:
        with progress_bar([], quiet=args.quiet):
            explainer = stack.enter_context(open_explainer(parse_path(args.model), args, job.targets, job.method))
        job.check(explainer)
        yield Opened(explainer, inputs_of(args, explainer, contents), stop)


@dataclass(frozen=True, eq=False)
class _Watch:
    """A folder and the open model that explains what comes into it."""

    args: ExplainArgs
    folder: WatchedFolder
    job: Job
    opened: Opened
    arrivals: Arrivals
    show: Show
    refuse: Refuse

    def run(self, listed: Sequence[Path], changes: Iterator[list[Path]]) -> None:
        """listed: the pictures that are there. changes: what comes behind them."""
        before = set(listed)
        self._note(listed)
        for paths in changes:
            self._note(paths)
            images = self.arrivals.ready(time.monotonic(), MOST)
            if images:
                self._explain(images, before)

    def _note(self, paths: Sequence[Path]) -> None:
        """Notes what may have come, changed or gone at some paths."""
        now = time.monotonic()
        for path in paths:
            try:
                images = self.folder.below(path)
            except OnnxCamError as error:
                if path.exists():
                    self.refuse(path, error)
                continue
            for image in images:
                self.arrivals.changed(image, now)
        self.arrivals.gone({path for path in paths if not os.path.lexists(path)})

    def _explain(self, images: Sequence[Path], before: set[Path]) -> None:
        """Explains what has no files. before: the pictures that were there first, without those that were looked at."""
        from onnxcam.outputs.completeness import is_written_map

        pictures = [image for image in images if not is_written_map(image)]
        self.job.planned.update(self._planned(pictures))
        left = self.job.without_complete(self.opened.inputs)
        self.job.tally.complete += len(before.intersection(self.job.planned).difference(left))
        before.difference_update(images)
        self.job.tally.pictures += len(left)
        if left:
            with progress_bar(left, quiet=self.args.quiet, text="reading") as bar:
                explain_images(left, self.job, self.opened, bar, self.show, self._failed)
        self.job.planned.clear()

    def _planned(self, images: Sequence[Path]) -> Mapping[Path, list[dict[str, Path]]]:
        """The files of pictures, which a picture of the same name and another ending changes.

        What the run wrote of a picture before the other came keeps its name. A picture whose files cannot be written is
        refused.
        """
        from onnxcam.outputs.atomic import check_writable

        listed = self.folder.with_namesakes(images)
        folders = [self.folder.within(image) for image in listed]
        try:
            plan = self.job.names.beside_others(listed, folders, self.opened.explainer)[: len(images)]
            check_writable(path for files in plan for paths in files for path in paths.values())
        except OutputError as error:
            if len(images) > 1:
                return {image: files for one in images for image, files in self._planned([one]).items()}
            self._failed(images[0], error)
            return {}
        return {image: self._as_written(image, files) for image, files in zip(images, plan, strict=True)}

    def _as_written(self, image: Path, files: list[dict[str, Path]]) -> list[dict[str, Path]]:
        """The files of a picture, or those that the run wrote of it while no other had its name."""
        written = self.job.own.paths(image) if self.job.own is not None else set()
        if not written or written == {path for one in files for path in one.values()}:
            return files
        (alone,) = self.job.names.beside_others([image], [self.folder.within(image)], self.opened.explainer)
        return alone if written == {path for one in alone for path in one.values()} else files

    def _failed(self, image: Path, error: OnnxCamError) -> None:
        """Names a picture that cannot be explained; what cannot be read is tried a second time before."""
        if isinstance(error, PictureError):
            if not self.arrivals.unreadable(image, time.monotonic()):
                return
        else:
            self.arrivals.refused(image)
        self.refuse(image, named(error, image))


@contextmanager
def _shown(args: ExplainArgs) -> Iterator[tuple[Show, Refuse]]:
    """How explanations and errors of pictures are printed: with --json a record a line, so that a pipe can be read."""
    if not args.json:
        with printer(json=False, quiet=args.quiet) as shows:
            yield shows.several, lambda image, error: print_note(f"skipped {error}")
        return
    with json_lines() as add:

        def refuse(image: Path, error: OnnxCamError) -> None:
            print_note(f"skipped {error}")
            add([{"skipped": str(image), **error_record(error)}])

        yield show_records(add), refuse


def _parsed(args: ExplainArgs) -> tuple[WatchedFolder, Job]:
    """The words of the command line, checked before anything is opened. Raises OnnxCamError."""
    from onnxcam.outputs.atomic import check_writable
    from onnxcam.outputs.completeness import check_tells
    from onnxcam.outputs.formats import check_drawable
    from onnxcam.outputs.paths import is_folder

    targets, method, out = parse_targets(args.targets), build_method(args.method), parse_output(args.files.out)
    if len(args.images) != 1:
        raise OptionError(f"--watch takes one folder, into which pictures come, and {len(args.images)} paths are given")
    if out is not None and not is_folder(out):
        raise OptionError(f"-o {out}: --watch writes the files of many pictures; end a folder's name in /")
    if len(set(args.opening.image_input or ())) > 1:
        raise OptionError("--watch makes one map of each picture; leave one --image-input")
    if args.measuring.truth:
        raise OptionError("--truth is where the object is on one picture, and --watch takes many; leave one out")
    folder = WatchedFolder.of(parse_path(args.images[0]), recursive=args.recursive, out=out)
    measuring = Measuring(targets.targets, parse_requests(args.measuring, 1))
    names = FileNames(args, targets, method)
    job = Job(
        targets, method, parse_style(args.files), measuring, {}, Tally(0, []), True, names,
        replaces=args.files.overwrite, answers=answers_of(args), own=OwnFiles(),
    )  # fmt: skip
    (files,) = names.plan([folder.root / "picture.png"], [PurePath()])
    check_drawable(files[0])
    check_tells(files[0], "--watch")
    check_writable(path for paths in files for path in paths.values())
    return folder, job


def _close(args: ExplainArgs, tally: Tally, skipped: int, seconds: float) -> None:
    """Says how much was done; on standard error beside --json."""
    if not args.quiet:
        line = closing_line(tally, skipped, seconds, args.files.out)
        print_note(line) if args.json else print_lines([line])
