"""A pipeline and LoRA weights of the Hub, by their names."""

import pytest
from tiny_diffusion import save_tiny_lora, save_tiny_stable_diffusion


@pytest.mark.slow
def test_a_pipeline_and_lora_weights_by_their_names(hub, tmp_path):
    pipeline = save_tiny_stable_diffusion(tmp_path / "sd", flags_everything=False)
    lora = save_tiny_lora(pipeline, tmp_path / "lora")
    told = hub.python(f"""
        from pathlib import Path
        from huggingface_hub import HfApi
        from synclr_hf.errors import UserInputError
        from synclr_hf.images.families import FamilyDefaults, family_defaults
        from synclr_hf.images.generators import ImageGeneratorOptions, create_image_generator

        api = HfApi()
        def put(name, folder):
            api.create_repo(name)
            return api.upload_folder(repo_id=name, folder_path=folder).oid
        commit = put("org/tiny-sd", {pipeline!r})
        lora = Path({lora!r}, "pytorch_lora_weights.safetensors")
        put("org/lcm-lora", {lora!r})
        lora.rename(lora.with_name("birds.safetensors"))
        put("org/birds", {lora!r})
        (lora.parent / "cats.safetensors").write_bytes(b"")
        put("org/several", {lora!r})

        assert family_defaults("org/tiny-sd", "org/lcm-lora") == FamilyDefaults(1.0, 4, "LCMScheduler")
        Path("bert").mkdir()
        Path("bert/config.json").write_text('{{"model_type": "bert"}}')
        put("org/bert", "bert")
        try:
            family_defaults("org/bert")
        except UserInputError as error:
            print(error)
        def built(adapter):
            options = ImageGeneratorOptions(adapter=adapter, safety_checker=False)
            return create_image_generator("org/tiny-sd", options).provenance
        first = built("org/lcm-lora")
        assert first["revision"] == commit, first
        assert first["scheduler"] == "LCMScheduler"
        for name in ("org/lcm-lora", "org/birds", "org/several/birds.safetensors"):
            there, at, revision = built(name)["adapter"].partition("@")
            assert (there, at, len(revision)) == (name, "@", 40)
            recorded = f"{{there}}@{{revision}}"
            assert built(recorded)["adapter"] == recorded, "as --regenerate asks for it"
        for name in ("org/several", "org/birds/dogs.safetensors", "org/none"):
            try:
                built(name)
            except UserInputError as error:
                print(error)
        """)
    bert, several, file, none = told.splitlines()[-4:]
    assert "'org/bert' is a single model, not a pipeline of diffusers, which does not draw" in bert
    assert "'org/several' cannot be used (looked for pytorch_lora_weights.safetensors" in several
    assert "'org/birds/dogs.safetensors' cannot be used (" in file
    assert "'org/none' cannot be used (" in none and "type --adapter" in none
