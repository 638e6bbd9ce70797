"""`onnxcam compile`: write the model as an ONNX file that gives the class and its map."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from onnxcam.cli.compile_options import CompileArgs
from onnxcam.cli.compiled_summary import COLUMN, compiled_lines
from onnxcam.cli.groups import command
from onnxcam.cli.isolated import ran_isolated
from onnxcam.cli.options import MethodArgs
from onnxcam.cli.overwriting import call_sha256, check_same_call, signed_model, signed_text
from onnxcam.cli.parsing import (
    build_method,
    files_of,
    parse_adjustment,
    parse_destination,
    parse_image_input,
    parse_inputs,
    parse_limits,
    parse_path,
)
from onnxcam.cli.printing import print_json, print_lines, wrapped_lines
from onnxcam.cli.progress import share_bar
from onnxcam.errors import OptionError

if TYPE_CHECKING:
    from onnxcam.compiler.compiled import Compiled
    from onnxcam.methods.blocks import Method
    from onnxcam.types import Progress


@command
def compile(args: CompileArgs) -> None:
    """Write an ONNX file that gives a model's answer and its saliency map, for hosts without Python.

    The file has the model's inputs and outputs, and more: `onnxcam inspect` lists them.
    It is compared with `onnxcam explain` on pictures before it is written.
    """
    if ran_isolated(args.isolated, args.limits):
        return
    from onnxcam.outputs.atomic import check_writable, write_together
    from onnxcam.outputs.paths import check_inputs

    source, method = parse_path(args.model), _method(args)
    path, configuration = _destinations(args, source, method.name)
    paths = [path, configuration] if configuration is not None else [path]
    read = [
        *map(parse_path, args.pictures or ()),
        *([parse_path(args.labels)] if args.labels else []),
        *files_of(args.opening),
    ]
    check_inputs(paths, [source, *read])
    check_writable(paths)
    call = call_sha256("compile", asdict(args), [source], read)
    check_same_call(paths, call, overwrite=args.overwrite)
    with share_bar("building the file", quiet=args.quiet, part=_check) as progress:
        compiled = _compile(args, method, progress)
    files: dict[Path | str, bytes] = {path: signed_model(compiled.bytes, call)}
    if configuration is not None:
        files[configuration] = signed_text(compiled.triton_config(configuration.parent.name), call)
    check_same_call(paths, call, overwrite=args.overwrite)  # others may have written meanwhile
    write_together(files)
    if args.json:
        print_json({**compiled.record, "output": str(path), "notes": list(map(str, compiled.notes))})
    elif not args.quiet:
        served = [f"  triton      {configuration}"] if configuration is not None else []
        notes = (f"  note        {note}" for note in compiled.notes)
        print_lines(wrapped_lines([*compiled_lines(str(path), compiled.record), *served, *notes], COLUMN))


def _check(done: float, pictures: float) -> str:
    """What the bar says of the comparison; before it, nothing says how long building takes."""
    return f"checking picture {min(done + 1, pictures):.0f} of {pictures:.0f}"


def _destinations(args: CompileArgs, source: Path, method: str) -> tuple[Path, Path | None]:
    """The compiled file, and its config.pbtxt with --triton. Raises OnnxCamError."""
    if args.triton is None:
        return parse_destination(args.out, f"{source.stem}.explained.onnx", "the compiled model"), None
    from onnxcam.compiler.triton import model_name, repository_paths

    if args.out is not None:
        raise OptionError("--triton writes the file into its folder; leave out -o")
    configuration, path = repository_paths(parse_path(args.triton), model_name(source.name, method))
    return path, configuration


def _method(args: CompileArgs) -> "Method":
    """Raises OnnxCamError."""
    return build_method(
        MethodArgs(
            method=args.method, convention=args.convention, variant=args.variant, fill=args.fill, options=args.options,
            budget=args.budget,
        )
    )  # fmt: skip


def _compile(args: CompileArgs, method: "Method", progress: "Progress | None") -> "Compiled":
    """Raises OnnxCamError."""
    from onnxcam.compiler import compiled
    from onnxcam.inputs.presets import parse_size

    opening = args.opening
    layers = opening.layer or ["auto"]
    if len(layers) > 1:
        raise OptionError("a compiled file explains one layer; give one --layer")
    return compiled.compile(
        parse_path(args.model),
        method,
        target=args.target,
        raw=args.raw,
        pictures=[parse_path(picture) for picture in args.pictures or ()],
        preset=args.preprocessing.preset,
        adjust=parse_adjustment(args.preprocessing),
        layer=layers[0],
        layout=opening.layout,
        image_input=parse_image_input(opening.image_input),
        size=parse_size(opening.size) if opening.size is not None else None,
        output=opening.output,
        inputs=parse_inputs(opening.inputs or ()),
        labels=args.labels,
        limits=parse_limits(args.limits),
        progress=progress,
    )
