"""The heads of one model: for each output and kind of target a runner, which network/opening opens when it is needed.

A head is what targets of one kind need: a graph that ends in the score of that kind, with sessions and feature maps of
its own. Heads share the model file and nothing else; the heads of several methods share their runners
(shared_runners.py).
"""

from dataclasses import replace

from onnxcam.engine.forking import Lock
from onnxcam.engine.options import EngineOptions
from onnxcam.errors import InferenceError, OnnxCamError, OptionError
from onnxcam.explainer.results import Head
from onnxcam.explainer.shared_runners import SharedRunners, form_of
from onnxcam.explainer.targets.kind import TargetLike
from onnxcam.explainer.targets.resolving import head_of
from onnxcam.methods import reducible
from onnxcam.methods.blocks import Method, Need
from onnxcam.methods.options import choose
from onnxcam.network.gradients import GradientRunner, check_step
from onnxcam.network.opening import OpenedModel, OpenOptions, open_model
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
        shared: SharedRunners | None = None,
        default: Head | None = None,
    ) -> None:
        """Opens the head that the model suggests. step, output, kind: as the Explainer takes them.

        shared: the runners of the same model for another method, and default: its default head; None for the first
        method of a model.
        """
        check_precision(options.engine, method)
        self._file, self._method, self._form = file, method, form_of(method)
        self._output, self._kind = output, choose(Kind, kind, "kind of target") if kind is not None else None
        self._options = replace(options, **self._form._asdict())
        self._lock, self._closed = Lock(), False
        self._step_file: ModelFile | None = None
        self._step: bytes | None = None
        self._shared = shared if shared is not None else SharedRunners()
        self._shared.join()
        try:
            self._first = self._open_first(step) if default is None else self._first_of(default)
        except BaseException:
            self.close()
            raise

    def _open_first(self, step: ModelSource | None) -> GradientRunner:
        first = open_model(self._file, replace(self._options, output=self._output, kind=self._kind))
        try:
            self._step_file = self._checked(step, first)
        except OnnxCamError:
            first.close()
            raise
        self._step = None if self._step_file is None else self._step_file.proto.SerializeToString()
        # Targets that name no output and no kind, such as a class, are scored on this head.
        self.default = Head(first.anatomy.logits.kind, first.output)
        self._options = replace(self._options, size=first.size)
        return self._shared.get(self.default, self._form, lambda: GradientRunner(first, self._step))

    def _first_of(self, default: Head) -> GradientRunner:
        """The runner of another method's default head, for this method."""
        self.default = default
        options = replace(self._options, output=self._output, kind=self._kind)
        return self._shared.get(default, self._form, lambda: GradientRunner(open_model(self._file, options)))

    def with_method(self, method: Method) -> "Heads":
        """The heads of the same model for another method, with shared runners; close them too.

        Raises OptionError for a step graph, which serves one method, and what opening a model raises.
        """
        if self._closed:
            raise InferenceError("this explainer is closed")
        if self._step is not None:
            raise OptionError("a step graph serves one method; leave it out to share a model between methods")
        return Heads(self._file, self._options, method, None, self._output, self._kind, self._shared, self.default)

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
        runner = self._shared.get(head, self._form, lambda: self._open(head))
        # A target may name the output that the model chose for a target that named none.
        self._shared.add(head._replace(output=runner.opened.output), self._form, runner)
        return runner

    def close(self) -> None:
        """Frees every session that no other method uses; a head that is being opened is closed once it is open."""
        with self._lock:
            closed, self._closed = self._closed, True
        if not closed:
            self._shared.leave()

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
        file = read_model(step, opened.options.limits)
        check_step(file, opened, method.score, self._file.sha256)
        return file


def check_precision(engine: EngineOptions, method: Method) -> None:
    """Raises OptionError for a lower precision with a method that takes scores in full precision alone."""
    if engine.reduced and not method.reducible:
        raise OptionError(
            f"precision {engine.precision} is for methods that score masked pictures and can say what rounding does to "
            f"their map: {', '.join(reducible())}, as they are by default; leave it out for {method.name} as requested"
        )


def _of_scale(opened: OpenedModel, table: Anatomy) -> OpenedModel:
    """The model opened on a scale, with the notes of its table and the reason of the layer, which no caller chose."""
    anatomy = opened.anatomy
    scale = next(scale for scale in table.scales if scale.features.tensor == anatomy.features.tensor)
    notes = tuple(note for note in table.notes if note.code is not NoteCode.OTHER_SCALES)
    return replace(opened, anatomy=replace(anatomy, features=scale.features, notes=notes))
