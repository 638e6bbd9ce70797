"""Claims that hold for every method: options, seeds, costs, several targets and pictures at once."""

from typing import Any

import numpy as np
import pytest
from tiny import (
    EVERY_OPTION,
    IMAGE,
    TARGET,
    Net,
    changed_value,
    explained,
    model,
    network,
    probe,
    small_method,
)

from onnxcam import Explainer
from onnxcam.errors import OptionError
from onnxcam.methods import METHODS, defaults
from onnxcam.methods.blocks import Need, run
from onnxcam.methods.fills import MEAN, ZERO

RECORDED = {"bounds": (-1.0, 2.0)}
WRONG: dict[str, Any] = {
    "convention": ["constructiv", "Destructive", ""], "variant": ["papers"], "score": ["logits", "softmax"],
    "max_iter": [0, -1, 1.5, True, "9"], "lr": [0, -0.1, np.nan, np.inf, True, 1.1e6], "nb_premises_at_startup": [0, 2.0, 257],
    "bounds": [(1, 0), (0, 0), (0, np.inf), (0, 1, 2), "01", 1.0], "tolerance": [-1e-9, np.nan], "epsilon": [-1.0, np.inf],
    "seed": [-1, 0.5], "samples": [0], "noise": [0, -0.1, np.nan], "steps": [0, 1, 2.5], "masks": [0, 1e3, 10**7 + 1],
    "cells": [0], "probability": [0, 1, 1.5, -0.5, np.nan], "cell": [0], "area": [-1, np.nan], "variation": [-0.1],
    "beta": [0, 0.5, np.inf], "budget": [0, 1.5, True, "9", 10**7 + 1], "jitter": [-1, 0.5],
}  # fmt: skip
DRAWN: dict[str, dict[str, Any]] = {
    "rise": {}, "smooth-grad": {}, "mask": {"jitter": 3}, "opti-cam": {"nb_premises_at_startup": 5, "max_iter": 2},
}  # fmt: skip
"""Methods with a seed, and the options by which it matters."""
STEPS = {"opti-cam": 16, "mask": 15, "smooth-grad": 20, "integrated-gradients": 300}
FORWARDS = {"score-cam": 7, "cam": 8 + 3, "ablation-cam": 7 + 2, "recipro-cam": 4 * 3 + 1, "rise": 100}
"""Beside the picture's own; one of the eight feature maps is all zeros. The tail's methods run the picture once more for its
raw features; CAM asks for no features and for all of them, Ablation-CAM for all of them."""


@pytest.mark.parametrize(("name", "option"), EVERY_OPTION)
def test_an_option_that_is_changed_is_recorded_and_no_other(name: str, option: str) -> None:
    before = METHODS[name]().options
    value = changed_value(option, name)
    after = METHODS[name](**{option: value}).options
    assert {o for o in before if before[o] != after[o]} == {option}
    assert after[option] == RECORDED.get(option, value)
    assert set(after) == set(defaults(name))


@pytest.mark.parametrize(("name", "option"), EVERY_OPTION)
def test_values_that_make_no_sense_are_option_errors(name: str, option: str) -> None:
    for value in WRONG[option]:
        with pytest.raises(OptionError):
            METHODS[name](**{option: value})


@pytest.mark.parametrize("name", METHODS)
def test_the_explainer_gives_the_methods_map_and_records_what_made_it(name: str) -> None:
    method, proto = small_method(name), network(name)
    (saliency,) = explained(proto, method)
    (outcome,) = run(method, probe(proto, method))
    np.testing.assert_array_equal(saliency.map, outcome.map)
    np.testing.assert_array_equal(saliency.raw, outcome.raw)
    provenance = saliency.provenance
    assert (provenance.method, provenance.options, provenance.fill) == (name, dict(method.options), method.perturb.name)
    assert set(outcome.notes) <= set(provenance.notes)
    scores = Net(proto).logits(IMAGE[None]) if method.score == "logit" else Net(proto).probabilities(IMAGE[None])
    assert saliency.score == pytest.approx(scores[0, TARGET], rel=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_the_cost_is_what_was_run(name: str) -> None:
    (saliency,) = explained(network(name), small_method(name))
    provenance = saliency.provenance
    steps = STEPS.get(name, 1 if Need.GRADIENT in small_method(name).needs else 0)
    pictures = 0 if small_method(name).begins_with is not None else 1  # a step is the picture's forward pass too
    assert (provenance.forwards, provenance.steps) == (FORWARDS.get(name, 0) + pictures, steps)
    scored = {"score-cam", "ablation-cam"}
    assert (provenance.channels.scored if provenance.channels is not None else None) == (7 if name in scored else None)


@pytest.mark.parametrize("name", METHODS)
def test_several_targets_at_once_have_the_maps_of_single_runs(name: str) -> None:
    proto, targets = network(name), (4, 3, 1)
    together = explained(proto, small_method(name), targets)
    apart = [explained(proto, small_method(name), (t,))[0] for t in targets]
    assert [s.target.index for s in together] == list(targets)
    for one, other in zip(together, apart, strict=True):
        np.testing.assert_allclose(one.map, other.map, atol=1e-5)
    if name != "eigen-cam":
        assert np.abs(together[0].map - together[1].map).max() > 0.01


@pytest.mark.parametrize(
    ("name", "batch_size"), [*((name, 3) for name in METHODS), ("opti-cam", 1), ("opti-cam", 64), ("mask", 64)]
)
def test_a_batch_of_pictures_has_the_maps_of_single_calls(name: str, batch_size: int) -> None:
    several = [IMAGE, IMAGE[:, ::-1].copy(), IMAGE[::-1].copy(), IMAGE / 2]
    with Explainer(network(name), small_method(name), providers=["cpu"], batch=batch_size) as explainer:
        together = explainer.batch(several, TARGET)
        apart = [explainer(image, TARGET) for image in several]
    assert len(together) == 4
    for one, other in zip(together, apart, strict=True):
        np.testing.assert_allclose(one.map, other.map, atol=1e-5)
        assert one.score == other.score
        assert (one.provenance.steps, one.provenance.forwards) == (other.provenance.steps, other.provenance.forwards)


@pytest.mark.parametrize("name", DRAWN)
def test_the_same_seed_gives_the_same_map_and_another_one_another(name: str) -> None:
    assert "seed" in defaults(name)
    first, again, other = (explained(model(), small_method(name, **DRAWN[name], seed=s))[0].map for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


def test_every_method_with_a_seed_is_tested_for_it() -> None:
    assert set(DRAWN) == {name for name in METHODS if "seed" in defaults(name)}


@pytest.mark.parametrize("name", [name for name in METHODS if "fill" in defaults(name)])
def test_a_fill_takes_the_place_of_what_is_removed_and_is_recorded(name: str) -> None:
    """On a picture whose mean colour is not zero, removing to it gives another map."""
    image = IMAGE + np.float32(1.5)
    zero, mean = (explained(model(), small_method(name, fill=f), image=image)[0] for f in (ZERO, MEAN))
    assert (zero.provenance.fill, mean.provenance.fill) == ("zero", "mean")
    assert np.abs(zero.map - mean.map).max() > 1e-2
    (by_name,) = explained(model(), small_method(name, fill="mean"), image=image)
    np.testing.assert_array_equal(by_name.map, mean.map)
    with pytest.raises(OptionError, match="did you mean mean"):
        small_method(name, fill="means")
