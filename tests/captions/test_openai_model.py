"""The back end for servers, against a server of this process that has faults, and against `transformers serve`."""

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from email.utils import formatdate

import pytest
from byte_llama import save_tiny_llama, tiny_tokenizer
from llm_server import CLOSED, CUT, EMPTY, GARBAGE, Fault, LanguageServer, busy, error
from llm_server.asking import OPTIONS, PROMPTS, SEEDS, TEXTS, be_quick_and_without_keys, complete, load

from synclr_hf.captions import server_requests
from synclr_hf.captions.language_models import LanguageModelOptions, find_language_model
from synclr_hf.captions.openai_model import INSTRUCTION
from synclr_hf.errors import UserInputError


@pytest.fixture(autouse=True)
def quick_and_without_keys(monkeypatch):
    be_quick_and_without_keys(monkeypatch)


@pytest.fixture
def server():
    with LanguageServer() as server:
        yield server


def test_a_chat_gets_the_prompt_with_one_instruction(server):
    model = load(server, batch_size=1)
    assert complete(model, PROMPTS[:2]) == TEXTS[:2]
    _, path, headers, body = server.requests[0]
    assert path == "/v1/chat/completions" and body["messages"] == [
        {"role": "system", "content": INSTRUCTION},
        {"role": "user", "content": PROMPTS[0]},
    ]
    rest = {name: value for name, value in body.items() if name != "messages"}
    assert rest == {"model": "org/name", "max_tokens": 20, "temperature": 0.5, "top_p": 0.9, "seed": SEEDS[0] % 2**31}
    assert "Authorization" not in headers and model.name == "org/name"
    assert complete(model, []) == []


def test_a_base_model_continues_the_prompt():
    with LanguageServer(lambda prompt, body: f" {prompt.split()[-2]} sits\nmore lines") as server:
        model = load(server, "openai-completions", batch_size=1)
        assert complete(model, PROMPTS[:2]) == [" 0 sits", " 1 sits"]
    _, path, _, body = server.requests[0]
    assert path == "/v1/completions" and body["prompt"] == PROMPTS[0] and body["stop"] == ["\n"]


@pytest.mark.parametrize(
    ("answer", "caption"),
    [
        ("An owl sleeps.", "An owl sleeps."),
        ("\n\n An owl sleeps. \nNote: owls sleep by day.", "An owl sleeps."),
        ("OWL, barn => An owl sleeps.", "An owl sleeps."),
        ("owl, barn =>\nAn owl sleeps.", "An owl sleeps."),
        ("=> An owl sleeps.", "An owl sleeps."),
        ("", ""),
        (None, ""),
    ],
)
def test_the_first_line_that_says_something_without_the_query(answer, caption):
    with LanguageServer(lambda prompt, body: answer) as server:
        assert complete(load(server), ["cat => A cat.\nowl, barn =>"]) == [caption]


def test_no_more_requests_in_flight_than_asked_and_the_order_kept():
    with LanguageServer(delay=0.02) as server:
        assert complete(load(server, batch_size=5)) == TEXTS
        assert server.most_at_once == 5 and len(server.requests) == 40
        server.most_at_once = 0
        assert complete(load(server, batch_size=64)) == TEXTS
        assert 5 < server.most_at_once <= 40


FAULTS = [
    Fault(500, b"oh no"),
    Fault(503, b""),
    busy(),
    error(429, "slow down"),
    Fault(408, b""),
    Fault(409, b""),
    GARBAGE,
    EMPTY,
    Fault(body=b"[1]"),
    Fault(body=b'{"choices": [{"message": {"content": 7}, "text": 7}]}'),
    Fault(body=b"\xff\xfe"),
    CUT,
    CLOSED,
]


@pytest.mark.parametrize("back_end", ["openai", "openai-completions"])
def test_one_text_a_prompt_whatever_happens_on_the_way(server, back_end):
    model = load(server, back_end)
    server.faults.extend([None] * 4 + FAULTS + [None] * 10 + FAULTS)
    texts = complete(model)
    assert [text.split("=> ")[-1] for text in texts] == TEXTS
    assert server.most_at_once <= 8 and len(server.requests) == 40 + 2 * len(FAULTS)
    asked = Counter(body["seed"] for *_, body in server.requests)
    assert set(asked) == {seed % 2**31 for seed in SEEDS}  # a prompt keeps its seed
    words = sum(len(prompt.split()) for prompt in PROMPTS)
    assert model.usage == {"prompt_tokens": words, "completion_tokens": 3 * 40}  # each prompt is counted once


def test_a_hanging_server_is_asked_again(server, monkeypatch):
    monkeypatch.setattr(server_requests, "TIMEOUT", 0.2)
    server.faults.extend([None, Fault(delay=1.0), Fault(delay=1.0)])
    model = load(server)
    assert complete(model, PROMPTS[:6]) == TEXTS[:6]
    assert len(server.requests) == 8
    server.always = Fault(delay=0.5)
    monkeypatch.setattr(server_requests, "TRIES", 2)
    with pytest.raises(UserInputError, match=r"does not answer \(no answer within 0.2 s, 2 times\)"):
        complete(model, PROMPTS[:1])


@pytest.mark.parametrize("value", ["0.4", "date"])
def test_a_server_that_asks_to_wait_is_left_alone(server, value):
    seconds = 0.4
    if value == "date":
        seconds, value = 0.9, formatdate(time.time() + 2, usegmt=True)  # whole seconds: at least one from now
    server.faults.append(busy(value))
    began = time.monotonic()
    assert complete(load(server, batch_size=1), PROMPTS[:4]) == TEXTS[:4]
    assert all(when - began > seconds for when, *_ in server.requests[1:]) and len(server.requests) == 5


def test_a_server_that_asks_to_wait_for_an_hour_is_given_up(server):
    server.faults.append(busy(3600))
    with pytest.raises(UserInputError, match=r"does not answer \(429: .*; it asks to wait 3600 s\)"):
        complete(load(server))


def test_a_busy_server_that_goes_on_answering_is_not_given_up(server):
    """Each request fails far more often than `TRIES`, but others succeed meanwhile."""
    turn = iter(range(10_000))
    server.faults.extend(None if next(turn) % 6 == 0 else busy() for _ in range(400))
    assert complete(load(server, batch_size=20)) == TEXTS
    asked = Counter(body["seed"] for *_, body in server.requests)
    assert max(asked.values()) > server_requests.TRIES


def test_a_server_that_is_down_is_one_line(free_port, caplog):
    url = f"http://127.0.0.1:{free_port}/v1"
    with caplog.at_level(logging.WARNING, "synclr_hf"), pytest.raises(UserInputError) as caught:
        complete(load(url))
    line = str(caught.value)
    assert line.startswith(f"the server {url} does not answer (") and ", 3 times); see that it runs" in line
    assert line.endswith("or type another --base-url")
    assert url in caplog.records[0].getMessage()


def test_a_server_that_always_fails_is_given_up_after_some_tries(server):
    server.always = Fault(500, b"broken")
    with pytest.raises(UserInputError, match=r"does not answer \(500: broken, 8 times\)"):
        complete(load(server, batch_size=1))
    assert len(server.requests) == 8


def test_a_server_that_is_started_again_is_met_again(server, monkeypatch):
    monkeypatch.setattr(server_requests, "LONGEST_WAIT", 0.3)
    model = load(server)
    assert complete(model, PROMPTS[:3]) == TEXTS[:3]
    port = server.server_port
    server.shutdown()
    server.server_close()

    done = threading.Event()

    def later():
        time.sleep(0.2)
        with LanguageServer(port=port):
            done.wait(20)

    thread = threading.Thread(target=later)
    thread.start()
    try:
        assert complete(model, PROMPTS[:3]) == TEXTS[:3]
    finally:
        done.set()
        thread.join()


def test_it_works_in_a_running_event_loop_and_leaves_no_thread(server):
    async def notebook():
        return complete(load(server), PROMPTS[:3])

    before = set(threading.enumerate())
    assert asyncio.run(notebook()) == TEXTS[:3]
    left = [
        thread for thread in threading.enumerate() if thread not in before and "process_request" not in thread.name
    ]
    assert left == []


def test_ctrl_c_ends_the_requests_in_flight(server):
    server.always = Fault(delay=3)
    threading.Timer(0.3, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT]).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        complete(load(server))
    assert time.monotonic() - began < 2


def test_the_token_of_the_hub_goes_to_hugging_face_only(server, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    complete(load(server), PROMPTS[:1])
    assert "Authorization" not in server.requests[0][2]
    providers = find_language_model("openai:org/name").load()._server
    assert (providers.url, providers.key) == ("https://router.huggingface.co/v1/chat/completions", "hf_secret")
    assert load("https://abc.endpoints.huggingface.cloud")._server.key == "hf_secret"
    assert load("https://huggingface.co.example.org")._server.key is None
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    assert find_language_model("openai:org/name").load()._server.key == "hf_secret"
    assert load("http://host:8000")._server.key == "sk-secret"
    assert "secret" not in repr(load("http://host:8000")._server)


def test_addresses(monkeypatch):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    for url in ("http://host:8000", "http://host:8000/v1/", "http://host:8000/v1/chat/completions"):
        server = load(url)._server
        assert server.shown == "http://host:8000/v1" and server.url.endswith("host:8000/v1/chat/completions")
    assert load("http://host/llm/v1")._server.url == "http://host/llm/v1/chat/completions"
    for url in ("http://", "http://host:port/v1"):
        with pytest.raises(UserInputError, match="is no address of a server"):
            load(url)
    with pytest.raises(UserInputError, match="openai-completions:m needs the address of a server; type --base-url"):
        find_language_model("openai-completions:m").load()
    with pytest.raises(UserInputError, match="Inference Providers need a token of the Hub; type hf auth login"):
        find_language_model("openai:m").load()


@pytest.fixture(scope="module")
def transformers_server(tmp_path_factory):
    """`transformers serve` with a tiny random Llama, in a process of its own."""
    for module in ("fastapi", "uvicorn", "openai"):
        pytest.importorskip(module, reason="pip install transformers[serving]")
    tokenizer = tiny_tokenizer(bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
    folder = save_tiny_llama(tmp_path_factory.mktemp("served"), tokenizer=tokenizer)
    with LanguageServer() as free:
        port = free.server_port
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", folder, "--port", str(port)]
    command += ["--host", "127.0.0.1", "--device", "cpu"]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            assert process.poll() is None, "transformers serve did not start"
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health").close()
                break
            time.sleep(0.2)
        yield folder, f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.parametrize("back_end", ["openai", "openai-completions"])
def test_transformers_serve(transformers_server, back_end):
    folder, url = transformers_server
    options = LanguageModelOptions(batch_size=2, base_url=url)
    model = find_language_model(f"{back_end}:{folder}", options).load()
    prompts, options = PROMPTS[:3], {**OPTIONS, "max_new_tokens": 6, "stop": (), "temperature": 0.0}
    texts = complete(model, prompts, **options)
    assert len(texts) == 3 and model.usage["completion_tokens"] == 3 * 6
    if back_end == "openai-completions":
        local = find_language_model(folder).load()
        assert texts == complete(local, prompts, **options)
        assert model.usage == local.usage
    with pytest.raises(UserInputError, match=rf"the server {url} refuses the request \(4"):
        complete(find_language_model(f"{back_end}:other/model", LanguageModelOptions(base_url=url)).load(), prompts)


def test_progress_is_reported_reply_by_reply(server):
    server.faults.extend([busy(), None, GARBAGE])
    told = []
    complete(load(server), report=told.append)
    assert told == [1] * len(PROMPTS), "a failed request is no reply"
