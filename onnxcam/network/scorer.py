"""Network: one opened scoring graph, which gives an image's feature maps, its logits, and the scores of masked images.

It runs the scoring graph of surgeon/graphs/masked_score.py through engine.parallel on the host, or
through device_scorer.py where tensors stay on a device. Masks come in at the resolution of the feature maps; the graph
enlarges them and blends them with the image. opening.py makes it, probe.py uses it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from onnxcam.engine.options import PLAIN, EngineOptions
from onnxcam.engine.parallel import ParallelRunner, RunLimits, RunPlan
from onnxcam.engine.precision import in_bfloat16
from onnxcam.engine.providers import ProviderSpec
from onnxcam.engine.session import Session
from onnxcam.errors import OnnxCamError, OutOfMemory, UndefinedSaliency
from onnxcam.limits import SAFE, Limits
from onnxcam.network.packing import BatchPacker, MaskRequest, group_by_extra_inputs
from onnxcam.surgeon.analysis.anatomy import Anatomy, Kind, Logits
from onnxcam.surgeon.graphs import tensor_names
from onnxcam.types import (
    FEATURE_MASKS,
    AnyMasks,
    Arrays,
    Features,
    FeaturesOnDevice,
    Floats,
    Image,
    Indices,
    MaskForm,
    Masks,
    Note,
    NoteCode,
    Progress,
    Score,
    Scores,
)

if TYPE_CHECKING:
    from onnxcam.engine.io_binding import BoundSession
    from onnxcam.network.device_scorer import DeviceScorer

SCORE_OUTPUTS = {Score.PROBABILITY: tensor_names.PROBABILITY, Score.LOGIT: tensor_names.LOGIT}
"""The scoring graph's output for each kind of score."""
REDUCED_BATCH = 8
"""Masks a run in bfloat16. Larger runs leave the processor's cache, which costs more than they save."""


class Network:
    """One opened scoring graph: features, logits and masked scores from a single copy of the weights.

    size: (H,W) of the image. grid: (h,w) of the masks. fixed: the batch that the graph is fixed to, None if it takes
    any. notes: what a reader of the result should know about it. Threads may share it.
    """

    def __init__(
        self,
        graph: Callable[[], bytes],
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
        limits: Limits = SAFE,
    ) -> None:
        """graph: gives the scoring graph. fixed: the batch that it is fixed to, None if it takes any. extra: as
        scoring_model() takes it.

        limits: how long a run may take. Raises what ParallelRunner raises.
        """
        self.anatomy, self.size = anatomy, size
        self.form, self.with_fill = form, with_fill
        self.grid = form.grid(anatomy.features.grid, size)
        self.fixed, self.extra = fixed, dict(extra or {})

        run_limits = RunLimits(threads, batch, fixed, anatomy.bytes_per_image, engine, limits)
        graph = _given(graph, times=2) if engine.reduced else graph
        self._runner = ParallelRunner(graph, providers, run_limits)
        self._masked_runner = self._new_masked_runner(graph, providers, run_limits)
        self._copies = 1
        self.notes = (*self._engine_notes(), *self._runner.notes)
        self._device_scorer = self._new_device_scorer()

    def _new_masked_runner(
        self, graph: Callable[[], bytes], providers: Sequence[ProviderSpec], limits: RunLimits
    ) -> ParallelRunner:
        """What masked pictures run through: a session in the lower precision that was chosen, else the only one."""
        if not limits.engine.reduced:
            return self._runner
        if limits.batch is None and limits.fixed is None:
            limits = replace(limits, batch=REDUCED_BATCH)
        try:
            return ParallelRunner(graph, in_bfloat16(providers), limits)
        except OnnxCamError:
            self._runner.close()
            raise

    def _new_device_scorer(self) -> "DeviceScorer | None":
        """None on the CPU, where nothing has to be copied to a device, and plain runs may overlap."""
        session = self._session
        if session.device is None or self.provider == "cpu":
            return None
        from onnxcam.network.device_scorer import DeviceScorer

        pad_to_batch = self.provider == "tensorrt"
        return DeviceScorer(session, session.device, self.anatomy.features, self.fixed, pad_to_batch=pad_to_batch)

    def _engine_notes(self) -> tuple[Note, ...]:
        """Notes on how the providers compute."""
        notes = list[Note]()
        if self.provider == "tensorrt":
            others = "the CUDA provider" if self._session.companions else "the CPU"
            text = f"operators that TensorRT lacks run on {others}; it may use TF32 where that is faster"
            notes.append(Note(NoteCode.PROVIDER_FALLBACK, text))
        if self._session.recorded_options:
            text = "engine: " + ", ".join(f"{name} {value}" for name, value in self._session.recorded_options.items())
            notes.append(Note(NoteCode.ENGINE_OPTIONS, text))
        return tuple(notes)

    @property
    def _session(self) -> Session:
        return self._runner.session

    @property
    def batch(self) -> int:
        """Masks a run."""
        return self._masked_runner.plan.batch

    @property
    def plan(self) -> RunPlan:
        """How chunks are run at present."""
        return self._masked_runner.plan

    @property
    def masks_alone(self) -> bool:
        """Whether each mask goes alone, because samples of the model's fixed batch change each other."""
        return self._copies > 1

    @property
    def reduced(self) -> bool:
        """Whether masked pictures are computed in a lower precision than float32."""
        return self._masked_runner is not self._runner

    @property
    def in_flight(self) -> int:
        """Masks in all parallel runs together at one time."""
        return self._masked_runner.plan.in_flight

    @property
    def skipped_providers(self) -> tuple[str, ...]:
        """Why `auto` did not take a better provider."""
        return self._session.skipped_providers

    @property
    def provider(self) -> str:
        """Short name of the provider that runs."""
        return self._session.provider

    @property
    def provider_options(self) -> Mapping[str, str]:
        """All options that the provider was opened with."""
        return self._session.provider_options

    @property
    def device_index(self) -> int:
        """Index of the device that the provider runs on."""
        return self._session.device.index if self._session.device is not None else 0

    def close(self) -> None:
        if self._device_scorer is not None:
            self._device_scorer.close()
        self._runner.close()
        self._masked_runner.close()

    def feeds(self, image: Image, fill: Image | None, extra: Arrays) -> Arrays:
        """Inputs of the scoring graph that are the same for every mask of an image (C,H,W)."""
        feeds: dict[str, npt.NDArray[np.generic]] = {tensor_names.IMAGE: self.to_model_layout(image), **extra}
        if self.with_fill and fill is not None:
            feeds[tensor_names.FILL] = self.to_model_layout(fill)
        if self._device_scorer is not None:
            self._device_scorer.bound.forget(feeds.values())
        return feeds

    def release(self, feeds: Arrays) -> None:
        """Frees what is kept on the device for an image that is finished."""
        if self._device_scorer is not None:
            self._device_scorer.bound.forget(feeds.values())

    def register_device_copy(self, image: Image, value: object) -> None:
        """Uses `value`, an OrtValue on this network's device, instead of uploading the image (C,*size)."""
        array = self.to_model_layout(image)
        if self._device_scorer is not None and np.shares_memory(array, image):
            self._device_scorer.register_device_copy(array, value)

    def forward(self, feeds: Arrays) -> tuple[Features | FeaturesOnDevice, npt.NDArray[np.float64]]:
        """(feature maps (K,*grid), scored tensor (numbers,)) of the unmasked image; UndefinedSaliency if it is NaN."""
        maps: Features | FeaturesOnDevice
        if self._device_scorer is not None:
            maps, logits = self._device_scorer.forward(self._complete(feeds, self.identity_masks(1)))
        else:
            features, logits = self.run(feeds, self.identity_masks(1), [tensor_names.FEATURES, tensor_names.LOGITS])
            maps = self.anatomy.features.to_channels(features)[0]
        return maps, self.checked_logits(feeds, logits)

    def checked_logits(self, feeds: Arrays, logits: Floats) -> npt.NDArray[np.float64]:
        """(numbers,) the first row of LOGITS (N,numbers). Releases the feeds and raises UndefinedSaliency for NaN."""
        if not np.isfinite(logits[0]).all():
            self.release(feeds)
            raise UndefinedSaliency(
                "the model's logits are NaN or infinite on this picture; check the preprocessing, or the weights"
            )
        return np.asarray(logits[0], np.float64)

    def identity_masks(self, count: int) -> Masks:
        """Masks (count,1,*grid) that keep the image as it is. A constant map normalises to a mask of ones."""
        return np.full((count, 1, *self.grid), 0 if self.form.normalised else 1, np.float32)

    def score(self, feeds: Arrays, masks: AnyMasks, score: Score, progress: Progress | None = None) -> Scores:
        """(K,T) scores of the image seen through each mask (K,1,*grid), for the targets in the feeds."""
        return self.score_images([MaskRequest(feeds, masks, progress)], score)[0]

    def score_images(self, requests: Sequence[MaskRequest], score: Score) -> list[Scores]:
        """Scores of several images: (K,T) of each. Images share a forward pass where that is possible and saves one."""
        scorer = self._score_on_host if self._device_scorer is None else self._score_on_device
        requests = [self._with_copies(replace(r, masks=_as_floats(r.masks))) for r in requests]
        scores: dict[int, Scores] = {}
        singles = [[i] for i in range(len(requests))]
        for group in group_by_extra_inputs([r.feeds for r in requests]) if self.can_pack else singles:
            scores |= zip(group, scorer([requests[i] for i in group], SCORE_OUTPUTS[score]), strict=True)
        return [scores[i][:: self._copies] for i in range(len(requests))]

    def _with_copies(self, request: MaskRequest) -> MaskRequest:
        """Each mask as often as a batch has samples, where samples of a batch change each other."""
        if self._copies == 1:
            return request
        indices, report = np.repeat(np.arange(len(request.masks)), self._copies), request.progress
        progress = None if report is None else lambda done, of: report(done // self._copies, of // self._copies)
        return replace(request, masks=request.masks[indices], progress=progress)

    @property
    def can_pack(self) -> bool:
        """Whether images may share a batch: on the CPU, unless its size is fixed and samples may change each other."""
        return self.fixed is None and self._device_scorer is None and self.provider == "cpu"

    def _score_on_host(self, requests: Sequence[MaskRequest], output: str) -> list[Scores]:
        packer = BatchPacker(requests, self.in_flight)

        def score_chunk(session: Session, samples: Indices) -> Scores:
            try:
                packed = packer.pack(samples)
                with session.translating():
                    feeds, masks = packed.to_numpy()
                return packed.scatter(self._run_in(session, feeds, masks, [output])[0], packer.width)
            except OutOfMemory:
                if self.fixed is None:
                    self._masked_runner.shrink(max(1, len(samples) // 2))  # for later images too
                raise

        return packer.unpack(self._masked_runner.map(score_chunk, np.arange(len(packer)), packer.progress()))

    def _score_on_device(self, requests: Sequence[MaskRequest], output: str) -> list[Scores]:
        assert self._device_scorer is not None
        results = []
        for request in requests:
            scores, fitted = self._device_scorer.scores(request, output, self.batch)
            self._runner.shrink(fitted)  # for later images too
            results.append(scores)
        return results

    def reference_score(self, feeds: Arrays, masks: Masks, score: Score) -> tuple[float, float]:
        """(the first mask's score for the first target, the largest absolute value of the scored tensor)."""
        scores, logits = self.run(feeds, masks[:1], [SCORE_OUTPUTS[score], tensor_names.LOGITS])
        return float(scores[0, 0]), float(np.abs(logits[0]).max(initial=0))

    def score_in_float32(self, feeds: Arrays, masks: Masks, score: Score) -> Scores:
        """(K,T) scores of a few masks (K,1,*grid), whatever other masked pictures are computed in."""
        size = 1 if self.masks_alone else self.fixed or REDUCED_BATCH
        chunks = [masks[i : i + size] for i in range(0, len(masks), size)]
        return np.concatenate([self.run(feeds, chunk, [SCORE_OUTPUTS[score]])[0] for chunk in chunks])

    def raw_features(self, feeds: Arrays) -> Floats:
        """(1,...) the feature tensor of the unmasked image, in the model's own layout."""
        return self.run(feeds, self.identity_masks(1), [tensor_names.FEATURES])[0]

    def run_masks_alone(self) -> None:
        """Fills the fixed batch with copies of one mask from now on, because its samples change each other."""
        assert self.fixed is not None
        self._copies = self.fixed
        text = "samples of the model's fixed batch change each other, so every mask went alone"
        self.notes = (*self.notes, Note(NoteCode.SAMPLES_APART, text))

    def to_model_layout(self, image: Image) -> Floats:
        """(C,*size) to the model's own layout, with a batch of one."""
        return self.batch_to_model_layout(image[None])

    def batch_to_model_layout(self, images: Floats) -> Floats:
        """(N,C,*size) to the model's own layout."""
        order = [self._canonical.index(letter) for letter in self.anatomy.image.layout]
        return np.ascontiguousarray(images.transpose(order), np.float32)

    def batch_from_model_layout(self, images: Floats) -> Floats:
        """The model's own layout to (N,C,*size)."""
        order = [self.anatomy.image.layout.index(letter) for letter in self._canonical]
        return np.ascontiguousarray(images.transpose(order), np.float32)

    @property
    def _canonical(self) -> str:
        return "NC" + "".join(self.anatomy.image.letters)

    def run(self, feeds: Arrays, masks: Masks, outputs: list[str]) -> list[Floats]:
        """Returns the outputs for these masks, in one run."""
        return self._run_in(
            self._session if self._device_scorer is None else self._device_scorer.bound, feeds, masks, outputs
        )

    def _run_in(
        self, runner: "Session | BoundSession", feeds: Arrays, masks: Masks, outputs: list[str]
    ) -> list[Floats]:
        inputs, pictures = self._complete(feeds, masks), self.fixed or len(masks)
        return [a[: len(masks)] for a in runner.run(outputs, inputs, pictures=pictures)]

    def _complete(self, feeds: Arrays, masks: Masks) -> Arrays:
        """All inputs of a run: the feeds that the graph takes, the masks, padded to a fixed batch, and any targets."""
        count = len(masks)
        if self.fixed is not None and count < self.fixed:
            masks = np.concatenate([masks, np.repeat(masks[-1:], self.fixed - count, axis=0)])
        inputs = {**self.blank_targets(), **feeds, tensor_names.MAPS: masks}
        return {name: array for name, array in inputs.items() if name in self._session.inputs}

    def blank_targets(self) -> Arrays:
        """Target inputs for a run whose scores are not read."""
        logits = self.anatomy.logits
        if logits.kind is Kind.EMBEDDING:
            return {tensor_names.REFERENCES: np.zeros((1, logits.classes), np.float32)}
        if logits.kind is Kind.SEQUENCE:
            return {tensor_names.REGIONS: np.zeros((logits.steps * logits.classes, 1), np.float32)}
        blank: dict[str, npt.NDArray[np.generic]] = {tensor_names.TARGETS: np.zeros(1, np.int64)}
        if logits.kind is Kind.REGION:
            blank[tensor_names.REGIONS] = np.zeros((logits.places, 1), np.float32)
        return blank


def probabilities(values: npt.NDArray[np.float64], logits: Logits) -> npt.NDArray[np.float64]:
    """Probabilities of logits (..., classes): their sigmoid or their softmax, as the model or one output implies."""
    if logits.literal or logits.has_probabilities:
        return values
    if logits.has_sigmoid:
        return np.asarray(0.5 * (1 + np.tanh(0.5 * values)))
    shifted = np.exp(values - values.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def _given(graph: Callable[[], bytes], *, times: int) -> Callable[[], bytes]:
    """Gives one graph so many times, which is then no longer kept but made anew."""
    kept = [graph()] * times
    return lambda: kept.pop() if kept else graph()


def _as_floats(masks: AnyMasks) -> AnyMasks:
    """Masks in NumPy as contiguous float32."""
    return np.ascontiguousarray(masks, np.float32) if isinstance(masks, np.ndarray) else masks
