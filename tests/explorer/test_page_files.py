"""Pictures on the disk of the server that nobody uploaded, and folders of the machine, stay there."""

import json
import os
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from tiny_index import picture

gr = pytest.importorskip("gradio")
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning", "ignore::DeprecationWarning"
)
FILE = {"meta": {"_type": "gradio.FileData"}}


@pytest.fixture(scope="module")
def url(explorer, closing_pages, tmp_path_factory):
    from serving import served

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("uploads")))
        yield served(explorer)


@pytest.fixture
def private(tmp_path):
    """A picture that the server can read, and that no visitor may see."""
    picture(0).save(tmp_path / "private.png")
    return tmp_path / "private.png"


def _ask(url, path, content, kind="application/json"):
    with urlopen(Request(url + path, content, {"Content-Type": kind}), timeout=30) as answer:
        return answer.read().decode()


def _call(url, name, *data):
    """Return the event of an endpoint and what came with it."""
    event = json.loads(_ask(url, f"/gradio_api/call/{name}", json.dumps({"data": data}).encode()))["event_id"]
    told = _ask(url, f"/gradio_api/call/{name}/{event}", None).strip().splitlines()[-2:]
    return told[0].removeprefix("event: "), json.loads(told[1].removeprefix("data: "))


@pytest.mark.parametrize("called", [{}, FILE], ids=["not called a file", "called a file"])
@pytest.mark.parametrize("way", ["straight", "out of the uploads"])
def test_a_picture_that_was_not_uploaded_is_not_read(url, private, way, called):
    path = str(private)
    if way != "straight":
        path = os.environ["GRADIO_TEMP_DIR"] + "/.." * 20 + path
    event, answer = _call(url, "search", {"path": path, **called}, 2, [])
    assert event == "error"
    assert answer["error"] == (None if called else "upload the picture first")


def test_nor_through_a_link_among_the_uploads(url, private):
    link = Path(os.environ["GRADIO_TEMP_DIR"], "link.png")
    link.symlink_to(private)
    assert _call(url, "search", {"path": str(link)}, 2, [])[0] == "error"


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/a.png", "http://169.254.169.254/latest/meta-data"])
def test_the_server_fetches_nothing_from_its_own_network(url, address):
    for told in ({"path": address, **FILE}, {"path": address}, {"path": "", "url": address}, {"url": address}):
        assert _call(url, "search", told, 2, [])[0] == "error"


def test_an_upload_stays_in_its_folder_and_is_searched(url, private):
    head = '--B\r\nContent-Disposition: form-data; name="files"; filename="../../../outside.png"\r\n'
    body = f"{head}Content-Type: image/png\r\n\r\n".encode() + private.read_bytes() + b"\r\n--B--\r\n"
    path = json.loads(_ask(url, "/gradio_api/upload", body, "multipart/form-data; boundary=B"))[0]
    assert Path(path).resolve().is_relative_to(Path(os.environ["GRADIO_TEMP_DIR"]).resolve())
    for called in ({}, FILE):
        event, (pictures, results) = _call(url, "search", {"path": path, **called}, 3, [])
        assert event == "complete" and len(pictures) == 3
        assert results[0]["row"] == 0 and results[0]["similarity"] == pytest.approx(1, abs=2e-3)


def test_a_mistake_and_the_page_tell_no_folder(url, tiny_index_folder):
    event, answer = _call(url, "search_row", 10**6, 2, [])
    assert event == "error" and answer["title"] == "Not possible"
    assert "there is no picture 1000000" in answer["error"] and "'/" not in answer["error"]
    for path in ("/", "/config", "/gradio_api/info"):
        assert str(Path(tiny_index_folder).parent) not in _ask(url, path, None)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("in '/home/someone/run/index'; type 0", "in 'index'; type 0"),
        ("give ~/runs/a or ../../b/c", "give a or c"),
        ("see https://huggingface.co/org/name/tree/main, or org/name", None),
    ],
)
def test_folders_are_left_out_of_messages(said, shown):
    from synclr_hf.explorer.page.friendly import without_folders

    assert without_folders(said) == (shown or said)


def test_a_picture_that_many_look_at_is_never_half_written(tmp_path):
    from synclr_hf.explorer.page.components import picture_grid
    from synclr_hf.explorer.page.kept_pictures import kept_picture

    first = Path(kept_picture(tmp_path, "jpeg", picture(3)))
    with first.open("rb") as opened:  # somebody has begun to load it
        assert kept_picture(tmp_path, "jpeg", picture(3)) == str(first)
        assert opened.read() == first.read_bytes() and len(first.read_bytes()) > 100
        assert os.fstat(opened.fileno()).st_ino == first.stat().st_ino, "written once"
    assert kept_picture(tmp_path, "jpeg", picture(4)) != str(first)
    assert [file.name for file in first.parent.iterdir()] == ["image.jpeg"]
    grid = picture_grid("Pictures")
    shown = [grid.postprocess([(picture(3), "words")]).root[0] for _ in range(2)]
    assert shown[0].image.path == shown[1].image.path and shown[0].caption == "words"
    assert Path(shown[0].image.path).read_bytes() == first.read_bytes()
