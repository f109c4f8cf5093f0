"""What the page says about pictures and the state of things."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from synclr_hf.data.cards import plain

if TYPE_CHECKING:
    from synclr_hf.explorer.index.opened import IndexedPicture
    from synclr_hf.explorer.session import Explorer, LoadingState


def about_picture(picture: IndexedPicture) -> str:
    """Return all that is known about a picture, as Markdown."""
    told = [f"**{plain(picture.concept)}**" if picture.concept else f"**picture {picture.row}**"]
    if picture.caption:
        told.append(plain(picture.caption))
    facts = [f"row {picture.row}"]
    facts += [f"template {plain(picture.template)}"] if picture.template else []
    facts += [f"source {plain(picture.source)}"] if picture.source else []
    return " ".join(told) + f" <small>({', '.join(facts)})</small>"


def status(explorer: Explorer, state: LoadingState) -> str:
    """Return the line that says how far it is, as HTML; read out when it changes."""
    waiting = state.stage in ("loading", "building")
    text = escape(state.text) + (f" ({state.seconds:.0f} s)" if waiting else "")
    bar = '<span class="pulse" aria-hidden="true"></span>' if waiting else ""
    lines = f'<p class="status-{state.stage}">{bar}{text}</p>'
    if state.stage != "loading" and state.no_index:
        lines += f'<p class="status-missing">{escape(state.no_index)}</p>'
    return f'<div role="status" aria-live="polite">{lines}</div>'


def heading(explorer: Explorer) -> str:
    """Return what is shown, as HTML: the model and the pictures, with links where they are on the Hub."""
    config = explorer.config
    told = f"What <b>{_linked(config.model, config.model_name, '')}</b> sees"
    if config.index is not None:
        name = "/".join(config.index.rstrip("/").split("/")[-2:])
        told += f" in the pictures of {_linked(config.index, name, 'datasets/')}"
    return f"<h1>SynCLR explorer</h1><p>{told}.</p>"


def _linked(where: str, name: str, kind: str) -> str:
    """Return a link for a Hub id, the name for anything else."""
    if not _is_on_the_hub(where, name):
        return escape(name)
    return f'<a href="https://huggingface.co/{kind}{escape(where, quote=True)}">{escape(name)}</a>'


def _is_on_the_hub(where: str, name: str) -> bool:
    """Tell a Hub id, which is shown whole, from a folder."""
    return where.count("/") == 1 and where == name and not where.startswith(".") and not Path(where).exists()


def foot(explorer: Explorer) -> str:
    """Return the last lines of the page, as HTML: how to get the same model in code, and what this is."""
    config = explorer.config
    code = ""
    if _is_on_the_hub(config.model, config.model_name):
        name = escape(config.model, quote=True)
        code = f'In code: <code>AutoModel.from_pretrained("{name}", trust_remote_code=True)</code>. '
    return (
        f"<p>{code}This page is a part of synclr_hf (Apache-2.0); model and pictures have licences of their own, see "
        "their cards. What you upload stays on this server for an hour at most.</p>"
    )
