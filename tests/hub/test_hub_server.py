"""The Hub to test against, as the real clients see it: processes of their own with empty caches, over HTTP."""

import json
import socket
from importlib.util import find_spec

import pytest

FILES = {
    "README.md": b"---\nlicense: mit\n---\n# Things\n",
    "notes/day one.txt": "drei Bäume\n".encode(),
    "notes/empty.txt": b"",
    "weights/model.safetensors": bytes(range(256)) * 8000,
    "picture.unknown": b"\x89\0binary",
}
SNAPSHOT = """
    from huggingface_hub import snapshot_download
    snapshot_download("org/things", repo_type="dataset", local_dir="theirs")
"""


@pytest.fixture
def folder(hub):
    """A folder as a user would upload it, in the folder in which the clients start."""
    for path, data in FILES.items():
        (hub.folder / "mine" / path).parent.mkdir(parents=True, exist_ok=True)
        (hub.folder / "mine" / path).write_bytes(data)
    return hub.folder / "mine"


@pytest.mark.parametrize("way", ["xet", "lfs"])
def test_a_folder_goes_up_once_and_comes_back(hub, folder, way):
    if way == "xet" and find_spec("hf_xet") is None:
        pytest.skip("hf_xet is not installed")
    upload = """
        from huggingface_hub import HfApi
        api = HfApi()
        api.create_repo("org/things", repo_type="dataset", exist_ok=True)
        print(api.upload_folder(repo_id="org/things", repo_type="dataset", folder_path="mine").oid)
    """
    disable = {"HF_HUB_DISABLE_XET": str(int(way == "lfs"))}
    first = hub.python(upload, **disable)
    files = hub.files("org/things", "dataset")
    assert {path: data for path, data in files.items() if path != ".gitattributes"} == FILES
    sent = hub.uploads()
    assert len(sent) == (1 if way == "xet" else 2) and all(way in request.path for request in sent)
    assert hub.python(upload, **disable) == first
    assert hub.uploads() == sent and len(hub.calls("POST", "/commit/")) == 1

    hub.python(SNAPSHOT)
    assert {path: (hub.folder / "theirs" / path).read_bytes() for path in FILES} == FILES
    hub.python("""
        from huggingface_hub import HfFileSystem, hf_hub_download
        path = hf_hub_download("org/things", "notes/day one.txt", repo_type="dataset")
        assert open(path, encoding="utf-8").read() == "drei Bäume\\n"
        files = HfFileSystem()
        assert sorted(files.find("datasets/org/things/notes", detail=False)) == [
            "datasets/org/things/notes/day one.txt", "datasets/org/things/notes/empty.txt"
        ]
        with files.open("datasets/org/things/weights/model.safetensors", block_size=1000) as file:
            file.seek(5000)
            assert file.read(3) == bytes([136, 137, 138])
    """)
    assert any(request.status == 206 for request in hub.requests)


def test_branches_tags_and_revisions(hub):
    hub.add("ada/model", {"a.txt": b"one", "old/b.txt": b"b", "old/c.bin": b"c\0"})
    hub.python("""
        from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi
        from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RevisionNotFoundError

        api = HfApi()
        def refused(action, *arguments, **options):
            try:
                action(*arguments, **options)
            except HfHubHTTPError as error:
                return type(error), error.response.status_code
        def read(path, revision=None):
            return open(api.hf_hub_download("ada/model", path, revision=revision), "rb").read()

        start = api.model_info("ada/model").sha
        api.create_tag("ada/model", tag="v1")
        assert refused(api.create_tag, "ada/model", tag="v1") == (HfHubHTTPError, 409)
        api.create_branch("ada/model", branch="try/out", revision="v1")
        api.create_branch("ada/model", branch="try/out", exist_ok=True)
        operations = [
            CommitOperationAdd("a.txt", b"two"),
            CommitOperationCopy("old/c.bin", "new/c.bin"),
            CommitOperationDelete("old/", is_folder=True),
        ]
        options = {"operations": operations, "commit_message": "Second", "parent_commit": start}
        second = api.create_commit("ada/model", revision="try/out", **options).oid
        options["operations"] = [CommitOperationAdd("a.txt", b"three")]
        assert refused(api.create_commit, "ada/model", revision="try/out", **options) == (HfHubHTTPError, 412)

        assert read("a.txt") == read("a.txt", "v1") == read("a.txt", start) == b"one"
        assert read("a.txt", "try/out") == read("a.txt", second[:8]) == b"two"
        assert read("new/c.bin", "try/out") == b"c\\0"
        assert api.list_repo_files("ada/model", revision="try/out") == [".gitattributes", "a.txt", "new/c.bin"]
        assert [commit.title for commit in api.list_repo_commits("ada/model", revision="try/out")][0] == "Second"
        [info] = api.get_paths_info("ada/model", ["a.txt", "nothing"], revision="try/out")
        assert info.size == 3
        refs = api.list_repo_refs("ada/model")
        assert {ref.name: ref.target_commit for ref in refs.branches} == {"main": start, "try/out": second}
        assert [ref.name for ref in refs.tags] == ["v1"]

        assert issubclass(refused(read, "nothing.txt")[0], EntryNotFoundError)
        assert refused(read, "a.txt", "v2") == (RevisionNotFoundError, 404)
        assert issubclass(refused(lambda: list(api.list_repo_tree("ada/model", "nowhere")))[0], EntryNotFoundError)
        api.delete_tag("ada/model", tag="v1")
        api.delete_branch("ada/model", branch="try/out")
        assert refused(read, "a.txt", "try/out") == (RevisionNotFoundError, 404)
        assert refused(api.delete_branch, "ada/model", branch="try/out") == (RevisionNotFoundError, 404)
    """)
    assert hub.files("ada/model")["a.txt"] == b"one"


def test_who_may_do_what(hub):
    hub.add("org/secret", {"a.txt": b"a"}, private=True)
    hub.add("org/open", {"a.txt": b"a"})
    tokens = {"writer": hub.token, "reader": hub.read_only_token, "stranger": hub.stranger_token}
    told = hub.python(f"""
        import json
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError

        tokens = {tokens} | {{"nobody": False, "wrong": "token-wrong"}}
        def tried(action, *arguments, **options):
            try:
                action(*arguments, **options)
                return "done"
            except HfHubHTTPError as error:
                return f"{{error.response.status_code}} {{type(error).__name__}}"

        told = {{}}
        for who, token in tokens.items():
            api = HfApi(token=token)
            upload = {{"path_or_fileobj": who.encode(), "path_in_repo": "a.txt"}}
            told[who] = [
                tried(api.hf_hub_download, "org/open", "a.txt", cache_dir=f"cache-{{who}}"),
                tried(api.hf_hub_download, "org/secret", "a.txt", cache_dir=f"cache-{{who}}"),
                tried(api.repo_info, "org/nothing"),
                tried(api.upload_file, repo_id="org/open", **upload),
                tried(api.create_repo, f"org/of-{{who}}"),
            ]
        owner, nobody = HfApi(), HfApi(token=False)
        owner.update_repo_settings("org/secret", private=False, gated="auto")
        told["gated"] = [tried(nobody.hf_hub_download, "org/secret", "a.txt", cache_dir="cache-gated")]
        owner.delete_repo("org/open")
        owner.delete_repo("org/open", missing_ok=True)
        told["deleted"] = [tried(owner.repo_info, "org/open")]
        print(json.dumps(told))
    """)
    missing = "RepositoryNotFoundError"
    assert json.loads(told) == {
        "writer": ["done", "done", f"404 {missing}", "done", "done"],
        "reader": ["done", "done", f"404 {missing}", "403 HfHubHTTPError", "403 HfHubHTTPError"],
        "stranger": ["done", f"404 {missing}", f"404 {missing}", "403 HfHubHTTPError", "403 HfHubHTTPError"],
        "nobody": ["done", f"401 {missing}", f"401 {missing}", "401 HfHubHTTPError", "401 HfHubHTTPError"],
        "wrong": ["401 HfHubHTTPError"] * 5,
        "gated": ["401 GatedRepoError"],
        "deleted": [f"404 {missing}"],
    }


def test_a_dataset_is_pushed_and_loaded(hub):
    hub.python("""
        from datasets import Dataset
        rows = {"caption": [f"a thing {n}" for n in range(20)], "number": list(range(20))}
        Dataset.from_dict(rows).push_to_hub("org/rows", num_shards=2)
    """)
    names = [path for path in hub.files("org/rows", "dataset") if path.endswith(".parquet")]
    assert len(names) == 2 and len(hub.history("org/rows", "dataset")) == 2
    hub.python(
        """
        from datasets import load_dataset
        rows = load_dataset("org/rows", split="train")
        assert rows["number"] == list(range(20)) and rows[3]["caption"] == "a thing 3"
        assert list(load_dataset("org/rows", split="train", streaming=True)) == list(rows)
        """,
        token=None,
    )


def test_a_model_is_pushed_and_loaded(hub):
    tell = "print(sum(float(parameter.double().sum()) for parameter in model.parameters()))"
    pushed = hub.python(f"""
        from transformers import ViTConfig, ViTModel
        sizes = {{"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}}
        config = ViTConfig(**sizes, image_size=32)
        model = ViTModel(config)
        model.push_to_hub("ada/tiny", private=True)
        model.push_to_hub("ada/tiny")
        {tell}
    """)
    assert len(hub.uploads()) == 1 and hub.repository("ada/tiny").private
    loaded = hub.python(f"""
        from transformers import AutoConfig, AutoModel
        model = AutoModel.from_pretrained("ada/tiny")
        {tell}
        try:
            AutoConfig.from_pretrained("ada/tiny", token=False, cache_dir="cache-nobody")
        except OSError as error:
            print("not a valid model identifier" in str(error))
    """)
    assert loaded == pushed + "True\n"


def test_uploads_survive_what_clients_retry(hub, folder):
    upload = """
        from huggingface_hub import HfApi
        api = HfApi()
        api.create_repo("org/things", repo_type="dataset", exist_ok=True)
        api.upload_folder(repo_id="org/things", repo_type="dataset", folder_path="mine", commit_message="All")
    """
    busy = hub.fail("PUT", "^/lfs/", status=503, times=2)
    lost = hub.fail("POST", "/commit/", close=True, after=True)
    done = hub.try_python(upload, HF_HUB_DISABLE_XET="1")
    assert done.returncode and "disconnected" in done.stderr
    assert busy.met == 2 and lost.met == 1
    uploaded = [request.path for request in hub.uploads() if request.status == 200]
    assert len(uploaded) == len(set(uploaded)) == 2
    assert hub.history("org/things", "dataset") == ["All", "initial commit"]
    hub.python(upload, HF_HUB_DISABLE_XET="1")
    assert hub.history("org/things", "dataset") == ["All", "initial commit"]
    assert [request.path for request in hub.uploads() if request.status == 200] == uploaded


def test_an_error_before_the_work_leaves_nothing_behind(hub):
    hub.add("org/things", {"a.txt": b"a"})
    hub.fail("POST", "/commit/", status=503)
    upload = """
        from huggingface_hub import upload_file
        upload_file(path_or_fileobj=b"b", path_in_repo="b.txt", repo_id="org/things")
    """
    done = hub.try_python(upload)
    assert "503" in done.stderr and hub.history("org/things") == ["Add files", "initial commit"]


@pytest.mark.parametrize("framing", [b"Content-Length: 999", b"Transfer-Encoding: chunked"])
def test_half_a_request_is_none(hub, framing):
    """A client that dies while it sends a commit, after a line that could be carried out."""
    hub.add("org/things", {"a.txt": b"a"})
    lines = b'{"key": "header", "value": {"summary": "Half"}}\n{"key": "deletedFile", "value": {"path": "a.txt"}}\n'
    if b"chunked" in framing:
        lines = b"%x\r\n%s\r\n" % (len(lines), lines)
    with socket.create_connection(("127.0.0.1", int(hub.url.rpartition(":")[2]))) as connection:
        token = b"Authorization: Bearer " + hub.token.encode()
        connection.sendall(
            b"\r\n".join([b"POST /api/models/org/things/commit/main HTTP/1.1", token, framing, b"", lines])
        )
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    assert hub.history("org/things") == ["Add files", "initial commit"]


def test_a_cut_download_is_resumed(hub):
    """Clients keep what they have in steps of 10 MiB: a cut before the first step starts from nothing."""
    weights = FILES["weights/model.safetensors"] * 6
    hub.add("org/things", {"model.safetensors": weights}, repo_type="dataset")
    cut = hub.fail("GET", "/resolve/.*model.safetensors", cut=11 * 1024**2)
    slow = hub.fail("HEAD", "/resolve/.*model.safetensors", delay=1.5)
    hub.python(SNAPSHOT, token=None, HF_HUB_ETAG_TIMEOUT="1")
    assert cut.met == slow.met == 1
    assert (hub.folder / "theirs" / "model.safetensors").read_bytes() == weights
    got = [(request.status, request.sent) for request in hub.calls("GET", "/resolve/.*model.safetensors")]
    assert got == [(200, 11 * 1024**2), (206, len(weights) - 10 * 1024**2)]


def test_environments_know_this_hub_only(hub, monkeypatch):
    for name in ("HTTPS_PROXY", "all_proxy", "HF_HUB_CACHE", "HF_TOKEN", "HF_DATASETS_CACHE", "TRANSFORMERS_CACHE"):
        monkeypatch.setenv(name, "foreign")
    first, second = hub.environment(token=None), hub.environment(HF_HUB_ETAG_TIMEOUT="1")
    assert "foreign" not in first.values() and "HF_TOKEN" not in first
    assert second["HF_TOKEN"] == hub.token and second["HF_HUB_ETAG_TIMEOUT"] == "1"
    assert first["HF_HOME"] != second["HF_HOME"]
