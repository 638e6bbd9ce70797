"""The formats of data sets, by name. To add one: a file here that makes a `Reader`, and its line in READERS."""

from collections.abc import Mapping

from onnxcam.evaluation.readers.coco import COCO
from onnxcam.evaluation.readers.folder import FOLDER
from onnxcam.evaluation.readers.imagenet import IMAGENET
from onnxcam.evaluation.readers.manifest import MANIFEST
from onnxcam.evaluation.readers.reader import Reader
from onnxcam.evaluation.readers.voc import VOC
from onnxcam.evaluation.readers.yolo import YOLO

READERS: Mapping[str, Reader] = {reader.name: reader for reader in (COCO, VOC, YOLO, IMAGENET, MANIFEST, FOLDER)}
"""FOLDER comes last: it takes every folder that is of no other format."""
