"""The page over HTTP: named typed endpoints, friendly refusals, nothing of the server within reach."""

import json
import re
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from bad_uploads import BAD
from tiny_index import picture

from synclr_hf.errors import UserInputError

pytest.importorskip("gradio", reason="gradio is not installed: the page is not tested")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture(scope="module")
def url(explorer, closing_pages):
    from serving import served

    return served(explorer)


@pytest.fixture(scope="module")
def client(url):
    from gradio_client import Client

    client = Client(url, verbose=False)
    yield client
    client.close()


@pytest.fixture(scope="module")
def upload(tmp_path_factory):
    file = tmp_path_factory.mktemp("upload") / "query.png"
    picture(7).save(file)
    return str(file)


def handle(path):
    from gradio_client import handle_file

    return handle_file(path)


def test_every_public_endpoint_has_a_name_types_and_words(client):
    told = client.view_api(return_format="dict")
    names = "/search /search_pair /search_row /search_region /pca_maps /patch_similarity /browse /statistics /compare"
    assert set(told["named_endpoints"]) == set(names.split()) and not told["unnamed_endpoints"]
    for name, endpoint in told["named_endpoints"].items():
        assert endpoint["description"], name
        assert all(one["python_type"]["type"] for one in endpoint["parameters"]), name
        assert endpoint["returns"], name


def test_search_by_picture_row_and_pair(client, upload):
    pictures, found = client.predict(handle(upload), 5, ["green hat"], api_name="/search")
    assert [one["row"] for one in found][0] == 7 and {one["concept"] for one in found} == {"green hat"}
    assert len(pictures) == 5 and pictures[0]["caption"].startswith("1.00, green hat")
    assert Path(pictures[0]["image"]).stat().st_size > 100
    _, found = client.predict(7, 4, [], api_name="/search_row")
    assert len(found) == 4 and 7 not in [one["row"] for one in found]
    _, found = client.predict(handle(upload), handle(upload), "mean", 2, [], api_name="/search_pair")
    assert found[0]["row"] == 7 and found[0]["similarity"] > 0.999


def test_regions_maps_and_similarity(client, upload):
    maps, found, words = client.predict(handle(upload), 2, 3, [], api_name="/search_region")
    assert found[0]["row"] == 7 and (found[0]["patch_row"], found[0]["patch_column"]) == (2, 3)
    assert len(maps) == len(found) == 12 and words.startswith("36 of 36 pictures looked at")
    maps, words = client.predict([handle(upload)] * 3, 112, True, 0.0, 80, False, api_name="/pca_maps")
    assert len(maps) == 3 and "14 x 14 patches" in words and "Foreground" in words
    maps, words = client.predict([handle(upload)] * 2, 112, 2, 3, 4, api_name="/patch_similarity")
    assert len(maps) == 2 and words.startswith("Patch in row 3, column 4 of picture 2; black: cosine")


def test_the_data_and_two_encoders(client, explorer):
    told = client.predict("table -hat", [], ["concept"], [], 1, api_name="/browse")
    assert told["total"] == 3 and told["captions"][0]["rows"] == [0, 1, 2, 3]
    assert client.predict(api_name="/statistics")["pictures"] == 36
    first = explorer.encoder_names[0]
    told = client.predict(None, 7, first, "pixels", 6, api_name="/compare")
    assert [one["encoder"] for one in told["answers"]] == [first, "pixels"] and len(told["answers"][0]["hits"]) == 6


@pytest.mark.parametrize("name", ["animated.gif", "drawing.svg", "phone.heic", "text.jpg", "bomb.png", "cut.jpg"])
def test_bad_pictures_are_refused_kindly(client, tmp_path, name):
    content, words = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Exception, match=re.escape(words)) as error:
        client.predict(handle(str(tmp_path / name)), 5, [], api_name="/search")
    assert "Traceback" not in str(error.value) and "/" not in str(error.value).replace("type /", "")


@pytest.mark.parametrize(
    ("endpoint", "values", "words"),
    [
        ("/search", (None, 5, []), "there is no picture yet"),
        ("/search_row", (99, 5, []), "there is no picture 99"),
        ("/search_row", (1, 5, ["cat"]), "cat"),
        ("/pca_maps", ([], 224, False, 0, 80, False), None),
        ("/patch_similarity", ([], 224, 1, 0, 0), "there is no picture yet"),
        ("/browse", ("x" * 600, [], [], [], 1), "too long"),
        ("/compare", (None, 3, "pixels", "pixels", 5), "both sides are 'pixels'"),
    ],
)
def test_questions_that_cannot_be_answered(client, endpoint, values, words):
    if words is None:
        assert "Add pictures" in client.predict(*values, api_name=endpoint)[1]
        return
    with pytest.raises(Exception, match=re.escape(words)):
        client.predict(*values, api_name=endpoint)


def test_too_many_pictures_are_refused_before_one_is_read(explorer):
    from synclr_hf.explorer.page.maps_tab import _Functions

    functions = _Functions(explorer)
    for ask in (functions.pca_maps, functions.patch_similarity):
        with pytest.raises(UserInputError, match="9 pictures are too many; give up to 8"):
            ask(["nowhere.png"] * 9)


def get(address):
    try:
        with urllib.request.urlopen(address, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_no_file_of_the_server_can_be_read(url, tiny_encoder_folder, tiny_index_folder):
    paths = ["/etc/passwd", f"{tiny_encoder_folder}/config.json", f"{tiny_index_folder}/index.json", __file__]
    paths += ["../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "pyproject.toml", "/proc/self/environ"]
    for path in paths:
        for route in ("gradio_api/file=", "file="):
            status, body = get(f"{url}/{route}{path}")
            assert status in (403, 404), path
            assert b"root:" not in body and b"hidden_size" not in body
    for address in (url, f"{url}/config", f"{url}/gradio_api/info"):
        status, body = get(address)
        assert status == 200
        assert str(Path(tiny_encoder_folder).parent).encode() not in body
        assert str(Path(tiny_index_folder).parent).encode() not in body


@pytest.mark.parametrize(
    "picture",
    [
        {"path": "/etc/passwd"},
        {"path": __file__, "url": None},
        {"path": "x", "url": "http://127.0.0.1:1/secret.png"},
        {"path": "http://169.254.169.254/latest/meta-data", "meta": {"_type": "gradio.FileData"}},
    ],
)
def test_a_picture_cannot_name_a_path_of_the_server_nor_another_machine(url, picture):
    config = json.loads(get(f"{url}/config")[1])
    names = [one["api_name"] for one in config["dependencies"]]
    assert "search" in names
    picture = {"meta": {"_type": "gradio.FileData"}, **picture}
    body = json.dumps({"data": [picture, 5, []]}).encode()
    request = urllib.request.Request(f"{url}/gradio_api/call/search", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            event = json.loads(answer.read())["event_id"]
    except urllib.error.HTTPError as error:
        assert error.code in (400, 403, 413, 422)
        return
    _, told = get(f"{url}/gradio_api/call/search/{event}")
    assert b"event: error" in told and b"event: complete" not in told
    assert b"root:" not in told and b"importorskip" not in told


def test_many_at_once_get_their_own_answers(url, tmp_path):
    from gradio_client import Client

    def ask(row):
        client = Client(url, verbose=False)
        file = tmp_path / f"{row}.png"
        picture(row).save(file)
        try:
            return client.predict(handle(str(file)), 3, [], api_name="/search")[1][0]["row"]
        finally:
            client.close()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(0, 36, 3))) == list(range(0, 36, 3))


def test_a_port_that_is_taken(explorer, url):
    from synclr_hf.explorer.page.launch import launch

    port = int(url.rsplit(":", 1)[1])
    with pytest.raises(UserInputError, match=f"--port {port} cannot be used .* type another one"):
        launch(explorer, port=port, prevent_thread_lock=True)
