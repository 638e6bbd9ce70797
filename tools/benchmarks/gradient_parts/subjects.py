"""The networks that are compared, as ONNX files and as PyTorch modules."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch_models import Lite0, build_models, exported, frozen, resnet50, vgg16

from onnxcam import Explainer
from onnxcam.inputs.bundled import model
from onnxcam.methods.blocks import Method
from onnxcam.network.opening import OpenedModel, OpenOptions, open_model
from onnxcam.surgeon.loading import ModelFile, read_model

THREADS = 2
"""Threads of every session and of PyTorch."""


@dataclass(frozen=True)
class Subject:
    """A network as a file and as a module, with bounds to reach.

    forward: of a step over a forward pass; eager: of a step in PyTorch over a step; build: of the seconds to build.
    """

    name: str
    file: ModelFile
    network: torch.nn.Module
    forward: str = ""
    eager: str = ""
    build: str = ""


def subjects() -> Iterator[Subject]:
    """The networks one after another, because they are large."""
    yield Subject("EfficientNet-Lite0", read_model(model()), frozen(build_models.module()), "<= 3.0", ">= 1.35")
    network = resnet50()
    yield Subject("ResNet-50", read_model(exported(network)), network, "<= 2.3", ">= 1.3", "<= 2")
    network = vgg16()
    yield Subject("VGG-16", read_model(exported(network)), network, build="<= 4")


@cache
def single_precision() -> bytes:
    """EfficientNet-Lite0 as an ONNX file with the float32 weights of the PyTorch module."""
    cleaned = build_models.clean(build_models.export(build_models.module()))
    return build_models.finish(cleaned, build_models.read_labels(None))


@cache
def lite0(precision: torch.dtype = torch.float32) -> Lite0:
    return Lite0().to(precision)


def opened(file: ModelFile) -> OpenedModel:
    return open_model(file, OpenOptions(providers=("cpu",), threads=THREADS))


def explainer(method: Method, source: Any = None) -> Explainer:
    return Explainer(single_precision() if source is None else source, method, providers=["cpu"], threads=THREADS)
