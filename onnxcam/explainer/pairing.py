"""Pairs the pictures of Explainer.batch() with their targets."""

from collections.abc import Iterable, Iterator, Sized

from onnxcam.errors import OptionError, PictureError
from onnxcam.explainer.targets.kind import TargetLike, Targets
from onnxcam.explainer.targets.resolving import is_sequence, target_list
from onnxcam.inputs.loader import ImageLike


def with_targets(
    images: Iterable[ImageLike], targets: Targets | TargetLike
) -> Iterator[tuple[ImageLike, list[TargetLike]]]:
    """Pairs each picture with its target. Raises OptionError, before the first picture where their number is known."""
    if not isinstance(images, Iterable) or getattr(images, "ndim", 1) == 0:
        raise PictureError(f"batch() takes a list of pictures or an array of them, not {type(images).__name__}")
    if isinstance(images, Sized) and len(images) == 0 and _is_empty(targets):
        return iter(())
    requested = target_list(targets)
    if not is_sequence(targets):
        return ((image, requested) for image in images)
    if isinstance(images, Sized) and len(images) != len(requested):
        raise _unpaired(len(requested), f"{len(images)} pictures")
    return _paired(images, requested)


def _is_empty(targets: object) -> bool:
    return is_sequence(targets) and isinstance(targets, Sized) and len(targets) == 0


def _paired(images: Iterable[ImageLike], targets: list[TargetLike]) -> Iterator[tuple[ImageLike, list[TargetLike]]]:
    count = 0
    for count, image in enumerate(images, start=1):
        if count > len(targets):
            raise _unpaired(len(targets), "more pictures")
        yield image, [targets[count - 1]]
    if count < len(targets):
        raise _unpaired(len(targets), f"{count} pictures")


def _unpaired(targets: int, pictures: str) -> OptionError:
    return OptionError(f"{targets} targets for {pictures}; give one target per picture, or one for all (not in a list)")
