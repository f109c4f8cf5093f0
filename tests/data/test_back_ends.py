import pytest

from synclr_hf.data.back_ends import BackEnd, find_back_end, load_object
from synclr_hf.data.workers import usable_cores
from synclr_hf.errors import UserInputError

REGISTRY = {"toy": "collections:Counter", "transformers": "pathlib:PurePosixPath"}


class OnDevice:
    """A back end with options, for a device."""

    takes = ("dtype", "device_map")
    uses_device = True

    def __init__(self, model, dtype="auto", device_map=None):
        self.built = (model, dtype, device_map)


class OnCores:
    parallel_processes = True


def find(spec, **more):
    registry = REGISTRY | dict.fromkeys(more.get("served", ()), REGISTRY["transformers"])
    return find_back_end(
        spec, registry, model_back_end="transformers", what="language model", option="--language-model", **more
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


def test_a_back_end_that_asks_a_server():
    assert find("api:name:7b", served=["api"]) == BackEnd("pathlib:PurePosixPath", "name:7b")
    with pytest.raises(UserInputError, match="api does not say which model; type --language-model api:MODEL"):
        find("api", served=["api"])
    with pytest.raises(UserInputError, match="allowed: toy, api:MODEL, transformers:ORG/NAME, ORG/NAME, a folder"):
        find("tony", served=["api"])


def test_options_reach_the_class():
    assert find("toy").takes == ()
    back_end = BackEnd("test_back_ends:OnDevice", "org/name", (("dtype", "float16"),))
    assert back_end.takes == ("dtype", "device_map")
    assert back_end.load().built == ("org/name", "float16", None)


def test_default_number_of_processes(monkeypatch):
    """One a core, one a CUDA device (faked: four of them), or one."""
    monkeypatch.setattr("synclr_hf.data.back_ends.visible_devices", lambda: ("0", "1", "2", "3"))
    assert BackEnd("test_back_ends:OnCores").default_workers == usable_cores()
    assert BackEnd("test_back_ends:OnCores").devices == ()
    assert BackEnd("test_back_ends:OnDevice", "org/name").default_workers == 4
    spread = BackEnd("test_back_ends:OnDevice", "org/name", (("device_map", "auto"),))
    assert spread.default_workers == 1 and len(spread.devices) == 4
    assert find("toy").default_workers == 1
    monkeypatch.setattr("synclr_hf.data.back_ends.visible_devices", lambda: ())
    assert BackEnd("test_back_ends:OnDevice", "org/name").default_workers == 1


def test_the_class_says_whether_several_processes_may_load_it():
    assert not find("toy").parallel_processes
    assert load_object("synclr_hf.data.back_ends:BackEnd") is BackEnd
