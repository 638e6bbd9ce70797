"""`onnxcam predict`: the model's own best answers for each picture, without a map."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from onnxcam.cli.answers import answer_lines, answers_json
from onnxcam.cli.groups import command
from onnxcam.cli.isolated import ran_isolated
from onnxcam.cli.opening import opening_arguments
from onnxcam.cli.options import EngineArgs, LimitArgs, OpeningArgs, PreprocessingArgs
from onnxcam.cli.parsing import files_of, parse_path
from onnxcam.cli.pictures import list_pictures
from onnxcam.cli.printing import json_list, print_lines, print_note
from onnxcam.cli.shared_options import WHAT, Images, Json, Labels, ModelPath, option
from onnxcam.cli.stopping import stoppable
from onnxcam.errors import OnnxCamError, OptionError

if TYPE_CHECKING:
    from onnxcam.explainer.explainer import Explainer
    from onnxcam.outputs.saliency import ScoredTarget


@dataclass(frozen=True, kw_only=True)
class PredictArgs:
    """One call of `onnxcam predict`."""

    model: ModelPath
    images: Images
    top: Annotated[int, option(WHAT, "How many answers of each picture.", metavar="N")] = 5
    labels: Labels = None
    opening: OpeningArgs = field(default_factory=OpeningArgs)
    preprocessing: PreprocessingArgs = field(default_factory=PreprocessingArgs)
    engine: EngineArgs = field(default_factory=EngineArgs)
    limits: LimitArgs = field(default_factory=LimitArgs)
    json: Json = False


@command
def predict(args: PredictArgs) -> None:
    """Print what the model says of each picture: its five best classes, or boxes, with their probabilities.

    Any of them can be explained: `onnxcam explain --target rank2`.
    """
    if ran_isolated(args.engine.isolated, args.limits):
        return
    from onnxcam.explainer.explainer import Explainer

    if not 1 <= args.top <= 10_000:
        raise OptionError(f"--top is how many answers are printed, from 1 to 10,000, not {args.top}")
    files_of(args.opening)
    model, (images, _) = parse_path(args.model), list_pictures(args.images, keep_going=False)
    with stoppable(), Explainer(model, **opening_arguments(args, args.labels)) as explainer:
        _say_what_is_assumed(explainer)
        preset = {"name": explainer.preset.name, "origin": str(explainer.preset_origin)}
        if args.json:
            with json_list() as add:
                for image in images:
                    answers = _answers(explainer, image, args.top)
                    _say_what_is_tied(image, answers)
                    add([{"image": str(image), "preset": preset, "answers": answers_json(answers)}])
        else:
            for image in images:
                answers = _answers(explainer, image, args.top)
                print_lines(answer_lines(str(image), answers))
                _say_what_is_tied(image, answers)


def _say_what_is_assumed(explainer: "Explainer") -> None:
    """On standard error, so that a program that reads the answers is not disturbed."""
    from onnxcam.types import Source

    if explainer.preset_origin.source is Source.ASSUMED:
        name = explainer.preset.name
        print_note(f"preprocessing assumed: {name}; if that is wrong, so are the answers: --preset")


def _say_what_is_tied(image: Path, answers: "Sequence[ScoredTarget]") -> None:
    """On standard error: answers that are all alike have no order."""
    if len(answers) > 1 and all(one.kind == "classes" and one.logit == answers[0].logit for one in answers):
        print_note(
            f"{image}: the model gives these {len(answers)} classes the same score, so their order says nothing; the "
            f"preprocessing or the model may be wrong"
        )


def _answers(explainer: "Explainer", image: Path, count: int) -> "list[ScoredTarget]":
    """Raises OnnxCamError, which names the picture."""
    try:
        return list(explainer.predict(image, count))
    except OnnxCamError as error:
        raise type(error)(f"{image}: {str(error).removeprefix(f'{image}: ')}") from None
