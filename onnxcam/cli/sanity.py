"""`onnxcam sanity`: does the map of a method change when the model's weights are drawn again?"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from onnxcam.cli.groups import command
from onnxcam.cli.isolated import ran_isolated
from onnxcam.cli.opening import open_explainer
from onnxcam.cli.overwriting import call_sha256, check_same_call
from onnxcam.cli.parsing import (
    build_methods,
    files_of,
    parse_integers,
    parse_limits,
    parse_output,
    parse_path,
    parse_targets,
)
from onnxcam.cli.pictures import list_pictures
from onnxcam.cli.printing import json_text, print_json, print_lines, print_note
from onnxcam.cli.progress import share_bar
from onnxcam.cli.sanity_options import SanityArgs
from onnxcam.cli.sanity_summary import sanity_lines
from onnxcam.cli.stopping import stoppable
from onnxcam.errors import OptionError

if TYPE_CHECKING:
    from onnxcam.evaluation.sanity_report import SanityOptions, SanityReport
    from onnxcam.explainer.explainer import Explainer
    from onnxcam.methods.blocks import Method
    from onnxcam.surgeon.loading import ModelFile

RECORD = ".json"


@command
def sanity(args: SanityArgs) -> None:
    """Check that maps depend on the weights: draw these again and compare the maps (Adebayo 2018).

    Takes 3 or more pictures, and several methods with commas, such as --method grad-cam,guided-backprop.
    Prints a verdict on each method: pass, fail or undecided. Any verdict is a result, so the exit code is 0.
    """
    if ran_isolated(args.engine.isolated, args.limits):
        return
    from onnxcam.evaluation.sanity_record import sanity_record
    from onnxcam.outputs.atomic import check_writable, write_together
    from onnxcam.outputs.formats import INPUTS_KEY
    from onnxcam.outputs.paths import check_inputs

    options, methods = _options(args), build_methods(args.method)
    images, _ = list_pictures(args.images, keep_going=False)
    files = _writable(_destinations(args), args)
    model, read = parse_path(args.model), [*images, *files_of(args)]
    check_inputs(files, [model, *read])
    check_writable(files)
    call = call_sha256("sanity", asdict(args), [model], read)
    check_same_call(files, call, overwrite=args.overwrite)
    if not args.quiet:
        _print_foreseen(options, len(images))
    report = _report(args, methods, images, options)
    record = {**sanity_record(report), INPUTS_KEY: call, "outputs": list(map(str, files))}
    check_same_call(files, call, overwrite=args.overwrite)  # others may have written meanwhile
    write_together({path: _content(report, record, path, call) for path in files})
    if args.json:
        print_json(record)
    elif not args.quiet:
        print_lines(sanity_lines(report, files))


def _options(args: SanityArgs) -> "SanityOptions":
    """Raises OptionError for a word that is not known and a number that cannot be read."""
    from onnxcam.evaluation.sanity_report import SanityOptions

    if args.method.step is not None:
        raise OptionError("a step graph holds the intact weights, so it cannot serve models with others")
    steps = None if args.steps.strip().lower() == "all" else parse_integers(args.steps, "steps")
    if steps is not None and len(steps) > 1:
        raise OptionError(f"--steps {args.steps!r} is one number, or all")
    return SanityOptions(
        args.order,
        args.redraw,
        tuple(parse_integers(args.seed, "seed")),
        steps[0] if steps is not None else None,
    )


def _print_foreseen(options: "SanityOptions", pictures: int) -> None:
    """Says before the work that no map will decide anything."""
    from onnxcam.evaluation.sanity_report import without_verdict

    reason = without_verdict(pictures, options.order, None)
    if reason is not None:
        print_note("note: the verdict will be undecided:", [reason])
        return
    reason = without_verdict(pictures, options.order, options.steps)
    if reason is not None:
        print_note("note: the verdict will be undecided, unless the model has no more layers:", [reason])


def _report(
    args: SanityArgs, methods: "Sequence[Method]", images: Sequence[Path], options: "SanityOptions"
) -> "SanityReport":
    from onnxcam.evaluation.sanity import sanity_check
    from onnxcam.surgeon.loading import read_model

    targets = parse_targets(args.targets)
    if len(targets.targets) > 1:
        raise OptionError("a sanity check follows one target of each picture; give one")

    def opener(file: "ModelFile", method: "Method", layer: Sequence[str] | None) -> "Explainer":
        return open_explainer(file, args, targets, method, layer=layer, cache=False)

    with stoppable(), share_bar("maps before and after", quiet=args.quiet) as progress:
        return sanity_check(
            read_model(parse_path(args.model), parse_limits(args.limits)),
            images,
            methods,
            options,
            target=targets.targets[0],
            opener=opener,
            progress=progress,
        )


def _destinations(args: SanityArgs) -> list[Path]:
    """The files that -o names. Raises OutputError for a file of another kind."""
    from onnxcam.evaluation.sanity_figure import SUFFIXES
    from onnxcam.outputs.paths import is_folder, named_file

    stem, out = f"{parse_path(args.model).stem}.sanity", parse_output(args.out)
    if out is None:
        return [Path(f"{stem}{SUFFIXES[0]}")]
    if is_folder(out):
        return [Path(out, f"{stem}{SUFFIXES[0]}"), Path(out, f"{stem}{RECORD}")]
    return [named_file(out, "the figure or the record", [*SUFFIXES, RECORD])]


def _writable(files: list[Path], args: SanityArgs) -> list[Path]:
    """The files; without the figure where matplotlib is missing and none was named: the numbers come all the same.

    Raises OptionError for a figure that -o names then.
    """
    from onnxcam.evaluation.sanity_figure import check_matplotlib

    records = [path for path in files if path.suffix.lower() == RECORD]
    if records == files:
        return files
    try:
        check_matplotlib()
    except OptionError as missing:
        if args.out is not None and not records:
            raise
        if records or not (args.json or args.quiet):
            print_note(f"note: no figure is drawn; {missing}")
        return records
    return files


def _content(report: "SanityReport", record: object, path: Path, call: str) -> bytes:
    from onnxcam.evaluation.sanity_figure import sanity_figure
    from onnxcam.outputs.formats import INPUTS_TEXT

    suffix = path.suffix.lower()
    if suffix == RECORD:
        return (json_text(record) + "\n").encode()
    return sanity_figure(report, suffix, {INPUTS_TEXT: call})
