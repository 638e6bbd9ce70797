"""The pictures on which a compiled file is compared with an Explainer, and how far it was off. checking.py compares."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from onnxcam.errors import OptionError
from onnxcam.explainer.explainer import Explainer, opened_model
from onnxcam.inputs import bundled
from onnxcam.inputs.loader import ImageLike, ModelInput


@dataclass(frozen=True)
class Difference:
    """How far a compiled file is from the product.

    map: the largest difference of a map in [0,1]. pictures: whose maps were compared. undefined: pictures for which the
    method has no map, so that the file's is constant.
    """

    map: float
    pictures: int
    undefined: int

    @property
    def all_pictures(self) -> int:
        """Those with a map and those without."""
        return self.pictures + self.undefined


def prepared_pictures(explainer: Explainer, pictures: Sequence[ImageLike], *, raw: bool) -> tuple[ModelInput, ...]:
    """The caller's pictures as the network takes them. raw: the file takes pictures itself.

    Raises PictureError, and OptionError for a preprocessed array where the file takes pictures.
    """
    images = tuple(explainer.prepare(picture) for picture in pictures)
    if raw and (prepared := next((image.name for image in images if image.is_prepared), None)) is not None:
        raise OptionError(f"{prepared}: the file takes pictures, so it is compared on pictures; this is an array")
    return images


def photographs(explainer: Explainer, *, raw: bool) -> tuple[Path, ...]:
    """Those of the package, for a model that takes photographs."""
    opened = opened_model(explainer)
    takes_them = len(opened.size) == 2 and (raw or opened.anatomy.image.channels == 3)
    return tuple(bundled.pictures().values()) if takes_them else ()
