"""Class names from the Hub of this machine, read by a process of its own."""

import io
import json

import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from synclr_hf.concepts.banks import load_concepts
from synclr_hf.errors import UserInputError

CARD = """---
dataset_info:
  features:
  - name: image
    dtype: image
{columns}
  splits:
  - name: train
    num_examples: 3
---
"""
LABEL = """  - name: {name}
    dtype:
      class_label:
        names:
{names}"""

READ = """
import json, sys
from synclr_hf.concepts.banks import load_bank
from synclr_hf.errors import UserInputError
found = {}
for spec in SPECS:
    try:
        bank = load_bank(spec)
        found[spec] = [[(c.name, c.source, c.kind) for c in bank.concepts], bank.dropped]
    except UserInputError as error:
        found[spec] = str(error)
print(json.dumps(found))
"""


def card(**labels):
    def names(values):
        return "\n".join(f"          '{number}': {value}" for number, value in enumerate(values))

    columns = [LABEL.format(name=name, names=names(values)) for name, values in labels.items()]
    return CARD.format(columns="\n".join(columns)).encode()


def parquet(features, rows):
    stream = io.BytesIO()
    pq.write_table(Dataset.from_list(rows, features=features).data.table, stream)
    return stream.getvalue()


def put(hub, name, files):
    hub.add(f"org/{name}", files, repo_type="dataset")


def test_class_names_of_the_hub(hub):
    no_data = {"data/train-00000-of-00001.parquet": b"nobody reads this"}
    put(hub, "food", {"README.md": card(label=["apple_pie", "baby_back_ribs", "Apple pie"]), **no_data})
    put(hub, "fish", {"README.md": card(label=["'tench, Tinca tinca'", "'goldfish, Carassius auratus'"]), **no_data})
    put(hub, "cars", {"README.md": card(maker=["Audi", "BMW"], body=["van", "estate"]), **no_data})
    put(hub, "plain", {"README.md": card(), **no_data})
    tags = Features({"tags": List(ClassLabel(names=["reed_bed", "dune"])), "x": Value("int64")})
    put(hub, "no_card", {"data/train-00000-of-00001.parquet": parquet(tags, [{"tags": [0], "x": 1}])})
    put(hub, "long", {"README.md": card(label=["x" * 101, "owl"]), **no_data})
    put(hub, "dull", {"README.md": card(label=["_", "owl", "---", "Owl"]), **no_data})
    put(hub, "nothing", {"README.md": card(label=["_", "--"]), **no_data})
    put(hub, "empty", {"README.md": b"nothing here"})
    entries = [f"- config_name: {name}\n  data_files: {name}.parquet\n" for name in ("day", "night")]
    several = f"---\nconfigs:\n{''.join(entries)}---\n"
    owls = Features({"label": ClassLabel(names=["owl", "nightjar"])})
    larks = Features({"label": ClassLabel(names=["lark"]), "sex": ClassLabel(names=["hen", "cock"])})
    data = {"day.parquet": parquet(larks, [{"label": 0, "sex": 1}]), "night.parquet": parquet(owls, [{"label": 0}])}
    put(hub, "birds", {"README.md": several.encode(), **data})
    names = "food fish cars cars:body cars:color plain no_card long dull nothing empty missing".split()
    names += "birds birds/night birds/day birds/day:sex birds/noon".split()
    specs = [f"hub:org/{name}" for name in names]
    found = json.loads(hub.python(READ.replace("SPECS", repr(specs))).splitlines()[-1])
    found = {spec.removeprefix("hub:org/"): outcome for spec, outcome in found.items()}
    assert found["food"] == [
        [["apple pie", "org/food", "object"], ["baby back ribs", "org/food", "object"]],
        {"org/food": 1},
    ]
    assert [name for name, *_ in found["fish"][0]] == ["tench", "goldfish"]
    assert "several columns of the data set 'org/cars' have class names: maker, body; type --c" in found["cars"]
    assert [name for name, *_ in found["cars:body"][0]] == ["van", "estate"]
    assert "column 'color' of the data set 'org/cars' has no class names; allowed: maker, body" in found["cars:color"]
    assert "'org/plain' has no column with class names (its columns: image)" in found["plain"]
    assert [name for name, *_ in found["no_card"][0]] == ["reed bed", "dune"]
    assert found["cars:body"][0][0][1] == "org/cars:body", "two columns are two sources"
    assert found["long"] == [[["owl", "org/long", "object"]], {"org/long": 1}]
    assert found["dull"] == [[["owl", "org/dull", "object"]], {"org/dull": 3}]
    assert "class 0 of 'hub:org/nothing': '' is not a name" in found["nothing"]
    assert "the data set 'org/birds' has 2 configurations: day, night; type --concepts hub:org/b" in found["birds"]
    assert found["birds/night"][0] == [[name, "org/birds/night", "object"] for name in ("owl", "nightjar")]
    assert "have class names: label, sex; type --concepts hub:org/birds/day:label" in found["birds/day"]
    assert [name for name, *_ in found["birds/day:sex"][0]] == ["hen", "cock"]
    assert "unknown configuration of the data set 'org/birds' 'noon'; allowed: day, night; " in found["birds/noon"]
    for name in ("empty", "missing"):
        assert f"the class names of the data set 'org/{name}' cannot be read from the Hub (" in found[name]
        assert "\n" not in found[name] and "--concepts FILE.txt" in found[name]
    fetched = {request.path for request in hub.requests if request.path.endswith(".parquet")}
    assert all("no_card" in path or "birds" in path for path in fetched), fetched


@pytest.mark.parametrize("spec", ["hub:", "hub:a/b/c/d", "hub:org/na me", "hub:org/name:"])
def test_what_names_no_data_set(spec):
    with pytest.raises(UserInputError, match="names no data set; type --concepts hub:ORG/NAME"):
        load_concepts(spec)


def test_without_the_network_the_reason_is_told():
    with pytest.raises(UserInputError, match="'org/nowhere' cannot be read from the Hub .*; type --concepts hub:"):
        load_concepts("hub:org/nowhere")
