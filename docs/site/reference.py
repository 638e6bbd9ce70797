"""Which public names the pages of the reference describe.

Every name of `onnxcam.__all__` stands on one page (tests/test_site.py), and the page is made from its docstring.
"""

from collections.abc import Mapping
from dataclasses import dataclass

ERRORS = (
    "PictureError ModelError NoSpatialFeatures UnknownLayer MissingGradient ModelsNotOpened TargetError PresetError "
    "LabelError DataError OptionError ProviderError RuntimeMissing InferenceError OutOfMemory ProcessDied TimedOut "
    "UndefinedSaliency CompileError OutputError"
)


@dataclass(frozen=True)
class ReferencePage:
    """title: in the navigation. intro: Markdown above the names. names: full ones, in the order of the page.

    options: of mkdocstrings, for every name of the page.
    """

    title: str
    intro: str
    names: tuple[str, ...]
    options: Mapping[str, bool] | None = None

    def markdown(self) -> str:
        options = "".join(f"\n        {name}: {str(value).lower()}" for name, value in (self.options or {}).items())
        below = f"\n    options:{options}" if options else ""
        blocks = "\n\n".join(f"::: {name}{below}" for name in self.names)
        return f"# {self.title}\n\n{self.intro}\n\n{blocks}\n"


def _public(words: str) -> tuple[str, ...]:
    return tuple(f"onnxcam.{word}" for word in words.split())


PAGES: Mapping[str, ReferencePage] = {
    "explainer": ReferencePage(
        "Explainer",
        "The front door: one model and one method, opened once. [Start in a minute](../start.md) shows it at work.",
        _public("Explainer EngineOptions MemoryCap Limits"),
    ),
    "results": ReferencePage(
        "Results",
        "What an explanation gives back ([how it is shown, saved and converted](../outputs.md)). All can be pickled.",
        _public(
            "Saliency Explanations SalientRegion ScoredTarget Provenance Channels FusedLayer Placement Note NoteCode "
            "Origin Source DeviceSaliency overlay to_detections to_coco to_label_studio"
        ),
    ),
    "targets": ReferencePage(
        "Targets",
        "What is explained, where it is not a class. A class is a number, a label, `rank1` to `rankN` (`top5`: the "
        "five best), or None: the prediction.",
        _public("Box Element Region Similarity Timestep"),
    ),
    "pictures": ReferencePage(
        "Pictures and preprocessing",
        "How a file or an array becomes what the network takes ([which are taken](../pictures.md), "
        "[where the preset comes from](../preprocessing.md)).",
        _public("read_picture Preset PRESETS"),
    ),
    "methods": ReferencePage(
        "Methods",
        "Functions that make a `Method`; [what each is good for](../methods.md), with a picture of each.",
        _public(
            "method METHODS Method score_cam opti_cam grad_cam grad_cam_plus_plus xgrad_cam layer_cam hires_cam cam "
            "ablation_cam recipro_cam eigen_cam gradient guided_backprop smooth_grad integrated_gradients rise mask "
            "Convention Fill ZERO BLACK MEAN blur fill_named"
        ),
    ),
    "metrics": ReferencePage(
        "Metrics",
        "Functions of a `Scorer` and a map; [what each number means](../metrics.md). "
        "`Explainer.measure` computes them of a result.",
        _public(
            "METRICS Metric Measurement Scorer deletion insertion average_drop average_gain average_increase adcc road "
            "faithfulness_correlation pointing_game energy_pointing_game sparseness BASELINES centred_gaussian"
        ),
    ),
    "evaluation": ReferencePage(
        "Evaluations and the sanity check",
        "[Data sets](../data.md), [evaluations](../evaluate.md) and the [sanity check](../metrics.md#sanity-check).",
        _public(
            "evaluate ModelRequest read_data sample DataSet DataItem LabelledBox "
            "sanity_check SanityOptions SanityReport"
        ),
    ),
    "compile": ReferencePage(
        "Compiled files", "[An explanation as one ONNX file](../compile.md).", _public("compile Compiled")
    ),
    "errors": ReferencePage(
        "Errors",
        "All of them derive from `OnnxCamError`, and name the thing, what was found and the way out. "
        "[Which to answer how in a service](../workers.md#a-service-for-the-files-of-strangers).",
        ("onnxcam.OnnxCamError", *(f"onnxcam.errors.{name}" for name in ERRORS.split())),
        {"show_bases": True, "show_signature": False, "separate_signature": False, "members": False},
    ),
}
"""The pages by the name of their file."""
