"""SharedRunners: the opened graphs of one model, shared by the Explainers of several methods.

A method decides how masks come, whether they blend a fill in, and whether the features must count at every cell: its
form. Methods of one form share a scoring graph, its gradients and its tail. For another form the graph is built
anew, without reading, tracing or verifying the model again.
"""

from collections.abc import Callable
from typing import NamedTuple

from onnxcam.engine.forking import Lock
from onnxcam.errors import InferenceError
from onnxcam.explainer.results import Head
from onnxcam.methods.blocks import Method, Need
from onnxcam.network.gradients import GradientRunner
from onnxcam.network.opening import OpenedModel
from onnxcam.network.single_flight import SingleFlight
from onnxcam.types import MaskForm


class Form(NamedTuple):
    """What a method requires of the scoring graph; the fields are those of OpenOptions."""

    with_fill: bool
    form: MaskForm
    every_cell_counts: bool


def form_of(method: Method) -> Form:
    """What a method requires of the scoring graph."""
    return Form(method.perturb.make is not None, method.form, Need.TAIL in method.needs)


class SharedRunners:
    """Runners by head and form, for as many users as join. Safe to use from several threads.

    It is closed when the last of its users has left.
    """

    def __init__(self) -> None:
        self._lock, self._users = Lock(), 0
        self._runners = SingleFlight[tuple[Head, Form], GradientRunner](GradientRunner.close)

    def join(self) -> None:
        """Adds a user. Raises InferenceError when the last one has left."""
        with self._lock:
            if self._users < 0:
                raise InferenceError("this explainer is closed")
            self._users += 1

    def leave(self) -> None:
        """Removes a user; the last one frees every session, also those that are being opened."""
        with self._lock:
            self._users -= 1
            last = self._users == 0
            if last:
                self._users = -1
        if last:
            self._runners.close()

    def get(self, head: Head, form: Form, open_head: Callable[[], GradientRunner]) -> GradientRunner:
        """The runner of a head for methods of a form; open_head opens it where no other form's can serve."""
        return self._runners.get((head, form), lambda: self._from_another(head, form) or open_head())

    def add(self, head: Head, form: Form, runner: GradientRunner) -> None:
        """Puts a runner under one more head, unless that has one."""
        self._runners.add((head, form), runner)

    def _from_another(self, head: Head, form: Form) -> GradientRunner | None:
        """A runner of this head that another form has opened: itself, or its model with another scoring graph."""
        candidates = [
            (other, runner)
            for (of, other), runner in self._runners.items
            if of == head and _same_features(other, form, runner.opened)
        ]
        for other, runner in candidates:
            if (other.with_fill, other.form) == (form.with_fill, form.form):
                return runner
        if not candidates:
            return None
        opened = candidates[0][1].opened.with_form(with_fill=form.with_fill, form=form.form)
        return GradientRunner(opened)


def _same_features(form: Form, other: Form, opened: OpenedModel) -> bool:
    return form.every_cell_counts == other.every_cell_counts or not opened.has_class_token
