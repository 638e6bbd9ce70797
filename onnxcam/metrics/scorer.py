"""Scorer: what the model gives a picture's targets when parts of the picture are changed.

Explainer.scorer() makes one. All that it returns, the score of the whole picture included, comes from one graph, so
that differences are the model's and not those of two ways to compute.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.engine.forking import Lock
from onnxcam.errors import OptionError
from onnxcam.inputs.presets import Preset
from onnxcam.limits import brief, is_whole
from onnxcam.metrics.arguments import array_of
from onnxcam.network.gradients import GradientRunner
from onnxcam.network.packing import select_targets
from onnxcam.outputs.saliency import ScoredTarget
from onnxcam.resampling import upsample
from onnxcam.surgeon.graphs import tensor_names
from onnxcam.surgeon.graphs.tensor_names import FROM, RANK, TO
from onnxcam.types import Arrays, Floats, Image, Indices, Placement, Progress, Score, Scores

Rows = Callable[[Indices], Floats]
"""Gives the images (n,C,*size) of the rows of n indices."""
LARGEST_RANK = 2**31 - 1


@dataclass
class _Passes:
    """Forward passes of a Scorer and those made from it by only()."""

    lock: Lock = field(default_factory=Lock)
    count: int = 0

    def add(self, count: int) -> None:
        with self.lock:
            self.count += count


class Scorer:
    """Scores of one picture with parts of it changed. Made by Explainer.scorer(); valid while that is open.

    Attributes, all read-only: image (C,*size) float32, preprocessed; targets; placement, where the image lies on the
    picture (None if it came preprocessed); preset, the preprocessing (None if the picture came preprocessed and none
    was given); score, what is measured: the probability, or the logit. Scores are (N,T) float32, one row a changed
    image and one column a target. Threads may share it. It raises InferenceError once its Explainer is closed.
    """

    def __init__(
        self,
        runner: GradientRunner,
        feeds: Arrays,
        image: Image,
        targets: Sequence[ScoredTarget],
        placement: Placement | None,
        preset: Preset | None,
        score: Score = Score.PROBABILITY,
        passes: _Passes | None = None,
    ) -> None:
        """feeds: the targets and the extra inputs, as the scoring graph takes them."""
        self._runner, self._feeds = runner, feeds
        self.image, self.targets = image, tuple(targets)
        self.placement, self.preset, self.score = placement, preset, score
        self._passes = passes if passes is not None else _Passes()
        self._whole: Floats | None = None

    @property
    def size(self) -> tuple[int, ...]:
        """The image's sides: (H,W), (W,) of a signal, (D,H,W) of a volume."""
        return tuple(self.image.shape[1:])

    @property
    def passes(self) -> int:
        """Images that went through the model so far, for this Scorer and those made from it by only()."""
        return self._passes.count

    @property
    def whole(self) -> Floats:
        """(T,) scores of the whole picture."""
        if self._whole is None:
            self._whole = self.ranks(np.zeros(self.size, np.int32), [0], [1])[0]
        return self._whole

    def only(self, target: int) -> "Scorer":
        """The Scorer of one of the targets, by its index from 0. Raises OptionError for one that is not there."""
        if not is_whole(target, 0) or target >= len(self.targets):
            raise OptionError(f"there are {len(self.targets)} targets, numbered from 0, and no target {brief(target)}")
        feeds = {**self._feeds, **select_targets(self._feeds, np.asarray([target]))}
        return Scorer(
            self._runner, feeds, self.image, self.targets[target : target + 1], self.placement, self.preset, self.score,
            self._passes,
        )  # fmt: skip

    def ranks(
        self,
        ranks: npt.ArrayLike,
        starts: npt.ArrayLike,
        stops: npt.ArrayLike,
        *,
        fill: Image | None = None,
        progress: Progress | None = None,
    ) -> Scores:
        """(N,T): row i keeps the pixels with starts[i] <= rank < stops[i]; the others take the fill's.

        ranks: (*size) whole numbers, such as the place of each pixel in the order of a map. starts, stops: (N,) whole
        numbers. fill: (C,*size), zeros if None. Raises OptionError for what does not fit.
        """
        first, stop = _whole_numbers("starts", starts), _whole_numbers("stops", stops)
        order = _whole_numbers("ranks", ranks)
        if order.shape != self.size:
            raise OptionError(f"ranks have the image's shape {self.size}, not {order.shape}")
        if first.ndim != 1 or first.shape != stop.shape:
            raise OptionError(f"starts and stops are as many numbers each, not {first.shape} and {stop.shape}")
        shared = {RANK: order[None, None], tensor_names.IMAGE: self._in_layout(self.image[None])}

        def rows(chunk: Indices) -> Arrays:
            return {FROM: first[chunk], TO: stop[chunk]}

        return self._run(shared, rows, len(first), fill, progress)

    def masks(self, masks: npt.ArrayLike, *, fill: Image | None = None, progress: Progress | None = None) -> Scores:
        """(N,T) of the picture seen through each mask: image * mask + fill * (1 - mask).

        masks: (N,*grid) in [0,1], of any grid; enlarged linearly to the image's size, half-pixel centres, and used as
        they are where they have it. fill: (C,*size), zeros if None. Raises OptionError for masks that do not fit.
        """
        array = array_of("masks", masks)
        if array.ndim != 1 + len(self.size) or array.dtype.kind not in "fiub" or 0 in array.shape[1:]:
            raise OptionError(
                f"masks are numbers of shape (N, {len(self.size)} sides), not {array.dtype} {array.shape}"
            )
        if array.size and not (float(array.min()) >= 0 and float(array.max()) <= 1):  # NaN fails it too
            raise OptionError("masks lie in [0,1]: 1 keeps a pixel, 0 removes it")
        replacement = self._checked_fill(fill)

        def rows(chunk: Indices) -> Floats:
            kept = upsample(np.asarray(array[chunk], np.float32), self.size)[:, None]
            images = self.image * kept
            return images if replacement is None else images + replacement * (1 - kept)

        return self.images(rows, count=len(array), progress=progress)

    def images(
        self, images: npt.ArrayLike | Rows, *, count: int | None = None, progress: Progress | None = None
    ) -> Scores:
        """(N,T) of any images of this model, preprocessed.

        images: (N,C,*size), or a function that gives the images of the rows of some indices, of which there are `count`
        then; it is called from several threads, chunk by chunk, so that few images are in memory. Raises OptionError
        for images that do not fit, and what the function raises.
        """
        if callable(images):
            if not is_whole(count, 0):
                raise OptionError(
                    f"a function that makes images needs `count`, the number of rows: a whole number from 0, not "
                    f"{brief(count)}"
                )
            make: Rows = images
        else:
            array = self._checked_images(images, None)
            count, make = len(array), partial(_rows_of, array)
        ones = np.ones(1, np.int32)
        shared = {RANK: np.zeros((1, 1, *self.size), np.int32)}

        def rows(chunk: Indices) -> Arrays:
            made = self._checked_images(make(chunk), len(chunk))
            return {
                tensor_names.IMAGE: self._in_layout(made), FROM: np.repeat(0 * ones, len(chunk)),
                TO: np.repeat(ones, len(chunk)),
            }  # fmt: skip

        return self._run(shared, rows, count, None, progress)

    def of_the_picture(self, key: Hashable, compute: Callable[[], Scores]) -> Scores:
        """Scores that depend on the picture and the target alone, whatever map is measured: what compute() returns.

        key: says which they are. A Scorer that measures several maps computes them once.
        """
        return compute()

    def _run(
        self,
        shared: dict[str, npt.NDArray[Any]],
        rows: Callable[[Indices], Arrays],
        count: int,
        fill: Image | None,
        progress: Progress | None,
    ) -> Scores:
        if progress is not None and not callable(progress):
            raise OptionError(f"progress is a function that takes (done, all), not {brief(progress)}")
        if count == 0:
            return np.zeros((0, len(self.targets)), np.float32)
        replacement = self._checked_fill(fill)
        empty = np.zeros((1, *self.image.shape), np.float32)
        shared = {
            **self._feeds,
            **shared,
            tensor_names.FILL: self._in_layout(empty if replacement is None else replacement[None]),
        }
        scores = self._runner.ranked.score(shared, rows, count, self.score, progress)
        self._passes.add(count)
        return scores

    def _checked_images(self, images: npt.ArrayLike, count: int | None) -> npt.NDArray[Any]:
        """The images as they are, or `count` of them that a function made, in float32. Raises OptionError."""
        array = array_of("images", images)
        if array.shape[1:] != self.image.shape or array.dtype.kind not in "fiu" or count not in (None, len(array)):
            rows = "N" if count is None else count
            raise OptionError(f"images have the shape ({rows}, {_sides(self.image)}), not {array.dtype} {array.shape}")
        return array if count is None else np.asarray(array, np.float32)

    def _checked_fill(self, fill: Image | None) -> Image | None:
        if fill is None:
            return None
        array = array_of("fill", fill)
        if array.shape != self.image.shape or array.dtype.kind not in "fiu":
            raise OptionError(f"a fill has the image's shape ({_sides(self.image)}), not {array.dtype} {array.shape}")
        return np.asarray(array, np.float32)

    def _in_layout(self, images: Floats) -> Floats:
        return self._runner.opened.network.batch_to_model_layout(images)


def _rows_of(array: npt.NDArray[Any], chunk: Indices) -> Floats:
    return np.asarray(array[chunk], np.float32)


def _sides(image: Image) -> str:
    return ", ".join(map(str, image.shape))


def _whole_numbers(name: str, values: npt.ArrayLike) -> npt.NDArray[np.int32]:
    array = array_of(name, values)
    if array.dtype.kind not in "iu":
        raise OptionError(f"{name} are whole numbers, not an array of {array.dtype}")
    if array.size and not abs(int(array.max())) <= LARGEST_RANK >= abs(int(array.min())):
        raise OptionError(f"{name} are whole numbers of 32 bits, not from {array.min()} to {array.max()}")
    return array.astype(np.int32)
