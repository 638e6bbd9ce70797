"""Prepared: the opened model, the method and the choices of a compilation, which is all that a builder reads."""

from dataclasses import dataclass

from onnxcam.errors import CompileError
from onnxcam.inputs.presets import Preset
from onnxcam.methods.blocks import Method
from onnxcam.network.opening import OpenedModel
from onnxcam.surgeon import ir
from onnxcam.surgeon.analysis.anatomy import Anatomy, Kind
from onnxcam.surgeon.ir import Model
from onnxcam.types import NoteCode

OTHER_ANSWERS = {
    Kind.CLASSES: "a list of detections", Kind.REGION: "a score for each class and pixel (segmentation)",
    Kind.BOXES: "a table of boxes", Kind.ELEMENTS: "numbers of no known meaning", Kind.SEQUENCE: "a sequence",
    Kind.EMBEDDING: "an embedding",
}  # fmt: skip
"""What messages call an answer that is no class."""
RESERVED = "onnxcam/compiled"
"""How the names of the tensors begin that builders add."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """What a builder knows.

    opened: the model, opened for the method as an Explainer opens it. target: the class that is baked in, PREDICTION
    among them; None for an input. preset: how pictures become images.
    """

    opened: OpenedModel
    method: Method
    target: int | None
    preset: Preset

    @property
    def anatomy(self) -> Anatomy:
        return self.opened.anatomy

    @property
    def size(self) -> tuple[int, ...]:
        """(H,W) of the model's input."""
        return self.opened.size

    @property
    def fixed(self) -> int | None:
        """The batch that the model is fixed to; None if it takes any."""
        return self.opened.network.fixed

    @property
    def model(self) -> Model:
        """A copy of the graph for this size and batch, with its own inputs and outputs, in its own element types."""
        copy = ir.without_recorded_shapes(self.opened.model)
        image = self.anatomy.image
        value = ir.find_value(copy, image.name)
        assert value is not None
        assert value.shape is not None, "the model was opened by this input"
        sizes = dict(zip(image.letters, self.size, strict=True))
        if self.fixed is not None:
            sizes["N"] = self.fixed
        for axis, letter in enumerate(image.layout):
            if letter in sizes:
                value.shape[axis] = sizes[letter]
        for name in [name for name, batched in self.opened.network.extra.items() if batched and self.fixed is not None]:
            extra = ir.find_value(copy, name)
            if extra is not None and extra.shape is not None:
                extra.shape[0] = self.fixed
        return copy

    def check_names(self) -> None:
        """Raises CompileError for a model that has names which builders use."""
        taken = (str(value.name) for value in ir.values(self.opened.model) if str(value.name).startswith(RESERVED))
        if (name := next(taken, None)) is not None:
            raise CompileError(f"the model has a tensor {name!r}, and a compiled file adds such names; rename it")

    def check(self) -> None:
        """Raises CompileError for a model whose answer no compiled file can name by a class, or that has branches.

        An If whose condition follows from the shape of the input may stay out of the file; another one chooses a branch
        for each picture anew, and the graph that was opened holds only one of them.
        """
        self.check_names()
        if branch := next((note for note in self.opened.notes if note.code is NoteCode.BRANCH_TAKEN), None):
            raise CompileError(
                f"this model has an If that the numbers of its inputs decide, and a compiled file would answer with "
                f"one branch alone ({branch}); export the model without it"
            )
        kind = self.anatomy.logits.kind
        if self.opened.exported is not None or self.opened.selection is not None or kind is not Kind.CLASSES:
            raise CompileError(
                f"this model's answer is {OTHER_ANSWERS[kind]}, and only classifiers can be compiled; use "
                f"`onnxcam explain`"
            )
