"""Joins surgeon and engine: a Network answers for one model, a Probe for one picture and its targets before it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxcam.arrays import Features, Floats, Image, Masks, Score, Scores
from onnxcam.engine.batching import ON_DEVICE, PER_THREAD, Progress, choose_batch, free_memory, in_chunks
from onnxcam.engine.session import Session
from onnxcam.errors import InferenceError, UndefinedSaliency
from onnxcam.surgeon import masking
from onnxcam.surgeon.anatomy import Anatomy
from onnxcam.surgeon.graph import Model, to_bytes

BATCH_TOLERANCE = 1e-3
"""Of the largest logit: above what half precision does with another batch size, below what mixing pictures does."""
OUTPUT = {Score.PROBABILITY: masking.PROBABILITY, Score.LOGIT: masking.LOGIT}


class Network:
    """One opened scoring graph: features, logits and masked scores from a single copy of the weights."""

    def __init__(
        self,
        model: Model,
        anatomy: Anatomy,
        size: tuple[int, int],
        *,
        with_fill: bool,
        providers: Sequence[str],
        threads: int | None,
        batch: int | None,
    ) -> None:
        self.anatomy, self.size = anatomy, size
        self._grid = anatomy.features.channels_and_grid[1:]
        graph = masking.scoring_model(model, anatomy, size, self._grid, with_fill=with_fill)
        self._with_fill = with_fill
        self._session = Session(to_bytes(graph), providers, threads)
        fixed = anatomy.image.batch
        most = PER_THREAD * self._session.threads if self.provider == "cpu" else ON_DEVICE
        chosen = choose_batch(anatomy.bytes_per_picture, free_memory(), most, batch)
        self.batch = fixed or chosen
        self._fixed = fixed
        self.batch_mode, self.batch_reason = (
            "dynamic",
            "the export takes any batch, and pictures do not disturb each other",
        )
        if fixed is not None:
            self.batch_mode, self.batch_reason = "looped", f"the export is fixed to a batch of {fixed}"
        elif self.batch > 1 and (reason := self._why_not_batched()) is not None:
            self.batch, self.batch_mode, self.batch_reason = 1, "looped", reason

    @property
    def passed_over(self) -> tuple[str, ...]:
        """Why `auto` did not take a better provider."""
        return self._session.passed_over

    @property
    def provider(self) -> str:
        return self._session.provider

    def close(self) -> None:
        self._session.close()

    def look(self, image: Image, fill: Image | None) -> tuple[Features, npt.NDArray[np.float64]]:
        """(K,h,w) feature maps and (classes,) logits of the picture as it is."""
        masks = np.zeros((1, 1, *self._grid), np.float32)
        feeds = self._feeds(image, fill, np.zeros(1, np.int64))
        features, logits = self._run(feeds, masks, [masking.FEATURES, masking.LOGITS])
        if not np.isfinite(logits[0]).all():
            raise UndefinedSaliency("the model's logits are NaN or infinite on this picture; check the preprocessing")
        return self.anatomy.features.to_channels(features)[0], logits[0].astype(np.float64)

    def score(
        self,
        image: Image,
        fill: Image | None,
        masks: Masks,
        targets: Sequence[int],
        score: Score,
        progress: Progress | None = None,
    ) -> Scores:
        """(K,T) logits or probabilities of the targets, the picture seen through each of the masks (K,1,h,w)."""
        feeds = self._feeds(image, fill, np.asarray(targets, np.int64))
        output = [OUTPUT[score]]
        return in_chunks(lambda chunk: self._run(feeds, chunk, output)[0], masks, self.batch, progress)

    def _why_not_batched(self) -> str | None:
        """Three masks in one run against three runs: an export may declare a dynamic batch and not keep it."""
        rng = np.random.default_rng(0)
        channels = self.anatomy.image.channels
        image = rng.standard_normal((channels, *self.size)).astype(np.float32)
        feeds = self._feeds(image, image, np.zeros(1, np.int64))
        masks = rng.random((3, 1, *self._grid), np.float32)
        alone = np.concatenate([self._run(feeds, masks[i : i + 1], [masking.LOGITS])[0] for i in range(3)])
        try:
            together = self._run(feeds, masks, [masking.LOGITS])[0]
        except InferenceError:
            return "the export declares a dynamic batch, but more than one picture at once does not run"
        if np.allclose(alone, together, rtol=0, atol=BATCH_TOLERANCE * float(np.abs(alone).max()), equal_nan=True):
            return None
        return "the export declares a dynamic batch, but pictures in one batch change each other's scores"

    def _feeds(
        self, image: Image, fill: Image | None, targets: npt.NDArray[np.int64]
    ) -> dict[str, npt.NDArray[np.generic]]:
        feeds: dict[str, npt.NDArray[np.generic]] = {
            masking.IMAGE: self._laid_out(image),
            masking.TARGETS: targets,
        }
        if self._with_fill and fill is not None:
            feeds[masking.FILL] = self._laid_out(fill)
        return feeds

    def _laid_out(self, image: Image) -> Floats:
        """(C,H,W) to the model's own axis order with a batch of one."""
        order = ["NCHW".index(letter) for letter in self.anatomy.image.layout]
        return np.ascontiguousarray(image[None].transpose(order), np.float32)

    def _run(self, feeds: dict[str, npt.NDArray[np.generic]], masks: Masks, outputs: list[str]) -> list[Floats]:
        count = len(masks)
        if self._fixed is not None and count < self._fixed:
            masks = np.concatenate([masks, np.repeat(masks[-1:], self._fixed - count, axis=0)])
        return [a[:count] for a in self._session.run(outputs, {**feeds, masking.MAPS: masks})]


@dataclass(frozen=True, eq=False)
class PictureProbe:
    """One picture before one network, with its targets: what a method sees (methods.blocks.Probe)."""

    network: Network
    image: Image
    fill: Image | None
    features: Features
    logits: npt.NDArray[np.float64]
    probabilities: npt.NDArray[np.float64]
    targets: tuple[int, ...]
    progress: Progress | None = None

    @property
    def size(self) -> tuple[int, int]:
        return self.network.size

    def original(self, score: Score) -> Floats:
        values = self.logits if score is Score.LOGIT else self.probabilities
        return values[list(self.targets)].astype(np.float32)

    def score(self, masks: Masks, score: Score) -> Scores:
        return self.network.score(self.image, self.fill, masks, self.targets, score, self.progress)


def probabilities(logits: npt.NDArray[np.float64], activation: str) -> npt.NDArray[np.float64]:
    """(classes,) by the model's own activation: softmax, or a sigmoid each; a single logit is a sigmoid's."""
    if activation == "sigmoid" or len(logits) == 1:
        return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)))
    shifted = np.exp(logits - logits.max())
    return np.asarray(shifted / shifted.sum())
