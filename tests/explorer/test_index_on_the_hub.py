"""An index on the Hub: pushed by `synclr index`, opened by name, refused in one line where it cannot be."""

import json

import pytest
from image_sets import write_images

CODE = """
import json
from synclr_hf.cli.main import main
from synclr_hf.errors import UserInputError
from synclr_hf.explorer.index.opening import open_index
from synclr_hf.explorer.search import nearest

try:
    main({arguments!r})
except SystemExit as ended:
    assert not ended.code, ended.code
index = open_index("ada/toy-index")
told = {{"pictures": len(index), "concepts": index.concepts, "cards": sorted(index.cards)}}
told["nearest"] = [hit.row for hit in nearest(index, index.embedding(3)[None], 2)[0]]
for name in ("ada/nothing", "ada/other"):
    try:
        open_index(name)
    except UserInputError as error:
        told[name] = str(error)
print("TOLD" + json.dumps(told))
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return str(write_images(tmp_path_factory.mktemp("set") / "images", rows=12, rows_per_shard=6))


def test_pushed_and_opened_by_name(hub, tmp_path, tiny_encoder_folder, images):
    hub.add("ada/other", {"README.md": b"# Something else\n"}, "dataset")
    words = f"index --model {tiny_encoder_folder} --model pixels --images {images} --output-dir {tmp_path / 'index'}"
    done = hub.python(CODE.format(arguments=[*words.split(), "--push-to-hub", "ada/toy-index"]))
    told = json.loads(done.partition("TOLD")[2])
    assert told["pictures"] == 24 and told["concepts"] == ["bell", "hat", "mug"] and told["cards"] == ["images"]
    assert told["nearest"][0] == 3
    assert "there is no index 'ada/nothing' on the Hub, or your token may not read it" in told["ada/nothing"]
    assert "'ada/other' is no index of pictures" in told["ada/other"]
    files = hub.files("ada/toy-index", "dataset")
    assert {"index.json", "README.md", "cards/images.md", "data/train-00000.parquet"} <= files.keys()
    assert str(tmp_path).encode() not in files["README.md"] + files["index.json"] + files["cards/images.md"]
    assert json.loads(files["index.json"])["num_pictures"] == 24
