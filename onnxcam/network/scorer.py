"""A Network answers for one model: its features, its logits, and the scores of masked pictures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from onnxcam.engine.io_binding import BoundSession
from onnxcam.engine.options import PLAIN, EngineOptions
from onnxcam.engine.parallel import ParallelRunner, RunLimits, RunPlan
from onnxcam.engine.providers import ProviderSpec
from onnxcam.engine.session import Session
from onnxcam.errors import OutOfMemory, UndefinedSaliency
from onnxcam.network.device_scorer import OnDevice
from onnxcam.network.packing import BatchPacker, MaskRequest, RowNumbers, alike
from onnxcam.surgeon.analysis.anatomy import Anatomy, Kind
from onnxcam.surgeon.graphs import masked_score
from onnxcam.surgeon.graphs.masked_score import FEATURE_MASKS
from onnxcam.surgeon.ir import Model, to_bytes
from onnxcam.surgeon.passes.mixed_precision import convert_to_mixed_precision
from onnxcam.types import (
    AnyMasks,
    Arrays,
    Features,
    FeaturesOnDevice,
    Floats,
    Image,
    MaskForm,
    Masks,
    Note,
    NoteCode,
    Progress,
    Score,
    Scores,
)

OUTPUT = {Score.PROBABILITY: masked_score.PROBABILITY, Score.LOGIT: masked_score.LOGIT}


class Network:
    """One opened scoring graph: features, logits and masked scores from a single copy of the weights."""

    def __init__(
        self,
        model: Model,
        anatomy: Anatomy,
        size: tuple[int, ...],
        *,
        with_fill: bool,
        providers: Sequence[ProviderSpec],
        threads: int | None,
        batch: int | None,
        fixed: int | None = None,
        extra: Mapping[str, bool] | None = None,
        form: MaskForm = FEATURE_MASKS,
        engine: EngineOptions = PLAIN,
        plan: RunPlan | None = None,
        keep: Callable[[RunPlan], None] | None = None,
    ) -> None:
        """fixed: the batch that the graph is bound to, None if it takes any. extra: as scoring_model takes it.

        pace, keep: as ParallelRunner takes them.
        """
        self.anatomy, self.size = anatomy, size
        self.form, self.with_fill = form, with_fill
        self.grid = form.grid(anatomy.features.grid, size)
        self.fixed, self.extra = fixed, dict(extra or {})

        def graph() -> bytes:
            plain = convert_to_mixed_precision(model) if engine.half else model
            made = masked_score.scoring_model(
                plain, anatomy, size, with_fill=with_fill, batch=fixed, extra=extra, form=form
            )
            return to_bytes(made)

        asked = RunLimits(threads, batch, fixed, anatomy.bytes_per_picture, engine)
        self._runner = ParallelRunner(graph, providers, asked, plan, keep)
        self._copies = 1
        self.notes = (*self._engine_notes(), *self._runner.notes)
        # On the CPU there is nothing to bring anywhere, and plain runs may overlap.
        self._on_device: OnDevice | None = None
        if self._session.device is not None and self.provider != "cpu":
            self._on_device = OnDevice(
                self._session, self._session.device, anatomy.features, fixed, pad_to_batch=self.provider == "tensorrt"
            )

    def _engine_notes(self) -> tuple[Note, ...]:
        """What is to be said about how the providers compute."""
        found = list[Note]()
        if self.provider == "tensorrt":
            others = "the CUDA provider" if self._session.companions else "the CPU"
            text = f"operators that TensorRT lacks run on {others}; it may use TF32 where that is faster"
            found.append(Note(NoteCode.PROVIDER_FALLBACK, text))
        if self._session.recorded_options:
            text = "engine: " + ", ".join(f"{name} {value}" for name, value in self._session.recorded_options.items())
            found.append(Note(NoteCode.ENGINE_OPTIONS, text))
        return tuple(found)

    @property
    def _session(self) -> Session:
        return self._runner.session

    @property
    def batch(self) -> int:
        """Masks a run."""
        return self._runner.plan.batch

    @property
    def in_flight(self) -> int:
        """Masks on their way at one time, in all runs beside each other."""
        return self._runner.plan.in_flight

    @property
    def skipped_providers(self) -> tuple[str, ...]:
        """Why `auto` did not take a better provider."""
        return self._session.skipped_providers

    @property
    def provider(self) -> str:
        return self._session.provider

    def close(self) -> None:
        if self._on_device is not None:
            self._on_device.close()
        self._runner.close()

    def feeds(self, image: Image, fill: Image | None, extra: Arrays) -> Arrays:
        """What stays the same for every mask of a picture."""
        found: dict[str, npt.NDArray[np.generic]] = {masked_score.IMAGE: self.to_model_layout(image), **extra}
        if self.with_fill and fill is not None:
            found[masked_score.FILL] = self.to_model_layout(fill)
        if self._on_device is not None:
            self._on_device.resident.forget(found.values())
        return found

    def release(self, feeds: Arrays) -> None:
        """The picture is done with: what lies of it on the device need not stay there."""
        if self._on_device is not None:
            self._on_device.resident.forget(feeds.values())

    def register_device_copy(self, image: Image, value: object) -> None:
        """`value`, an OrtValue where this network runs, holds the image (C,*size) already, so it need not go there."""
        to_model_layout = self.to_model_layout(image)
        if self._on_device is not None and np.shares_memory(to_model_layout, image):
            self._on_device.resident.register_device_copy(to_model_layout, value)

    def forward(self, feeds: Arrays) -> tuple[Features | FeaturesOnDevice, npt.NDArray[np.float64]]:
        """(K,*grid) feature maps and (numbers,) of the scored tensor, for the picture as it is."""
        found: Features | FeaturesOnDevice
        if self._on_device is not None:
            found, logits = self._on_device.forward(self._fed(feeds, self.identity_masks(1)))
        else:
            features, logits = self.run(feeds, self.identity_masks(1), [masked_score.FEATURES, masked_score.LOGITS])
            found = self.anatomy.features.to_channels(features)[0]
        if not np.isfinite(logits[0]).all():
            self.release(feeds)
            raise UndefinedSaliency(
                "the model's logits are NaN or infinite on this picture; check the preprocessing, or the weights"
            )
        return found, logits[0].astype(np.float64)

    def identity_masks(self, count: int) -> Masks:
        """Masks that keep the picture as it is: a map without extent has a mask of ones."""
        return np.full((count, 1, *self.grid), 0 if self.form.normalised else 1, np.float32)

    def score(self, feeds: Arrays, masks: AnyMasks, score: Score, progress: Progress | None = None) -> Scores:
        """(K,T) numbers of the targets that feeds hold, the picture seen through each of the masks (K,1,*grid)."""
        return self.score_together([MaskRequest(feeds, masks, progress)], score)[0]

    def score_together(self, pictures: Sequence[MaskRequest], score: Score) -> list[Scores]:
        """What score() gives for each; what would not fill a run by itself shares one with the rest of others."""
        ask = self._in_runner if self._on_device is None else self._there
        pictures = [self._repeated(replace(p, masks=_floats(p.masks))) for p in pictures]
        found: dict[int, Scores] = {}
        for group in alike([p.feeds for p in pictures]) if self.can_pack else [[i] for i in range(len(pictures))]:
            found |= zip(group, ask([pictures[i] for i in group], OUTPUT[score]), strict=True)
        return [found[i][:: self._copies] for i in range(len(pictures))]

    def _repeated(self, picture: MaskRequest) -> MaskRequest:
        """Each mask as often as a run has rows, where rows of a run would change each other."""
        if self._copies == 1:
            return picture
        rows, tell = np.repeat(np.arange(len(picture.masks)), self._copies), picture.progress
        told = None if tell is None else lambda done, every: tell(done // self._copies, every // self._copies)
        return replace(picture, masks=picture.masks[rows], progress=told)

    @property
    def can_pack(self) -> bool:
        """Whether pictures may share a run: rows of a bound batch may change each other, and some providers compile for
        every shape.
        """
        own = self._on_device is None or not self._on_device.resident.pad_to_batch
        return self.fixed is None and own and self.provider in ("cpu", "cuda")

    def _in_runner(self, pictures: Sequence[MaskRequest], output: str) -> list[Scores]:
        crowd = BatchPacker(pictures, self.in_flight)

        def chunk_scores(session: Session, rows: RowNumbers) -> Scores:
            try:
                run = crowd.run(rows)
                with session.translating():
                    feeds, masks = run.in_numpy()
                return run.scatter(self._run_in(session, feeds, masks, [output])[0], crowd.width)
            except OutOfMemory:
                if self.fixed is None:
                    self._runner.shrink(max(1, len(rows) // 2))  # for later pictures too
                raise

        return crowd.scores(self._runner.map(chunk_scores, np.arange(len(crowd)), crowd.progress()))

    def _there(self, pictures: Sequence[MaskRequest], output: str) -> list[Scores]:
        assert self._on_device is not None
        return self._on_device.scores(pictures, output, self.batch, self._runner.shrink)

    def answer(self, feeds: Arrays, masks: Masks, score: Score) -> tuple[float, float]:
        """The first mask's score for the first target, and the largest of all scored numbers' sizes."""
        value, everything = self.run(feeds, masks[:1], [OUTPUT[score], masked_score.LOGITS])
        return float(value[0, 0]), float(np.abs(everything[0]).max(initial=0))

    def raw_features(self, feeds: Arrays) -> Floats:
        """(1,...) the feature tensor of the picture as it is, in its own axes."""
        return self.run(feeds, self.identity_masks(1), [masked_score.FEATURES])[0]

    def keep_apart(self) -> None:
        """From now on every mask goes alone, with copies of itself: rows of the bound batch change each other."""
        assert self.fixed is not None
        self._copies = self.fixed
        text = "rows of the batch that the model is bound to change each other, so every mask went alone"
        self.notes = (*self.notes, Note(NoteCode.ROWS_APART, text))

    def to_model_layout(self, image: Image) -> Floats:
        """(C,*size) to the model's own axis order with a batch of one."""
        return self.rows_out(image[None])

    def rows_out(self, images: Floats) -> Floats:
        """(N,C,*size) to the model's own axis order."""
        order = [self._canonical.index(letter) for letter in self.anatomy.image.layout]
        return np.ascontiguousarray(images.transpose(order), np.float32)

    def rows_in(self, images: Floats) -> Floats:
        """The way back of rows_out()."""
        order = [self.anatomy.image.layout.index(letter) for letter in self._canonical]
        return np.ascontiguousarray(images.transpose(order), np.float32)

    @property
    def _canonical(self) -> str:
        return "NC" + "".join(self.anatomy.image.letters)

    def run(self, feeds: Arrays, masks: Masks, outputs: list[str]) -> list[Floats]:
        """The outputs for these masks, in one run."""
        return self._run_in(
            self._session if self._on_device is None else self._on_device.resident, feeds, masks, outputs
        )

    def _run_in(self, runner: Session | BoundSession, feeds: Arrays, masks: Masks, outputs: list[str]) -> list[Floats]:
        return [a[: len(masks)] for a in runner.run(outputs, self._fed(feeds, masks))]

    def _fed(self, feeds: Arrays, masks: Masks) -> Arrays:
        """What the graph takes of these, and what else it needs for the run."""
        count = len(masks)
        if self.fixed is not None and count < self.fixed:
            masks = np.concatenate([masks, np.repeat(masks[-1:], self.fixed - count, axis=0)])
        fed = {**self.blank_targets(), **feeds, masked_score.MAPS: masks}
        return {name: array for name, array in fed.items() if name in self._session.inputs}

    def blank_targets(self) -> Arrays:
        """Targets for a run that is not about targets."""
        logits = self.anatomy.logits
        if logits.kind is Kind.EMBEDDING:
            return {masked_score.REFERENCES: np.zeros((1, logits.classes), np.float32)}
        blank: dict[str, npt.NDArray[np.generic]] = {masked_score.TARGETS: np.zeros(1, np.int64)}
        if logits.kind is Kind.REGION:
            blank[masked_score.REGIONS] = np.zeros((logits.places, 1), np.float32)
        return blank


def probabilities(logits: npt.NDArray[np.float64], activation: str) -> npt.NDArray[np.float64]:
    """(..., classes) by the model's own activation: softmax, or a sigmoid each; a single logit is a sigmoid's."""
    if activation == "sigmoid" or logits.shape[-1] == 1:
        return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)))
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def _floats(masks: AnyMasks) -> AnyMasks:
    """As the graph takes them; on a device they are bound by address."""
    return np.ascontiguousarray(masks, np.float32) if isinstance(masks, np.ndarray) else masks
