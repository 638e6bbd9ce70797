import importlib.metadata

import pytest

from onnxcam import versions as module
from onnxcam.engine import plugins, providers
from onnxcam.network.cache import key
from onnxcam.versions import GRAPH_MAKERS, PACKAGES, cache_versions, versions


def test_package_metadata_is_read_once_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []

    def version(name: str) -> str:
        names.append(name)
        return importlib.metadata.version(name)

    monkeypatch.setattr(module, "version", version)
    module._installed.cache_clear()
    first = versions()
    first["numpy"] = "changed by a caller"
    assert versions()["numpy"] == importlib.metadata.version("numpy")
    assert versions() is not versions()
    assert names == list(PACKAGES)
    assert cache_versions().items() >= versions().items()
    assert names == [*PACKAGES, *GRAPH_MAKERS]


def test_packages_that_are_not_installed_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "onnxruntime-gpu":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(module, "version", version)
    module._installed.cache_clear()
    assert versions() == {name: "1.0" for name in PACKAGES if name != "onnxruntime-gpu"}
    module._installed.cache_clear()


def test_every_build_of_the_runtime_and_every_plugin_is_among_them() -> None:
    builds = [name for name in providers.PACKAGES.values() if name.startswith("onnxruntime-")]
    plugin = [plugins.PACKAGE.format(name).replace("_", "-") for name in providers.BESIDE]
    assert {"onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", *builds, *plugin} <= set(PACKAGES)


def test_the_cache_tells_other_versions_of_what_makes_graphs_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key("a model")
    monkeypatch.setattr(
        module, "version", lambda name: "0.0" if name == "onnxscript" else importlib.metadata.version(name)
    )
    module._installed.cache_clear()
    assert key("a model") != before
    assert "onnxscript" not in versions(), "no number of a map depends on it"
    module._installed.cache_clear()
    monkeypatch.undo()
    assert key("a model") == before
