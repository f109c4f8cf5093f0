"""`synclr demo`, as it is typed."""

import os
import signal
import subprocess
import sys
from urllib.request import urlopen

import pytest
from tiny_index import save_tiny_encoder

from synclr_hf.cli.main import main

pytest.importorskip("gradio")
COMMAND = [sys.executable, "-c", "from synclr_hf.cli.main import main; main()", "demo"]


def _error(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["demo", *map(str, arguments)])
    said = capsys.readouterr()
    assert ended.value.code == 2 and said.out == "" and said.err.count("\n") == 1
    return said.err


def test_bad_input_is_one_line(tmp_path, capsys):
    assert "holds no encoder (needed: encoder/config.json or config.json)" in _error(capsys, tmp_path)
    assert "there is no folder" in _error(capsys, tmp_path / "nothing")
    assert "allowed: 1 to 65535" in _error(capsys, tmp_path, "--port", 70000)


def test_it_serves_before_torch_is_there_and_ctrl_c_ends_it_quietly(tmp_path, free_port):
    model = save_tiny_encoder(tmp_path / "encoder")
    command = [*COMMAND, model, "--port", str(free_port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        try:
            assert demo.stdout.readline() == f"demo: http://127.0.0.1:{free_port} (Ctrl-C ends it)\n"
            with urlopen(f"http://127.0.0.1:{free_port}/", timeout=30) as page:
                assert b"SynCLR explorer" in page.read()
            demo.send_signal(signal.SIGINT)
            output, errors = demo.communicate(timeout=20)
        finally:
            demo.kill()
    assert demo.returncode == 0
    assert output == "" and "Traceback" not in errors


def test_the_page_needs_neither_torch_nor_transformers():
    told = (
        "import sys, synclr_hf.explorer.page.launch; print({'torch', 'transformers', 'datasets'} & set(sys.modules))"
    )
    environment = {**os.environ, "GRADIO_ANALYTICS_ENABLED": "False"}
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == "set()\n"


def test_a_gradio_that_is_too_old_is_named(tmp_path, capsys, monkeypatch):
    from synclr_hf.cli import demo

    model = save_tiny_encoder(tmp_path / "encoder")
    capsys.readouterr()
    monkeypatch.setattr(demo, "version", lambda name: "5.49.1")
    assert "needs gradio 6.31 or newer, not 5.49.1; type pip install --upgrade" in _error(capsys, model)
