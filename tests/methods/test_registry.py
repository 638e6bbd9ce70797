"""The table of methods: a method from its name and options, pickles, and methods of other packages."""

import json
import pickle
import re
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import EVERY_OPTION, changed_value, explained, model

import onnxcam
from onnxcam.errors import OptionError
from onnxcam.methods import METHODS, available, changed_options, defaults, method, method_names, registry
from onnxcam.methods.blocks import ClassScore, FeatureMaps, FourBlocks, Method, WeightedSum
from onnxcam.methods.fills import BLACK, MEAN, ZERO, Fill, blur, fill_named
from onnxcam.methods.score_cam import score_cam
from onnxcam.types import Image, Score

FILL_VALUES = [ZERO, BLACK, MEAN, blur(), blur(3), blur(0.125), blur(1 / 3), blur(12345678.5)]


def variations() -> list[Method]:
    methods = [make() for make in METHODS.values()]
    methods += [METHODS[name](**{option: changed_value(option, name)}) for name, option in EVERY_OPTION]
    return methods + [METHODS[n](fill=fill) for n in METHODS if "fill" in defaults(n) for fill in FILL_VALUES]


@pytest.mark.parametrize(
    "original", variations(), ids=lambda m: f"{m.name}-{'-'.join(changed_options(m)) or 'default'}"
)
def test_name_and_options_make_the_method_again_also_from_json_and_from_a_pickle(original: Method) -> None:
    assert set(original.options) == set(defaults(original.name))
    assert method(original.name, **original.options) == original
    assert method(original.name, **json.loads(json.dumps(original.options))) == original
    assert pickle.loads(pickle.dumps(original)) == original
    assert deepcopy(original) == original


@pytest.mark.parametrize(("name", "option"), EVERY_OPTION)
def test_methods_that_differ_in_an_option_are_not_equal(name: str, option: str) -> None:
    other = method(name, **{option: changed_value(option, name)})
    assert other != method(name)
    assert changed_options(other) == (option,)
    assert changed_options(method(name)) == ()


def test_options_are_values_of_their_kind() -> None:
    options = method("opti-cam", lr=1, bounds=[0, 2], max_iter=np.int64(7)).options
    assert (options["lr"], options["bounds"], options["max_iter"]) == (1.0, (0.0, 2.0), 7)
    kinds = {type(value) for name in METHODS for value in METHODS[name]().options.values()}
    assert kinds == {int, float, str, type(None)}


def test_a_method_pickles_as_its_name_and_options() -> None:
    function, arguments = method("rise", masks=9, fill="mean").__reduce__()
    assert function.__module__ == "onnxcam.methods.blocks"
    assert arguments == ("rise", {"masks": 9, "cells": 7, "probability": 0.5, "seed": 0, "fill": "mean"})


def test_unknown_names_and_options_list_the_near_ones() -> None:
    with pytest.raises(OptionError, match="no method is called 'score_cam'; did you mean score-cam"):
        method("score_cam")
    with pytest.raises(OptionError, match=r"'nosuch'; known: .*\(`onnxcam methods` lists them\)"):
        method("nosuch")
    with pytest.raises(OptionError, match="rise has no option 'mask'; did you mean masks"):
        method("rise", mask=3)
    with pytest.raises(OptionError, match="grad-cam has no option 'seed'; it has none"):
        method("grad-cam", seed=3)
    with pytest.raises(OptionError, match="no convention is called 3"):
        method("score-cam", convention=3)


def double(image: Image, preset: Any) -> Image:
    return 2 * image


def test_a_method_of_ones_own_pickles_if_its_functions_do() -> None:
    blocks = FourBlocks(FeatureMaps(), ClassScore(Score.LOGIT), WeightedSum())
    for custom in (Method("mine", "none", "none", blocks), score_cam(fill=Fill("double", double))):
        assert pickle.loads(pickle.dumps(custom)) == custom


def test_a_method_of_closures_says_how_to_send_it() -> None:
    custom = Method("mine", "none", "none", lambda probe: [])
    with pytest.raises(pickle.PicklingError, match=r"'mine'.*entry point 'onnxcam.methods', or send its name"):
        pickle.dumps(custom)
    assert deepcopy(custom) is custom


def test_a_changed_method_does_not_pickle_as_the_one_whose_name_it_bears() -> None:
    replaced = replace(score_cam(), explain=FourBlocks(FeatureMaps(), ClassScore(Score.LOGIT), WeightedSum()))
    again = pickle.loads(pickle.dumps(replaced))
    assert again == replaced != score_cam()
    with pytest.raises(pickle.PicklingError):
        pickle.dumps(replace(score_cam(), explain=lambda probe: []))


PLUGIN = '''
from onnxcam.methods.blocks import Method
from onnxcam.methods.maps import rectified


def brightest(*, power: float = 1.0) -> Method:
    """The brightest feature."""

    def explain(probe):
        return [rectified(probe.features.max(axis=0) ** power, probe.size)] * probe.targets

    return Method("brightest", "none", "none", explain, options={"power": float(power)})


def misnamed() -> Method:
    return Method("other", "none", "none", lambda probe: [])


def no_method():
    return 3


def forgetful(power=1.0, steepness=2.0):
    return Method("forgetful", "none", "none", lambda probe: [], options={"power": power})


def boastful():
    return Method("boastful", "none", "none", lambda probe: [], options={"power": 1.0})


def needy(power):
    return Method("needy", "none", "none", lambda probe: [], options={"power": power})


def empty():
    return Method("empty", "none", "none")


class Licence(Exception):
    pass


def unlicensed():
    raise Licence("no licence")


value = brightest()
ready = 3
'''
RAISING = {"asserts": "assert 1 == 2", "divides": "1 / 0", "exits": "raise SystemExit(3)"}


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the search path with two installed distributions that offer methods, good and broken ones."""
    (tmp_path / "onnxcam_bright.py").write_text(PLUGIN)
    (tmp_path / "onnxcam_broken.py").write_text("import a_module_that_is_not_there\n")
    distribution(
        tmp_path, "onnxcam-bright",
        {"brightest": "onnxcam_bright:brightest", "rise": "onnxcam_bright:brightest", "twice": "onnxcam_bright:misnamed",
         "misnamed": "onnxcam_bright:misnamed", "number": "onnxcam_bright:no_method", "gone": "onnxcam_bright:gone"},
    )  # fmt: skip
    distribution(tmp_path, "onnxcam-broken", {"broken": "onnxcam_broken:make", "twice": "onnxcam_broken:make"})
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in ("onnxcam_bright", "onnxcam_broken"):
        sys.modules.pop(name, None)


@pytest.fixture
def bad_plugins(plugin: Path) -> Path:
    """Adds a distribution for each way in which a package can be broken."""
    entries = {name: f"onnxcam_bright:{name}" for name in ("forgetful", "boastful", "needy", "empty", "unlicensed")}
    entries |= {"value": "onnxcam_bright:value", "ready": "onnxcam_bright:ready"}
    for name, code in RAISING.items():
        (plugin / f"onnxcam_{name}.py").write_text(f"{code}\n")
        entries[name] = f"onnxcam_{name}:make"
    distribution(plugin, "onnxcam-bad", entries)
    yield plugin
    for name in RAISING:
        sys.modules.pop(f"onnxcam_{name}", None)


BAD = [
    ("asserts", "cannot be loaded: AssertionError"),
    ("divides", "cannot be loaded: ZeroDivisionError"),
    ("exits", "cannot be loaded: SystemExit: 3"),
    ("unlicensed", "cannot be loaded: Licence: no licence"),
    ("needy", "cannot be loaded: TypeError"),
    ("empty", "'empty' has neither explain nor stream"),
    ("value", "of the type Method; give the function that makes it"),
    ("ready", "of the type int; give the function that makes it"),
    ("forgetful", "'forgetful' of the package onnxcam-bad does not record steepness; Method.options must"),
    ("boastful", "'boastful' of the package onnxcam-bad records power, which is no parameter"),
]


@pytest.mark.parametrize(("name", "message"), BAD)
def test_whatever_a_package_does_wrong_is_an_error_that_says_it(bad_plugins: Path, name: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        onnxcam.method(name)


def test_broken_packages_do_not_hide_the_methods_that_work(bad_plugins: Path) -> None:
    methods = {m.name: m for m in available() if m.origin != "onnxcam"}
    assert methods["brightest"].error is None
    for name, message in BAD:
        assert re.search(message, str(methods[name].error))


def test_names_of_methods_are_known_without_loading_a_package(plugin: Path) -> None:
    names = method_names()
    assert names[: len(METHODS)] == tuple(METHODS)
    assert set(names) - set(METHODS) == {"brightest", "twice", "misnamed", "number", "gone", "broken"}
    assert "onnxcam_bright" not in sys.modules


def test_the_function_of_a_package_makes_its_default_method_once(plugin: Path) -> None:
    (plugin / "onnxcam_counted.py").write_text(
        "from onnxcam import Method\nbuilt = []\n"
        "def counted(power=1.0):\n    built.append(power)\n"
        "    explain = lambda probe: [rectified(probe.features[0], probe.size)] * probe.targets\n"
        "    return Method('counted', 'none', 'none', explain, options={'power': power})\n"
        "from onnxcam.methods.maps import rectified\n"
    )
    distribution(plugin, "onnxcam-counted", {"counted": "onnxcam_counted:counted"})
    registry._entry_points_on.cache_clear()
    saliencies = explained(model(), onnxcam.method("counted", power=2.0), (0, 1, 2))
    assert [s.provenance.changed for s in saliencies] == [("power",)] * len(saliencies)
    assert sys.modules.pop("onnxcam_counted").built == [1.0, 2.0]


def test_a_method_with_other_values_in_its_closures_does_not_pickle_as_the_packages(plugin: Path) -> None:
    weak = replace(onnxcam.method("brightest", power=3), options={"power": 1.0})
    with pytest.raises(pickle.PicklingError, match="'brightest'"):
        pickle.dumps(weak)


def test_a_method_without_a_function_or_with_options_that_json_cannot_hold_is_refused() -> None:
    with pytest.raises(OptionError, match="'mine' has neither explain nor stream"):
        Method("mine", "none", "none")
    for needs in (None, frozenset({"features"})):
        with pytest.raises(OptionError, match="needs of the method 'mine' is a set"):
            Method("mine", "none", "none", double, needs=needs)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="are texts; those of 'mine' are not"):
        Method("mine", None, "none", double)  # type: ignore[arg-type]
    for value in (np.zeros(2), float("nan"), object(), np.float32(1)):
        with pytest.raises(OptionError, match="options of the method 'mine' cannot be recorded"):
            Method("mine", "none", "none", lambda probe: [], options={"a": value})
    with pytest.raises(OptionError, match="cannot be recorded"):
        Method("mine", "none", "none", lambda probe: [], options={1: 2})  # type: ignore[dict-item]


def test_options_of_a_method_do_not_change() -> None:
    values: dict[str, Any] = {"power": 1, "bounds": [0, 1]}
    custom = Method("mine", "none", "none", double, options=values)
    values["power"] = 2
    values["bounds"].append(2)
    assert custom.options == {"power": 1, "bounds": (0, 1)}
    for options in (custom.options, explained(model(), method("grad-cam"))[0].provenance.options):
        with pytest.raises(TypeError, match="do not change"):
            options["power"] = 3  # type: ignore[index]
        with pytest.raises(TypeError, match="do not change"):
            options.update(power=3)  # type: ignore[attr-defined]
        again = pickle.loads(pickle.dumps(options))
        assert again == options == deepcopy(options)
        assert type(again) is type(options)
        assert json.loads(json.dumps(options)).keys() == options.keys()


@pytest.mark.parametrize("value", [3, None, [1], {}])
def test_a_name_that_is_no_text_is_an_option_error(value: Any) -> None:
    with pytest.raises(OptionError, match="name is a text"):
        fill_named(value)
    for call in (method, defaults):
        with pytest.raises(OptionError, match="name is a text"):
            call(value)


def distribution(folder: Path, name: str, entry_points: dict[str, str]) -> None:
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"{key} = {value}" for key, value in entry_points.items()]
    (info / "entry_points.txt").write_text("[onnxcam.methods]\n" + "\n".join(lines) + "\n")


def test_a_method_of_another_package_is_made_by_its_name(plugin: Path) -> None:
    bright = onnxcam.method("brightest", power=2)
    assert (bright.name, bright.options) == ("brightest", {"power": 2.0})
    assert (defaults("brightest"), changed_options(bright)) == ({"power": 1.0}, ("power",))
    (saliency,) = explained(model(), bright)
    assert saliency.provenance.method == "brightest"
    assert saliency.provenance.changed == ("power",)
    with pytest.raises(OptionError, match="did you mean power"):
        onnxcam.method("brightest", powr=2)
    with pytest.raises(OptionError, match="did you mean brightest"):
        onnxcam.method("brightes")


def test_a_method_of_another_package_pickles_though_it_is_made_of_closures(plugin: Path) -> None:
    bright = pickle.loads(pickle.dumps(onnxcam.method("brightest", power=3)))
    (one,), (other,) = explained(model(), bright), explained(model(), onnxcam.method("brightest", power=3))
    np.testing.assert_array_equal(one.map, other.map)


def test_the_list_of_methods_says_where_each_comes_from_and_which_are_broken(plugin: Path) -> None:
    methods = available()
    built_in = [(name, make) for name, make, origin, error in methods if origin == "onnxcam"]
    assert built_in == list(METHODS.items())
    others = {m.name: m for m in methods[len(METHODS) :]}
    assert set(others) == {"brightest", "rise", "twice", "misnamed", "number", "gone", "broken"}
    assert (others["brightest"].origin, others["brightest"].error) == ("onnxcam-bright", None)
    assert others["brightest"].maker is not None
    assert {name for name, m in others.items() if m.error is None} == {"brightest"}
    assert all(m.maker is None for name, m in others.items() if name != "brightest")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken", "'broken' of the package onnxcam-broken cannot be loaded: ModuleNotFoundError"),
        ("gone", "'gone' of the package onnxcam-bright cannot be loaded: AttributeError"),
        ("number", "'number' of the package onnxcam-bright is no onnxcam.Method but int"),
        ("misnamed", "'misnamed' of the package onnxcam-bright calls itself 'other'"),
        ("twice", r"from several packages \(onnxcam-br\w+, onnxcam-br\w+\); uninstall"),
    ],
)
def test_a_broken_method_is_an_error_that_names_its_package_when_it_is_asked_for(
    plugin: Path, name: str, message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        onnxcam.method(name)
    assert next(m for m in available() if m.name == name).error is not None


def test_a_built_in_name_stays_the_built_in_methods(plugin: Path) -> None:
    assert onnxcam.method("rise") == METHODS["rise"]()
    (repeated,) = [m for m in available() if m.name == "rise" and m.origin != "onnxcam"]
    assert "onnxcam-bright repeats the name of a built-in method, 'rise'" in str(repeated.error)


def test_without_other_packages_only_the_built_in_methods_are_listed() -> None:
    assert [m.name for m in available()] == list(METHODS)
