"""Messages of errors hold names that a file chose, and stay short."""

import pickle

from onnxcam.errors import ModelError


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
