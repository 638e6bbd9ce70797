"""Reads an ONNX model from a path, bytes or a ModelProto, checks it, and gives a ModelFile.

The first step of every command. A file that is damaged, is no ONNX model, or that onnxruntime cannot run raises a
ModelError with the reason (checked_model.py). What was read and checked before, in whichever process, need not be
parsed again to be explained: `known_model` gives a ModelFile of what is known of it, which is parsed when its graph is
asked for. So nothing here loads onnx before that.
"""

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Union

from onnxcam.errors import ModelError
from onnxcam.files import MODEL, read_bytes
from onnxcam.limits import SAFE, Limits
from onnxcam.surgeon.analysis.affine_input import Normalisation
from onnxcam.surgeon.analysis.anatomy import ImageInput

if TYPE_CHECKING:
    import onnx

    from onnxcam.surgeon.ir import Model

ImageChoice = tuple[str | None, str | None]
"""The layout and the name of the input that takes the picture, as find_image() takes them."""


@dataclass(frozen=True)
class MapOutput:
    """An output that is a map. source: the tensor of its scores. labels: its keys, () where they number the classes."""

    source: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class ModelFacts:
    """What was read of a model's graph so far, as plain data.

    metadata: the file's metadata_props, where exporters put presets and labels. maps: the outputs that are maps of
    labels to scores, by name; the graph has tensors in their place. images, normalisations: of each input that
    was asked for. pictures: the inputs that can take a picture.
    classifies, gives_vectors: whether an output may be a class vector, and whether all are vectors.
    """

    metadata: Mapping[str, str]
    maps: Mapping[str, MapOutput]
    images: tuple[tuple[ImageChoice, ImageInput], ...] = ()
    normalisations: tuple[tuple[ImageInput, tuple[Normalisation, ...]], ...] = ()
    pictures: tuple[str, ...] | None = None
    classifies: bool | None = None
    gives_vectors: bool | None = None


@dataclass(frozen=True, eq=False)
class ModelFile:
    """A model that was read and checked.

    sha256 is of the file's bytes; fingerprint is of the file and its external weights. path is None for a model that
    came as bytes or as a ModelProto. limits: by which it was checked. is_altered: whether the graph is another one than
    that of the file.
    """

    name: str
    sha256: str
    path: Path | None
    fingerprint: str
    limits: Limits
    _facts: ModelFacts
    _parse: Callable[[], "onnx.ModelProto"] = field(repr=False)
    is_altered: bool = False

    @cached_property
    def proto(self) -> "onnx.ModelProto":
        """The model with all weights, also those of external files. Parsed when first asked for, if it was known.

        Raises ModelError for a file that changed since it was read.
        """
        return self._parse()

    @cached_property
    def model(self) -> "Model":
        """The graph for analysis and passes, converted on the first use. Readers share it: edit() a copy to change it.

        Raises ModelError for a graph that cannot be read.
        """
        from onnxcam.surgeon.ir import from_proto
        from onnxcam.surgeon.zip_map import without_maps

        return from_proto(without_maps(self.proto))

    @property
    def maps(self) -> Mapping[str, MapOutput]:
        """The outputs that are maps of labels to scores, by name; the graph has tensors in their place."""
        return self._facts.maps

    @property
    def metadata(self) -> Mapping[str, str]:
        """The file's metadata_props, where exporters put presets and labels."""
        return self._facts.metadata

    def with_proto(self, proto: "onnx.ModelProto") -> "ModelFile":
        """The same file with another graph, of which nothing is known yet."""
        facts = ModelFacts(self.metadata, self.maps)
        return ModelFile(self.name, self.sha256, self.path, self.fingerprint, self.limits, facts, lambda: proto, True)

    @property
    def opset(self) -> int:
        """Version of the default operator set."""
        from onnxcam.surgeon.checked_model import opset_of

        return opset_of(self.proto)

    def image(self, layout: str | None = None, name: str | None = None) -> ImageInput:
        """The input that takes the picture, as find_image() finds it; raises what it raises."""
        if (layout, name) not in self._images:
            from onnxcam.surgeon.analysis.images import find_image

            self._images[layout, name] = find_image(self.model, layout, name)
        return self._images[layout, name]

    def normalisations(self, image: ImageInput) -> tuple[Normalisation, ...]:
        """What the graph itself does with the picture, as read_normalisation() reads it."""
        if image not in self._normalisations:
            from onnxcam.surgeon.analysis.normalisation import read_normalisation

            self._normalisations[image] = read_normalisation(self.model, image)
        return self._normalisations[image]

    @cached_property
    def pictures(self) -> tuple[str, ...]:
        """Names of the inputs that can take a picture, the likeliest first."""
        if self._facts.pictures is not None:
            return self._facts.pictures
        from onnxcam.surgeon.analysis.images import picture_inputs

        return tuple(str(v.name) for v in picture_inputs(self.model))

    @cached_property
    def classifies(self) -> bool:
        """Whether an output may be a class vector, as output_shapes.may_classify() reads it."""
        if self._facts.classifies is not None:
            return self._facts.classifies
        from onnxcam.surgeon.analysis.output_shapes import may_classify

        return may_classify(self.model)

    @cached_property
    def gives_vectors(self) -> bool:
        """Whether each output has two axes."""
        if self._facts.gives_vectors is not None:
            return self._facts.gives_vectors
        from onnxcam.surgeon.ir import shape_of

        return all(len(shape_of(v) or ()) == 2 for v in self.model.graph.outputs)

    @property
    def facts(self) -> ModelFacts:
        """All that was read of the graph so far."""
        return ModelFacts(
            self.metadata, self.maps, tuple(self._images.items()),
            tuple(self._normalisations.items()), self.pictures, self.classifies, self.gives_vectors,
        )  # fmt: skip

    @property
    def has_new_facts(self) -> bool:
        """Whether more was read of the graph than was known."""
        return "model" in vars(self)

    @cached_property
    def _images(self) -> dict[ImageChoice, ImageInput]:
        return dict(self._facts.images)

    @cached_property
    def _normalisations(self) -> dict[ImageInput, tuple[Normalisation, ...]]:
        return dict(self._facts.normalisations)


ModelSource = Union[str, os.PathLike[str], bytes, "onnx.ModelProto", ModelFile]


def read_model(
    source: ModelSource, limits: Limits = SAFE, known: Callable[[str], ModelFacts | None] | None = None
) -> ModelFile:
    """Parses and checks a model; a ModelFile, which was read before, comes back as it is.

    known: gives what an earlier reading found in the file of this SHA-256, which passed the checks by the same limits;
    such a file is not parsed before its graph is asked for. External data is read from the model's own folder only.
    Raises ModelError for anything that is not a complete, valid ONNX model of an opset and of operator domains that
    onnxruntime has, and for one beyond the limits; TimedOut.
    """
    if isinstance(source, ModelFile):
        return source
    data, name, path = _bytes_of(source)
    digest = hashlib.sha256(data)
    facts = known(digest.hexdigest()) if known is not None else None
    if facts is not None:
        lasting = source if path is None else path.absolute()  # whatever the working directory is by then
        again = partial(_read_again, lasting, digest.hexdigest(), limits)
        return ModelFile(name, digest.hexdigest(), path, digest.hexdigest(), limits.lasting, facts, again)
    from onnxcam.surgeon.checked_model import checked, parse
    from onnxcam.surgeon.zip_map import map_outputs

    proto = parse(data, name) if isinstance(source, str | os.PathLike | bytes) else source
    proto, outside = checked(proto, name, path, limits)
    facts = ModelFacts({p.key: p.value for p in proto.metadata_props}, map_outputs(proto))
    sha256 = digest.hexdigest()
    for raw in outside:
        digest.update(raw)
    return ModelFile(name, sha256, path, digest.hexdigest(), limits.lasting, facts, lambda: proto)


def _bytes_of(source: Union[str, os.PathLike[str], bytes, "onnx.ModelProto"]) -> tuple[bytes, str, Path | None]:
    """(bytes, name, path) of what a model can be."""
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        return read_bytes(path, MODEL), str(path), path
    if isinstance(source, bytes):
        return source, "<bytes>", None
    import onnx

    if not isinstance(source, onnx.ModelProto):
        raise ModelError(f"a model is a path, bytes or a ModelProto, not {type(source).__name__}")
    return source.SerializeToString(deterministic=True), "<ModelProto>", None


def _read_again(
    source: Union[str, os.PathLike[str], bytes, "onnx.ModelProto"], sha256: str, limits: Limits
) -> "onnx.ModelProto":
    """The model of a file that was known, so that it was not parsed. Raises ModelError if it is another one by now."""
    file = read_model(source, limits)
    if file.sha256 != sha256:
        raise ModelError(f"{file.name}: the file changed while it was in use; open it again")
    return file.proto
