"""A wheel of the installed package, for a Space or a machine that cannot get it from an index."""

from __future__ import annotations

import hashlib
import io
import zipfile
from base64 import urlsafe_b64encode
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

import synclr_hf
from synclr_hf.errors import UserInputError

DISTRIBUTION = "synclr-hf"
_SAME_TIME = (2020, 1, 1, 0, 0, 0)
"""Of every entry: the same package gives the same bytes, and is not uploaded twice."""


def build_wheel() -> tuple[str, bytes]:
    """Pack the package as it is installed here, editable or not.

    Returns:
        The file name, e.g. `synclr_hf-0.1.0-py3-none-any.whl`, and the bytes; the same package gives the same bytes.

    Raises:
        UserInputError: the package is not installed, so that its requirements are not known.
    """
    files = wheel_files()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, _SAME_TIME)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            wheel.writestr(entry, content)
    return f"synclr_hf-{_installed().version}-py3-none-any.whl", packed.getvalue()


def wheel_files() -> dict[str, bytes]:
    """Return the files of the wheel: unpacked beside a script they are the package, version and all.

    Raises:
        UserInputError: the package is not installed.
    """
    installed = _installed()
    info = f"synclr_hf-{installed.version}.dist-info"
    files = {
        f"{info}/METADATA": (installed.read_text("METADATA") or installed.read_text("PKG-INFO") or "").encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: synclr_hf\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": (installed.read_text("entry_points.txt") or "").encode(),
    }
    root = Path(synclr_hf.__file__).parent
    for path in sorted(root.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            files[f"synclr_hf/{path.relative_to(root).as_posix()}"] = path.read_bytes()
    record = [f"{name},sha256={_digest(content)},{len(content)}" for name, content in sorted(files.items())]
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""]).encode()
    return files


def requirements(extra: str) -> list[str]:
    """Return what the package needs with one of its extras, as lines of a requirements file.

    Raises:
        UserInputError: the package is not installed.
    """
    needed = [Requirement(line) for line in _installed().requires or []]
    chosen = [one for one in needed if one.marker is None or one.marker.evaluate({"extra": extra})]
    return sorted(f"{one.name}{one.specifier}" for one in chosen)


def _installed() -> Distribution:
    try:
        return distribution(DISTRIBUTION)
    except PackageNotFoundError as error:
        raise UserInputError("synclr-hf is not installed, only imported; install it: type pip install .") from error


def _digest(content: bytes) -> str:
    return urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
