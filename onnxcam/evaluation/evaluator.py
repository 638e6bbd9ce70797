"""Evaluator: one opened model, and for each picture of a data set the rows of all methods, maps and metrics.

It is the unit of work of every engine. The methods of a picture share its reading, its forward pass, features and
gradients; the metrics of all maps share one Scorer, which runs no changed picture twice.
"""

import time
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Self

import numpy as np

from onnxcam.errors import InferenceError, OnnxCamError, OptionError
from onnxcam.evaluation.dataset import DataItem
from onnxcam.evaluation.map_rows import SourceMap
from onnxcam.evaluation.model_request import ModelIdentity, ModelRequest, identify
from onnxcam.evaluation.options import EvaluationOptions, MapSource, SourceKind
from onnxcam.evaluation.picture_work import OpenedMethods, evaluate_picture
from onnxcam.evaluation.row_keys import row_keys, without_map
from onnxcam.evaluation.rows import ItemResult, RowKey
from onnxcam.explainer.explainer import Explainer
from onnxcam.explainer.measuring import Requests, check_boxes


class Evaluator:
    """A model opened once, for the pictures of a data set. Threads may share it; it prints nothing.

    Attributes, both read-only: identity, what rows say of the model, and options. Use it in a `with` statement, or call
    close().
    """

    def __init__(
        self, request: ModelRequest, options: EvaluationOptions, identity: ModelIdentity | None = None
    ) -> None:
        """Opens the model for every method. identity: of the same request, where identify() was called already.

        A method that does not go with the model has its error in every row. Raises OnnxCamError where no method goes
        with it, and for options that make no sense for the model.
        """
        self.identity = identity if identity is not None else identify(request)
        self.options, self._request, self._closed = options, request, False
        with ExitStack() as opened:
            self._methods = self._open(opened)
            base = self._methods.base
            if base.model_sha256 != self.identity.sha256:
                raise InferenceError(f"{self.identity.name}: its file changed since the run began; run it again")
            check_boxes(Requests(tuple(options.metrics)), base)
            pixels = int(np.prod(base.size))
            if options.step is not None and options.step > pixels:
                raise OptionError(f"step is {options.step} pixels, and the model's input has {pixels}; give fewer")
            self._sessions = opened.pop_all()

    def _open(self, opened: ExitStack) -> OpenedMethods:
        """Opens an Explainer for each method, which share one model."""
        base: Explainer | None = None
        explainers: dict[str, Explainer] = {}
        errors: dict[str, OnnxCamError] = {}
        for source in self.options.sources:
            if source.kind is not SourceKind.METHOD:
                continue
            try:
                explainers[source.key] = self._opened(source, base)
            except OnnxCamError as error:
                errors[source.key] = error
                continue
            opened.callback(explainers[source.key].close)
            base = base or explainers[source.key]
        if base is None and errors:
            raise next(iter(errors.values()))
        if base is None:  # maps of other tools and baselines alone
            base = Explainer(self._request.model, **self._request.arguments)
            opened.callback(base.close)
        return OpenedMethods(self.identity.name, base, explainers, errors)

    def _opened(self, source: MapSource, base: Explainer | None) -> Explainer:
        assert source.method is not None
        if base is not None:
            return base.with_method(source.method)
        return Explainer(self._request.model, source.method, **self._request.arguments)

    def keys(self, item: DataItem, picture_sha256: str) -> tuple[RowKey, ...]:
        """The keys of the rows that evaluate() gives where all goes well. Runs nothing."""
        return tuple(row_keys(self.identity, self.options, item, picture_sha256))

    def evaluate(self, item: DataItem, picture_sha256: str, only: Collection[RowKey] | None = None) -> ItemResult:
        """The rows of one picture. only: the keys of the rows to compute; None for all.

        without_map() of a key stands for the map alone, of which no metric is measured, where maps are kept.

        What goes wrong is in the rows: the error of a picture or of a method has one row for each map that there is
        not, an undefined metric its reason. Raises InferenceError where the Evaluator is closed, before or meanwhile.
        """
        start = time.perf_counter()
        meanings = row_keys(self.identity, self.options, item, picture_sha256)
        sources = []
        for source in self.options.sources:
            rows = [
                (key, meaning.name)
                for key, meaning in meanings.items()
                if meaning.source is source and (only is None or key in only)
            ]
            key = without_map(next(key for key, meaning in meanings.items() if meaning.source is source))
            if rows or (only is not None and key in only):
                sources.append(SourceMap(source, key, rows))
        result = evaluate_picture(self._methods, self.options, item, sources) if sources else ItemResult(item.key, ())
        if self._closed:  # whose errors are no errors of the picture
            raise InferenceError("this evaluator is closed")
        return replace(result, seconds=time.perf_counter() - start)

    def close(self) -> None:
        """Frees the sessions; an evaluate() that is under way, or comes later, raises InferenceError."""
        self._closed = True
        self._sessions.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
