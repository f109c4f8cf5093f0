"""`import synclr_hf` makes the Auto classes know the encoder in any order of imports, and costs nothing."""

import subprocess
import sys

import pytest

from synclr_hf.models import SynCLRConfig, SynCLRModel

ORDERS = [
    "import synclr_hf; from transformers import AutoModel",
    "from transformers import AutoConfig, AutoModel; import synclr_hf",
    "import synclr_hf; from transformers import CLIPModel; from transformers import AutoConfig, AutoModel",
    "import synclr_hf.models.modeling_synclr; from transformers import AutoModel",
    "import synclr_hf.evaluation.side_by_side; from transformers import AutoModel",
]


@pytest.mark.parametrize("imports", ORDERS)
def test_every_order_of_imports(imports, tmp_path):
    SynCLRModel(
        SynCLRConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=8)
    ).save_pretrained(tmp_path)
    load = f"{imports}; print(type(AutoModel.from_pretrained({str(tmp_path)!r})).__module__)"
    done = subprocess.run([sys.executable, "-c", load], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "synclr_hf.models.modeling_synclr", done.stderr[-2000:]


def test_importing_the_package_imports_no_torch():
    check = "import synclr_hf, sys; print('torch' in sys.modules, 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
