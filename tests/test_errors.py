"""Messages of errors hold names that a file chose, and stay short; the tree of the classes is the documented one."""

import inspect
import pickle
import re

from onnxcam import errors
from onnxcam.errors import ModelError, OnnxCamError


def test_a_long_name_is_cut_in_its_middle_and_the_rest_stays() -> None:
    message = str(ModelError(f"m.onnx: the tensor 'a{'n' * 20_000}z' is damaged; get the file again"))
    assert message.startswith("m.onnx: the tensor 'annn")
    assert message.endswith("nnnz' is damaged; get the file again")
    assert len(message) < 400


def test_many_names_are_cut_too_and_the_way_out_stays() -> None:
    message = str(ModelError("names: " + "a name, " * 10_000 + "choose one"))
    assert len(message) == 2000
    assert message.endswith("choose one")


def test_an_ordinary_message_stays_as_it_is_also_through_a_pickle() -> None:
    message = f"/{'folder/' * 50}m.onnx: damaged"
    assert str(ModelError(message)) == message
    assert str(pickle.loads(pickle.dumps(ModelError(message)))) == message


def test_the_tree_has_every_class_below_its_base_with_the_words_of_its_docstring() -> None:
    bases, documented = ["OnnxCamError"], {}
    for branch, name, words in re.findall(r"^    ([│├└─ ]+)(\w+) +(.+)$", errors.__doc__ or "", re.MULTILINE):
        depth = len(branch) // 4
        documented[name] = (bases[depth - 1], words)
        bases[depth:] = [name]
    classes = {c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, OnnxCamError)}
    words = {c.__name__: (c.__doc__ or "").removesuffix(".") for c in classes - {OnnxCamError}}
    actual = {c.__name__: (c.__bases__[0].__name__, words[c.__name__]) for c in classes - {OnnxCamError}}
    assert len(actual) == 20
    assert {name: (base, text[0].upper() + text[1:]) for name, (base, text) in documented.items()} == actual
