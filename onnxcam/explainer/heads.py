"""The heads of one model: for each output and kind of target a runner, which network/opening opens when it is needed.

A head is what targets of one kind need: a graph that ends in the score of that kind, with sessions and feature maps of
its own. Heads share the model file and nothing else.
"""

from dataclasses import replace

from onnxcam.errors import InferenceError, OptionError
from onnxcam.explainer.results import Head
from onnxcam.explainer.targets.kind import TargetLike
from onnxcam.explainer.targets.registry import head_of
from onnxcam.methods.blocks import Method, Need
from onnxcam.methods.options import choose
from onnxcam.network.gradients import GradientRunner, check_step
from onnxcam.network.opening import OpenedModel, OpenOptions, open_model
from onnxcam.network.single_flight import SingleFlight
from onnxcam.outputs.saliency import ScoredTarget
from onnxcam.surgeon.analysis.anatomy import Anatomy, Kind
from onnxcam.surgeon.loading import ModelFile, ModelSource, read_model
from onnxcam.types import MaskForm, NoteCode


class Heads:
    """The runners of one model by head. Safe to use from several threads: opening one head blocks no other."""

    def __init__(
        self,
        file: ModelFile,
        options: OpenOptions,
        method: Method,
        step: ModelSource | None,
        output: str | None,
        kind: Kind | str | None,
    ) -> None:
        """Opens the head that the model suggests. step, output, kind: as the Explainer takes them."""
        self._file, self._options, self._method = file, options, method
        chosen = choose(Kind, kind, "kind of target") if kind is not None else None
        first = open_model(file, replace(options, output=output, kind=chosen))
        self._options = replace(options, size=first.size)
        # Targets that name no output and no kind, such as a class, are scored on this head.
        self.default = Head(first.anatomy.logits.kind, first.output)
        self._step_file = self._checked(step, first)
        self._step = None if self._step_file is None else self._step_file.proto.SerializeToString()
        self._first = GradientRunner(first, self._step)
        self._closed = False
        self._runners = SingleFlight[Head, GradientRunner](GradientRunner.close)

    @property
    def first(self) -> OpenedModel:
        """The model opened on the default head."""
        return self._first.opened

    def head(self, target: TargetLike) -> Head:
        """The head that a target is scored on. Raises TargetError for what is no target."""
        kind, output = head_of(target)
        if kind in (None, self.default[0]) and output in (None, self.default[1]):
            return self.default
        return Head(kind, output)

    def of_scale(self, head: Head, scored: ScoredTarget) -> Head:
        """The head that explains a target of this head: for a box, the one with the feature map of its scale."""
        anatomy = self.of(head).opened.anatomy
        boxes = anatomy.logits.kind is Kind.BOXES
        box = anatomy.logits.entry(scored.index)[0] if boxes else scored.index
        scale = next((scale for scale in anatomy.scales if scale.holds(box)), None)
        if scale is None or scale.features.tensor == anatomy.features.tensor:
            return head
        return head._replace(layer=scale.features.tensor)

    def has_scales(self, head: Head) -> bool:
        """Whether the targets of this head are boxes of several scales, each explained by its own feature map.

        A layer that the caller chose stays, and so does the one that a step graph was made for.
        """
        needs_features = bool({Need.FEATURES, Need.TAIL} & self._method.needs)
        return (
            needs_features
            and self._step is None
            and self._options.layer == "auto"
            and len(self.of(head).opened.anatomy.scales) > 1
        )

    def of(self, head: Head) -> GradientRunner:
        """The runner of a head, which is opened if need be. Raises OnnxCamError, an InferenceError when closed."""
        if self._closed:
            raise InferenceError("this explainer is closed")
        if head == self.default:
            return self._first
        if head.layer is not None:  # the output of a scale is that of its table
            head = head._replace(output=self.of(head._replace(layer=None)).opened.output)
        runner = self._runners.get(head, lambda: self._open(head))
        # A target may name the output that the model chose for a target that named none.
        self._runners.add(head._replace(output=runner.opened.output), runner)
        return runner

    def close(self) -> None:
        """Frees every session; a head that is being opened is closed once it is open."""
        self._closed = True
        self._first.close()
        self._runners.close()

    def _open(self, head: Head) -> GradientRunner:
        options = replace(self._options, kind=head.kind, output=head.output)
        if head.layer is not None:
            table = self.of(head._replace(layer=None)).opened.anatomy
            opened = open_model(self._file, replace(options, layer=head.layer))
            return GradientRunner(_of_scale(opened, table), None)
        opened = open_model(self._file, options)
        if self._step_file is not None:
            check_step(self._step_file, opened, self._method.score, self._file.sha256)
        return GradientRunner(opened, self._step)

    def _checked(self, step: ModelSource | None, opened: OpenedModel) -> ModelFile | None:
        """The step graph, read and checked. Raises OptionError or ModelError where it is of no use or does not fit."""
        if step is None:
            return None
        method = self._method
        if not method.searches:
            raise OptionError(f"{method.name} searches without gradients of masks, so a step graph serves no purpose")
        if method.perturb.make is not None or method.form != MaskForm():
            raise OptionError("a step graph fills what a mask removes with zero and takes the feature maps' grid")
        file = read_model(step)
        check_step(file, opened, method.score, self._file.sha256)
        return file


def _of_scale(opened: OpenedModel, table: Anatomy) -> OpenedModel:
    """The model opened on a scale, with the notes of its table and the reason of the layer, which no caller chose."""
    anatomy = opened.anatomy
    scale = next(scale for scale in table.scales if scale.features.tensor == anatomy.features.tensor)
    notes = tuple(note for note in table.notes if note.code is not NoteCode.OTHER_SCALES)
    return replace(opened, anatomy=replace(anatomy, features=scale.features, notes=notes))
