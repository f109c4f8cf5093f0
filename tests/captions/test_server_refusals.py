"""Prompts that a server refuses, answers that it cuts, and settings that it knows by another name."""

import time

import pytest
from llm_server import EMPTY, Fault, LanguageServer, error
from llm_server.asking import PROMPTS, be_quick_and_without_keys, complete, load

from synclr_hf.captions import server_requests
from synclr_hf.captions.language_models import CutOff, Refused
from synclr_hf.errors import UserInputError


@pytest.fixture(autouse=True)
def quick_and_without_keys(monkeypatch):
    be_quick_and_without_keys(monkeypatch)


@pytest.fixture
def server():
    with LanguageServer() as server:
        yield server


@pytest.mark.parametrize(
    ("fault", "reason", "advice"),
    [
        (error(400, "no chat template"), "400: no chat template", "openai-completions:MODEL for a model without"),
        (error(401, "bad key sk-secret"), r"401: bad key \*\*\*", "set OPENAI_API_KEY to a key that it accepts"),
        (Fault(403, b"not\nyours"), "403: not yours", "set OPENAI_API_KEY"),
        (
            Fault(404, b'{"detail": "no such model"}'),
            "404: no such model",
            "--language-model with a model that it serves",
        ),
        (Fault(422, b'{"error": "seed"}'), "422: seed", "type other settings"),
    ],
)
@pytest.mark.parametrize("prompts", [PROMPTS, PROMPTS[:1]])
def test_a_server_that_refuses_all_is_one_line_soon(server, monkeypatch, caplog, fault, reason, advice, prompts):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    server.always = fault
    with pytest.raises(UserInputError, match=rf"the server {server.url} refuses the request \({reason}\); .*{advice}"):
        complete(load(server), prompts)
    assert len(server.requests) < 16 and not caplog.records
    assert server.requests[0][2]["Authorization"] == "Bearer sk-secret"


FILTERED = "The response was filtered: content_filter"


REFUSALS = [
    (error(400, FILTERED), f"400: {FILTERED}"),
    (Fault(413, b"too long"), "413: too long"),
    (Fault(422, b"too long"), "422: too long"),
]
FAILURES = [
    (Fault(500, b"broken"), "500: broken, 8 times"),
    (EMPTY, "an answer that makes no sense: '{\"choices\": []}', 8 times"),
]
CASES = [
    (place, batch_size, fault, line)
    for place, batch_size in [(0, 8), (0, 1), (7, 8), (11, 8), (11, 1)]
    for fault, line in REFUSALS + (FAILURES if (place, batch_size) != (0, 1) else [])
]


@pytest.mark.parametrize(("place", "batch_size", "fault", "line"), CASES)
def test_a_prompt_that_is_refused_does_not_stop_the_others(fault, line, place, batch_size, caplog):
    with LanguageServer(lambda prompt, body: fault if f"owl {place} " in prompt else "An owl.") as server:
        model = load(server, batch_size=batch_size)
        texts = complete(model, PROMPTS[:12])
        again = complete(model, PROMPTS[11:12]) if place != 11 else complete(model, PROMPTS[:1])
    refused = [number for number, text in enumerate(texts) if isinstance(text, Refused)]
    assert refused == [place] and texts[place] == line and again == ["An owl."]
    assert all(text == "An owl." for number, text in enumerate(texts) if number != place)
    asked = sum(f"owl {place} " in body["messages"][-1]["content"] for *_, body in server.requests)
    assert asked == (8 if fault.status in (200, 500) else 1)
    assert model.usage["completion_tokens"] == 3 * 12, "eleven and one; a refused one took nothing"
    told = [record.getMessage() for record in caplog.records if "the run goes on without it" in record.getMessage()]
    line = f"the server {server.url} refuses a prompt ({line}); the run goes on without it"
    assert told == [line] or (told == [] and place != 11)


def test_a_prompt_refused_later_is_told_of_once(server, caplog):
    model = load(server)
    complete(model, PROMPTS[:1])
    server.always = error(400, FILTERED)
    assert complete(model, PROMPTS[:4]) == [f"400: {FILTERED}"] * 4
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_quick_refusals_before_the_first_slow_answer_are_of_the_prompts():
    """A filter of contents answers at once, a model after a while."""

    def write(prompt, body):
        if int(prompt.split()[-2]) % 3 == 0:
            return error(400, FILTERED)
        time.sleep(0.3)
        return "An owl."

    with LanguageServer(write) as server:
        texts = complete(load(server, batch_size=40))
    assert [isinstance(text, Refused) for text in texts] == [number % 3 == 0 for number in range(40)]


@pytest.mark.parametrize("status", [401, 403, 404, 405])
def test_what_is_not_about_a_prompt_ends_the_run_at_any_time(server, status):
    model = load(server)
    complete(model, PROMPTS[:4])
    server.always = Fault(status, b"no more")
    with pytest.raises(UserInputError, match=rf"refuses the request \({status}: no more\); "):
        complete(model, PROMPTS[:4])


def test_a_server_that_breaks_down_is_given_up_though_it_answered_before(server):
    model = load(server, batch_size=1)
    complete(model, PROMPTS[:2])
    server.always = Fault(500, b"broken")
    with pytest.raises(UserInputError, match=r"does not answer \(500: broken, 8 times\)"):
        complete(model, PROMPTS[:3])
    assert len(server.requests) == 2 + 2 * server_requests.TRIES  # the first could be the prompt's fault


@pytest.mark.parametrize("back_end", ["openai", "openai-completions"])
def test_an_answer_that_the_length_ended_is_marked(back_end):
    with LanguageServer(lambda prompt, body: (" An owl on a", "length")) as server:
        texts = complete(load(server, back_end), PROMPTS[:2])
    assert [text.strip() for text in texts] == ["An owl on a"] * 2 and all(type(text) is CutOff for text in texts)
    for answer in ((" An owl.\nAn", "length"), (" An owl.", "stop"), (" An owl.", None)):
        with LanguageServer(lambda prompt, body, answer=answer: answer) as server:
            texts = complete(load(server, back_end), PROMPTS[:2])
        assert [text.strip() for text in texts] == ["An owl."] * 2 and all(type(text) is str for text in texts)


def test_a_chat_that_thinks_to_the_end_is_marked_and_a_withheld_answer_is_none():
    with LanguageServer(lambda prompt, body: ("\n\n", "length")) as server:
        texts = complete(load(server), PROMPTS[:1])
    assert texts == [""] and isinstance(texts[0], CutOff)
    with LanguageServer(lambda prompt, body: ("An ow", "content_filter")) as server:
        texts = complete(load(server), PROMPTS[:1])
    assert isinstance(texts[0], Refused) and "content_filter" in texts[0]


def test_a_server_that_does_not_support_max_tokens_gets_the_other_name():
    message = (
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    )

    def write(prompt, body):
        return error(400, message, param="max_tokens") if "max_tokens" in body else "An owl."

    with LanguageServer(write) as server:
        model = load(server)
        assert complete(model) == ["An owl."] * 40
        assert 41 <= len(server.requests) <= 48
        assert server.requests[-1][3]["max_completion_tokens"] == 20
        assert complete(model, PROMPTS[:4]) == ["An owl."] * 4
        assert not any("max_tokens" in body for *_, body in server.requests[-4:]), "it remembers"


def test_max_tokens_that_are_too_many_keep_their_name(server):
    server.always = error(400, "'max_tokens' or 'max_completion_tokens' is too large: 20")
    with pytest.raises(UserInputError, match="is too large"):
        complete(load(server, batch_size=1))
    assert all("max_tokens" in body for *_, body in server.requests)
