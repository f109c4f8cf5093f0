"""The house: rooms import only rooms above them, light rooms stay light, files of remote code stand alone."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import synclr_hf

PACKAGE = Path(synclr_hf.__file__).parent
ROOMS = "data concepts captions images toyworld views models objectives evaluation training hub report".split()
ROOMS += ["explorer", "cli"]


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module


@pytest.mark.parametrize("room", ROOMS)
def test_arrows_point_one_way(room):
    files = list((PACKAGE / room).rglob("*.py"))
    assert files
    for path in files:
        for name in imported(path):
            parts = name.split(".")
            if parts[0] == "synclr_hf" and len(parts) > 1 and parts[1] in ROOMS:
                assert ROOMS.index(parts[1]) <= ROOMS.index(room), f"{path}: imports {name}"
                assert parts[1] != "toyworld" or room == "toyworld", f"{path}: nobody imports the toy world"


def test_remote_code_imports_torch_and_transformers_only():
    for name in ("configuration_synclr.py", "modeling_synclr.py"):
        roots = {module.split(".")[0] for module in imported(PACKAGE / "models" / name)}
        assert roots <= {"collections", "copy", "typing", "torch", "transformers", "huggingface_hub"}, name


def test_generating_rooms_import_no_torch():
    rooms = "data concepts captions.stage images.stage images.import_stage cli.main".split()
    rooms += ["toyworld.image_generator", "toyworld.language_model"]
    imports = "; ".join(f"import synclr_hf.{room}" for room in rooms)
    check = f"{imports}; import sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("room", ["data", "views", "models", "objectives", "training"])
def test_training_rooms_do_without_what_a_gpu_machine_may_lack(room):
    """Nothing at the top of a module imports these; transformers itself may, where they are installed."""
    for path in (PACKAGE / room).rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            names = [alias.name for alias in getattr(node, "names", [])] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            roots = {name.split(".")[0] for name in names}
            assert not roots & {"datasets", "diffusers", "gradio", "torchvision", "evaluate"}, path


def test_only_the_page_of_the_explorer_needs_gradio():
    for path in PACKAGE.rglob("*.py"):
        modules = set(imported(path))
        is_page = path.parent == PACKAGE / "explorer" / "page"
        assert is_page or "gradio" not in {module.split(".")[0] for module in modules}, path
        opens_it = path.relative_to(PACKAGE).as_posix() in ("cli/demo.py", "explorer/space/app.py")
        assert is_page or opens_it or not any(name.startswith("synclr_hf.explorer.page") for name in modules), path


def test_every_file_stays_readable():
    long = [f"{path} {n}" for path in PACKAGE.rglob("*.py") if (n := len(path.read_text().splitlines())) > 350]
    assert long == []
    assert not list(PACKAGE.rglob("utils.py"))


def test_every_test_module_has_a_name_of_its_own():
    """They lie in folders that are no packages: pytest would take two of one name for the same."""
    names = [
        path.name for path in Path(__file__).parent.rglob("*.py") if path.name not in ("__init__.py", "conftest.py")
    ]
    assert sorted(names) == sorted(set(names))
