"""`onnxcam rewrite`: write the model that also returns its feature tensor."""

from dataclasses import asdict
from typing import Annotated

from onnxcam.cli.groups import command
from onnxcam.cli.isolated import ran_isolated
from onnxcam.cli.opening import open_options
from onnxcam.cli.options import LimitArgs, OpeningArgs
from onnxcam.cli.overwriting import call_sha256, check_same_call, signed_model
from onnxcam.cli.parsing import files_of, parse_destination, parse_limits, parse_path
from onnxcam.cli.printing import print_json, print_lines, wrapped_lines
from onnxcam.cli.shared_options import FILES, Isolated, Json, ModelPath, Overwrite, Quiet, option
from onnxcam.cli.summary import shape_text


@command
def rewrite(
    model: ModelPath,
    opening: OpeningArgs,
    limits: LimitArgs,
    out: Annotated[
        str | None,
        option(
            FILES, "FILE, or FOLDER/. Default: MODEL.cam.onnx in the working directory.", "--out", "-o", metavar="FILE"
        ),
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    json: Json = False,
    isolated: Isolated = False,
) -> None:
    """Add the feature tensor to a model's outputs and let it take any batch; its answers stay as they were."""
    if ran_isolated(isolated, limits, short=True):
        return
    from onnxcam.network.export import rewrite as rewrite_model
    from onnxcam.outputs.atomic import check_writable, write_together
    from onnxcam.outputs.paths import check_inputs
    from onnxcam.surgeon.loading import read_model

    source, allowed = parse_path(model), parse_limits(limits)
    path = parse_destination(out, f"{source.stem}.cam.onnx", "the rewritten model")
    check_inputs([path], [source, *files_of(opening)])
    check_writable([path])
    call = call_sha256("rewrite", {"opening": asdict(opening)}, [source], files_of(opening))
    check_same_call([path], call, overwrite=overwrite)
    file = read_model(source, allowed)
    rewritten = rewrite_model(file, open_options(file, opening, allowed))
    check_same_call([path], call, overwrite=overwrite)  # others may have written meanwhile
    write_together({path: signed_model(rewritten.data, call)})
    features = rewritten.anatomy.features
    if json:
        batch = {"mode": str(rewritten.batching.mode), "reason": rewritten.batching.reason}
        tensor = {"tensor": features.tensor, "shape": list(features.shape), "layout": features.layout}
        notes = [*map(str, rewritten.notes)]
        print_json({"model": str(source), "output": str(path), "features": tensor, "batch": batch, "notes": notes})
    elif not quiet:
        lines = [
            f"{path}: also returns {features.tensor}  {shape_text(features.shape)} {features.layout}",
            f"  because it is {features.reason}",
            f"  batch {rewritten.batching.mode}: {rewritten.batching.reason}",
            *(f"  note  {note}" for note in rewritten.notes),
        ]
        print_lines(wrapped_lines(lines, 4))
