"""EvaluationOptions: what is measured of every picture, as a value; and the sources of the maps that are measured."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from onnxcam.errors import OptionError, near
from onnxcam.evaluation.dataset import DataItem
from onnxcam.evaluation.model_request import canonical_json
from onnxcam.explainer.arguments import checked_method, shown
from onnxcam.limits import is_whole
from onnxcam.methods.blocks import Method
from onnxcam.methods.options import choose
from onnxcam.methods.registry import changed_options, method, method_names
from onnxcam.metrics.arguments import known_seed, typed
from onnxcam.metrics.baselines import BASELINES
from onnxcam.metrics.metric import Need
from onnxcam.metrics.registry import METRICS, metric_named
from onnxcam.metrics.requests import ALL

MethodLike = Method | str | tuple[str, Mapping[str, Any]]
"""A Method, a method's name, or a name and options."""


class DataTarget(StrEnum):
    """What is explained of a picture."""

    PREDICTION = "prediction"
    """What the model gives the unchanged picture: the top class, or the best box."""
    LABEL = "label"
    """The class that the data names."""


class SourceKind(StrEnum):
    """Where a map comes from."""

    METHOD = "method"
    FOLDER = "folder"
    BASELINE = "baseline"


@dataclass(frozen=True, eq=False)
class MapSource:
    """Something that gives one map of each picture, such as a method.

    key: RowKey.method; of a baseline its name, of a folder the folder's. title: Row.method_name. method, folder: of
    that kind.
    """

    kind: SourceKind
    key: str
    title: str
    method: Method | None = None
    folder: Path | None = None


@dataclass(frozen=True)
class EvaluationOptions:
    """What is measured of every picture of a data set. It can be pickled if its methods can.

    methods: a Method, a name, or a pair of a name and options, each. metrics: names such as 'deletion' or
    'average-drop:half'; 'all' for every metric. baselines: maps that explain nothing, measured as the methods are.
    target: 'prediction' or 'label', the data's class. step: pixels a step of a curve. seed: of metrics that draw
    numbers. keep_maps: results hold the maps of methods and folders. maps_folder: a folder, or several, with a map of
    another tool for each picture (other_maps.py says how they are named and placed); its name is the method's. classes:
    the data set's names by class number, for a model without labels.

    As attributes: methods are Method values; metrics are full names, as in 'average_drop:mult', each once; maps_folder
    is a tuple; sources are what gives the maps, in the order of the rows. Raises OptionError for unknown names, for a
    method that is given twice, and where nothing would be measured.
    """

    methods: Sequence[MethodLike] = ()
    metrics: Sequence[str] = (ALL,)
    baselines: Sequence[str] = tuple(BASELINES)
    target: DataTarget | str = DataTarget.PREDICTION
    step: int | None = None
    seed: int = 0
    keep_maps: bool = False
    maps_folder: str | Path | Sequence[str | Path] = ()
    classes: Mapping[int, str] = field(default_factory=dict)
    sources: tuple[MapSource, ...] = field(init=False)

    def __post_init__(self) -> None:
        for name in ("methods", "metrics", "baselines"):
            if isinstance(getattr(self, name), str | Method):
                raise OptionError(f"{name} is a list of names, not {shown(getattr(self, name))}")
        given = self.maps_folder
        methods = tuple(_method(each) for each in self.methods)
        folders = tuple(Path(folder) for folder in ([given] if isinstance(given, str | os.PathLike) else given))
        baselines = tuple(_baseline(name) for name in self.baselines)
        checked = {
            "methods": methods,
            "metrics": _metric_names(self.metrics),
            "baselines": baselines,
            "target": choose(DataTarget, self.target, "target"),
            "seed": known_seed(self.seed),
            "maps_folder": folders,
            "classes": dict(self.classes),
            "sources": _sources(methods, folders, baselines),
        }
        if self.step is not None and not is_whole(self.step, 1):
            raise OptionError(f"step is a whole number of pixels from 1 on, not {shown(self.step)}")
        if not checked["metrics"] or not checked["sources"]:
            raise OptionError("an evaluation needs a metric, and something to measure: methods, baselines or maps")
        for name, value in checked.items():
            object.__setattr__(self, name, value)


def source_named(options: EvaluationOptions, name: str) -> MapSource:
    """The method, folder or baseline that a person names, as key_named() says. Raises OptionError."""
    key = key_named(name, {source.key: source.title for source in options.sources})
    return next(source for source in options.sources if source.key == key)


def key_named(name: str, titles: Mapping[str, str]) -> str:
    """The key of what a person names to compare with: by key or title, or by the method's name where one method has it,
    whatever the letters' case.

    titles: of what is measured, by key. Raises OptionError, with all of them.
    """
    if name in titles:
        return name
    folded = name.strip().casefold()
    matches = [key for key, title in titles.items() if folded in (key.casefold(), title.casefold())]
    matches = matches or [key for key in titles if key.partition(" {")[0].casefold() == folded]
    if len(matches) == 1:
        return matches[0]
    what = f"{len(matches)} of what is measured are" if matches else "nothing that is measured is"
    listed = f"give one of: {', '.join(titles.values())}" if titles else "there are no rows"
    raise OptionError(f"{what} called {name!r}, to compare the others with; {listed}")


def metrics_for(names: Sequence[str], items: Iterable[DataItem]) -> tuple[str, ...]:
    """The metrics of these names that the data allows: 'all' leaves out those that need a box where no picture has one.

    Raises OptionError for an unknown name, and for one that needs a box where no picture has one.
    """
    has_boxes = any(item.boxes for item in items)
    chosen = _metric_names(names)
    needing = [name for name in chosen if Need.BOX in metric_named(name)[0].needs] if not has_boxes else []
    named = {full_name(name) for name in names if name != ALL}
    for name in needing:
        if name in named:
            raise OptionError(f"{typed(name)} needs boxes of the objects, and the data has none; leave it out")
    return tuple(name for name in chosen if name not in needing)


def _sources(methods: Sequence[Method], folders: Sequence[Path], baselines: Sequence[str]) -> tuple[MapSource, ...]:
    """What gives the maps: the methods, the folders, then the baselines. Raises OptionError where two share a name.

    A folder is never called like a method or a baseline, whether that is measured or not: rows have the name alone.
    """
    sources = [MapSource(SourceKind.METHOD, method_key(m), _title(m), method=m) for m in methods]
    for folder in folders:
        name = folder.resolve().name
        known = "baseline" if name in BASELINES else "method" if name in method_names() else None
        if known is not None:
            raise OptionError(
                f"{folder}: {name} is the name of a {known}; rename this folder of maps, such as their-{name}"
            )
        sources.append(MapSource(SourceKind.FOLDER, name, name, folder=folder))
    sources += [MapSource(SourceKind.BASELINE, name, name) for name in baselines]
    keys = [source.key for source in sources]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise OptionError(f"{twice} is given twice, and rows could not tell the two apart; name each once")
    return tuple(sources)


def method_key(method: Method) -> str:
    """The method's name, with the options that differ from its defaults as JSON behind it, if there are any."""
    changed = {name: method.options[name] for name in changed_options(method)}
    return f"{method.name} {canonical_json(changed)}" if changed else method.name


def _title(method: Method) -> str:
    """The name as people read it, such as 'score-cam (budget 100)'."""
    changed = ", ".join(f"{name.replace('_', ' ')} {method.options[name]}" for name in changed_options(method))
    return f"{method.name} ({changed})" if changed else method.name


def _method(given: MethodLike) -> Method:
    if isinstance(given, tuple | list) and len(given) == 2 and isinstance(given[1], Mapping):
        return method(given[0], **given[1])
    return checked_method(given if given is not None else "")


def _metric_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names with their protocol, each once; 'all' is every metric under its first protocol."""
    listed = [name for given in names for name in (METRICS if given == ALL else (given,))]
    return tuple(dict.fromkeys(full_name(name) for name in listed))


def full_name(name: str) -> str:
    """The metric's name with its protocol, as in 'average_drop:mult'. Raises OptionError for an unknown one."""
    metric, protocol = metric_named(name)
    return f"{metric.name}:{protocol}" if protocol is not None else metric.name


def _baseline(name: str) -> str:
    if not isinstance(name, str) or name not in BASELINES:
        raise OptionError(f"no baseline is called {shown(name)}; {near(str(name), BASELINES)}")
    return name
