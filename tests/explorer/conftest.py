"""A tiny encoder, its index, and an explorer over both, made once a module."""

import gc
import warnings

import pytest
from tiny_index import save_tiny_encoder, write_tiny_index

from synclr_hf.explorer.config import ExplorerConfig
from synclr_hf.explorer.session import Explorer


@pytest.fixture(scope="module")
def closing_pages():
    """Close every page of the module; what gradio leaves open is collected here, not in a later test."""
    import gradio as gr

    yield
    gr.close_all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="session")
def tiny_encoder_folder(tmp_path_factory):
    return save_tiny_encoder(tmp_path_factory.mktemp("tiny") / "encoder")


@pytest.fixture(scope="session")
def tiny_index_folder(tmp_path_factory, tiny_encoder_folder):
    return write_tiny_index(tmp_path_factory.mktemp("tiny") / "index", tiny_encoder_folder)


@pytest.fixture(scope="session")
def explorer(tiny_encoder_folder, tiny_index_folder):
    explorer = Explorer(ExplorerConfig(tiny_encoder_folder, tiny_index_folder))
    explorer.start()
    explorer.wait(60)
    explorer.encoder(1)
    return explorer
