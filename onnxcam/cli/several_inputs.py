"""`--image-input A --image-input B`: one explanation for each input of a model that takes several pictures.

The picture of the command line belongs to the one input that has no --input NAME=PICTURE. Each input is explained with
the pictures of the others fixed.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from onnxcam.cli.explain_options import ExplainArgs
from onnxcam.errors import OptionError


def by_input(args: ExplainArgs) -> list[tuple[ExplainArgs, str]]:
    """(the arguments of a call that explains one input, the input's name; "" if it is the only one) of each input.

    Raises OptionError where it is not clear which picture belongs to which input.
    """
    names = list(dict.fromkeys(args.opening.image_input or ()))
    if len(names) < 2:
        return [(args, "")]
    if args.measuring.truth:
        raise OptionError("--truth is where the object is on one picture; explain one --image-input at a time with it")
    texts = args.opening.inputs or []
    given = {text.partition("=")[0]: text for text in texts}
    rest = [name for name in names if name not in given]
    if len(rest) != 1 or len(args.images) != 1:
        raise OptionError(
            f"a map of each of the inputs {', '.join(names)} takes one picture, which belongs to the one of them "
            f"without --input NAME=PICTURE; {_count(rest, 'of them', 'have', 'has')} none, and "
            f"{_count(args.images, 'pictures', 'are', 'is')} given"
        )
    pictures = {name: given[name].partition("=")[2] if name in given else args.images[0] for name in names}
    calls = []
    for name in names:
        others = [f"{rest[0]}={args.images[0]}"] if name != rest[0] else []
        inputs = [text for text in texts if text != given.get(name)] + others
        opening = replace(args.opening, image_input=[name], inputs=inputs)
        files = replace(args.files, out=_beside(args.files.out, name))
        calls.append((replace(args, images=[pictures[name]], opening=opening, files=files), name))
    return calls


def _count(things: Sequence[str], what: str, plural: str, single: str) -> str:
    return f"{len(things)} {what} {single if len(things) == 1 else plural}"


def _beside(out: str | None, name: str) -> str | None:
    """The file that -o names, with the input's name in it; a folder as it is."""
    from onnxcam.outputs.paths import is_folder, slug

    if out is None or is_folder(out) or not Path(out).suffix:
        return out
    path = Path(out)
    return str(path.with_name(f"{path.stem}.{slug(name)}{path.suffix}"))
