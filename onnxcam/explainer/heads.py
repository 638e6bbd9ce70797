"""The networks of one model: one for each head that targets name, which share nothing but the file."""

import threading
from dataclasses import replace

from onnxcam.errors import OptionError
from onnxcam.explainer.results import Head
from onnxcam.explainer.targets.scoring import kind_of
from onnxcam.explainer.targets.values import TargetLike
from onnxcam.methods.blocks import Method, choose
from onnxcam.network.gradients import GradientRunner, check_step
from onnxcam.network.opening import OpenedModel, OpenOptions, open_model
from onnxcam.surgeon.analysis.anatomy import Kind
from onnxcam.surgeon.loading import ModelFile, ModelSource, read_model
from onnxcam.types import MaskForm


class Heads:
    """Each opened when it is first asked for; safe to use from several threads at once."""

    def __init__(
        self,
        file: ModelFile,
        options: OpenOptions,
        method: Method,
        step: ModelSource | None,
        output: str | None,
        kind: Kind | str | None,
    ) -> None:
        """step, output, kind: as the Explainer takes them."""
        self._file, self._wish, self._method = file, options, method
        self._lock, self._closed = threading.Lock(), False
        chosen = choose(Kind, kind, "kind of target") if kind is not None else None
        first = open_model(file, replace(options, output=output, kind=chosen))
        # The head that the model itself suggests answers for targets that name no other.
        self.default: Head = (first.anatomy.logits.kind, first.anatomy.logits.output)
        self._step_file = self._checked(step, first)
        self._step = None if self._step_file is None else self._step_file.proto.SerializeToString()
        self._opened: dict[Head, GradientRunner] = {self.default: GradientRunner(first, self._step)}

    @property
    def first(self) -> OpenedModel:
        """What the model itself suggests."""
        return self._opened[self.default].opened

    def head(self, target: TargetLike) -> Head:
        """Which one a target is about."""
        kind, output = kind_of(target, self.default[0] or Kind.CLASSES)
        if kind is self.default[0] and output in (None, self.default[1]):
            return self.default
        # Several outputs: what an element or an embedding is of must be said, unless the explainer was opened on one.
        return kind, output

    def of(self, head: Head) -> GradientRunner:
        """The network of a head; once closed, one that answers with an error. Raises OnnxCamError."""
        with self._lock:
            if head not in self._opened and not self._closed:
                opened = open_model(self._file, replace(self._wish, kind=head[0], output=head[1]))
                if self._step_file is not None:
                    check_step(self._step_file, opened, self._method.score, self._file.sha256)
                self._opened[head] = GradientRunner(opened, self._step)
            return self._opened[head if head in self._opened else self.default]

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for opened in self._opened.values():
                opened.close()

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
