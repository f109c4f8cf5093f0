import pytest

from synclr_hf.data.back_ends import BackEnd, find_back_end, load_object
from synclr_hf.errors import UserInputError

REGISTRY = {"toy": "collections:Counter", "transformers": "pathlib:PurePosixPath"}


def find(spec):
    return find_back_end(
        spec, REGISTRY, model_back_end="transformers", what="language model", option="--language-model"
    )


def test_what_can_be_typed(tmp_path):
    assert find("toy") == BackEnd("collections:Counter")
    assert find("transformers:org/name") == BackEnd("pathlib:PurePosixPath", "org/name")
    assert find("org/name.v1-b") == BackEnd("pathlib:PurePosixPath", "org/name.v1-b")
    assert find(str(tmp_path)) == BackEnd("pathlib:PurePosixPath", str(tmp_path))
    assert find("toy").load() == {} and str(find("org/name").load()) == "org/name"


@pytest.mark.parametrize("spec", ["tony", "", "llama", "org/name/more", "vllm:org/name", "/no/such/folder"])
def test_anything_else_lists_what_is_allowed(spec):
    with pytest.raises(UserInputError) as caught:
        find(spec)
    message = str(caught.value)
    assert message.startswith(f"unknown language model '{spec}'") and "\n" not in message
    assert "allowed: toy, transformers:ORG/NAME, ORG/NAME, a folder with a saved model" in message
    assert message.endswith("type --language-model toy")


def test_a_near_miss_is_guessed():
    with pytest.raises(UserInputError, match="did you mean 'toy'"):
        find("toyy")


def test_a_back_end_without_its_model_and_a_toy_with_one():
    with pytest.raises(UserInputError, match="does not say which model; type --language-model transformers:ORG/NAME"):
        find("transformers")
    with pytest.raises(UserInputError, match="'toy' takes no model; type --language-model toy"):
        find("toy:org/name")


def test_the_class_says_whether_several_processes_may_load_it():
    assert not find("toy").parallel_processes
    assert load_object("synclr_hf.data.back_ends:BackEnd") is BackEnd
