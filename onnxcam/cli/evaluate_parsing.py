"""The words of `onnxcam evaluate` as the library's values, checked before anything is opened."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxcam.cli.evaluate_options import (
    ESTIMATED_METHODS,
    METHODS,
    METRICS,
    METRICS_OF_BOXES,
    RESULTS,
    EvaluateArgs,
    MethodsArgs,
)
from onnxcam.cli.opening import opening_arguments
from onnxcam.cli.options import MethodArgs
from onnxcam.cli.parsing import build_methods, parse_list, parse_output, parse_path
from onnxcam.errors import DataError, OptionError, near

if TYPE_CHECKING:
    from onnxcam.evaluation.dataset import DataSet
    from onnxcam.evaluation.model_request import ModelRequest
    from onnxcam.evaluation.options import EvaluationOptions
    from onnxcam.evaluation.runner import Engine
    from onnxcam.methods.blocks import Method

MODEL_SUFFIXES = (".onnx", ".ort")
DATA = "a folder, a manifest that lists pictures, or the file of annotations"
"""What stands behind the models."""
NONE = "none"
"""--baselines none."""
REMAKING = ("paths", "out", "run", "against", "seed", "report", "overwrite", "quiet", "json")
"""Fields of EvaluateArgs that count where tables and report are made anew."""


@dataclass(frozen=True, eq=False)
class Job:
    """What the words say. folder: of the results. against: the key of what the others are compared with."""

    models: "list[ModelRequest]"
    data: "DataSet"
    options: "EvaluationOptions"
    engine: "Engine"
    folder: Path
    against: str | None


def parse_job(args: EvaluateArgs) -> Job:
    """What is measured, with what, and where it goes. Raises OnnxCamError."""
    from onnxcam.evaluation.model_request import ModelRequest
    from onnxcam.evaluation.options import DataTarget, EvaluationOptions, metrics_for, source_named
    from onnxcam.evaluation.other_maps import check_maps
    from onnxcam.evaluation.targets_of_data import check_labels

    if args.run is not None:
        raise OptionError("--run is a run of a folder of results, which is given alone; leave it out to measure")
    *models, data = map(parse_path, args.paths)
    _check_paths(models, data)
    for folder in args.maps or ():
        parse_path(folder)
    out, engine, dataset = parse_output(args.out), _engine(args), _data(args, data)
    names = METRICS if args.metrics is None else args.metrics
    if args.metrics is None and any(item.boxes for item in dataset.items):
        names = f"{names},{METRICS_OF_BOXES}"
    baselines = [] if args.baselines == NONE else parse_list(args.baselines, "baselines")
    options = EvaluationOptions(
        _methods(args), metrics_for(parse_list(names, "metrics"), dataset.items), baselines, args.target,
        args.curve_step, parse_seed(args), args.keep_maps, args.maps or (), dataset.classes,
    )  # fmt: skip
    if options.target is DataTarget.LABEL:
        check_labels(dataset)
    check_maps(options.sources, dataset.items)
    against = parse_against(args.against)
    compared = source_named(options, against).key if against is not None else None
    arguments = opening_arguments(args, args.labels)
    requests = [ModelRequest(model, arguments) for model in models]
    return Job(requests, dataset, options, engine, Path(out if out is not None else RESULTS), compared)


def parse_seed(args: EvaluateArgs) -> int:
    """Of what is measured; tables that are made anew have that of their run."""
    return args.seed if args.seed is not None else 0


def parse_against(text: str | None) -> str | None:
    """The words of --against, or of a method with options the key of its rows. Raises OptionError."""
    from onnxcam.methods import method_names

    if text is None or ":" not in text or text.partition(":")[0].strip().casefold() not in method_names():
        return text
    from onnxcam.evaluation.options import method_key

    return method_key(build_methods(MethodArgs(method=text))[0])


def parse_folder(args: EvaluateArgs) -> tuple[Path, Path | None]:
    """(the folder of an earlier run, the folder of -o) where no model is given. Raises OptionError."""
    from onnxcam.evaluation.journal import NAME

    folder, out = parse_path(args.paths[0]), parse_output(args.out)
    if folder.suffix.lower() in MODEL_SUFFIXES:
        raise OptionError(f"give the data behind {folder}: {DATA}")
    if not (folder / NAME).is_file():
        raise OptionError(
            f"{folder}: one path alone is the folder of an earlier run, with its {NAME}; to measure, give "
            f"MODEL.onnx and then the data"
        )
    if args != EvaluateArgs(**{name: getattr(args, name) for name in REMAKING}):
        known = ", ".join(f"--{'no-report' if name == 'report' else name}" for name in REMAKING[1:])
        raise OptionError(
            f"{folder} alone is made into tables and report anew, which takes {known} and nothing else; to measure, "
            f"give MODEL.onnx and the data before -o {folder}"
        )
    return folder, Path(out) if out is not None else None


def _check_paths(models: Sequence[Path], data: Path) -> None:
    """Refuses what is no model or no data by its kind: words in another order, several folders, patterns."""
    from onnxcam.evaluation.journal import NAME
    from onnxcam.evaluation.readers.listing import is_picture
    from onnxcam.inputs.patterns import is_pattern

    if data.suffix.lower() in MODEL_SUFFIXES:
        raise OptionError(f"{data} is a model; give the data behind the models: {DATA}")
    for path in (*models, data):
        if is_pattern(str(path)):
            raise OptionError(f"{path} is a pattern; give the data as one word: {DATA}")
    for path in models:
        if (path / NAME).is_file():
            raise OptionError(f"{path} is the folder of an earlier run; give it alone, or as -o {path}")
        if path.is_dir() or is_picture(path.name):
            kind = "a folder" if path.is_dir() else "a picture"
            raise OptionError(f"{path} is {kind}, not a model; models come first, then the data as one word: {DATA}")


def _data(args: EvaluateArgs, path: Path) -> "DataSet":
    """The pictures that are measured."""
    from onnxcam.evaluation.journal import NAME
    from onnxcam.evaluation.readers import read_data, sample

    data = args.data
    if data.sample is None and data.balanced:
        raise OptionError("--balanced says how --sample N draws; give that too")
    try:
        dataset = read_data(
            path, format=data.format, labels=data.data_labels, images=data.pictures, classes=data.classes,
            split=data.split, crowds=data.crowds,
        )  # fmt: skip
    except DataError as error:
        if (path / NAME).is_file():
            raise DataError(f"{error}; it is the folder of an earlier run: give it alone, or as -o {path}") from None
        raise
    return dataset if data.sample is None else sample(dataset, data.sample, parse_seed(args), by_label=data.balanced)


def _methods(args: EvaluateArgs) -> "list[Method]":
    """The methods; none by default where maps of other tools are given."""
    method = args.method
    if method.methods is None and args.maps:
        if replace(method, methods=None) != MethodsArgs():
            raise OptionError("an option of a method needs one; name the methods to measure beside --maps: --methods")
        return []
    is_estimated = method.budget is not None or method.tolerance is not None or method.fast
    default = ESTIMATED_METHODS if is_estimated else METHODS
    names = default if method.methods is None else method.methods
    values = {field.name: getattr(method, field.name) for field in fields(method) if field.name != "methods"}
    return build_methods(MethodArgs(method=names, **values))


def _engine(args: EvaluateArgs) -> "Engine":
    """What computes."""
    from onnxcam.evaluation.evaluate import ENGINES
    from onnxcam.evaluation.runner import LocalEngine

    of_ray = {"address": args.address, "worker-cpus": args.worker_cpus, "worker-gpus": args.worker_gpus}
    if args.runner not in ENGINES:
        raise OptionError(f"no engine is called {args.runner!r}; {near(args.runner, ENGINES)}")
    if args.workers is not None and args.workers < 1:
        raise OptionError(f"--workers is the number of pictures at a time, from 1; not {args.workers}")
    if args.runner == "local":
        for name, value in of_ray.items():
            if value is not None:
                raise OptionError(f"--{name} is of the engine ray; give --engine ray too")
        return LocalEngine(args.workers or 1)
    from onnxcam.evaluation.ray_runner import RayEngine

    given: dict[str, Any] = {"actors": args.workers, "num_cpus": args.worker_cpus, "num_gpus": args.worker_gpus}
    return RayEngine(args.address, **{name: value for name, value in given.items() if value is not None})
