"""`synclr pretrain` with a witness: notes what happens in its steps, and kills processes where it is told to.

python watched_run.py '{"notes": "FOLDER", "kill_at_step": 10}' --config RECIPE ...

Entries of the first argument, all optional but `notes`:
    notes: folder that gets `starts.txt` (the step at which each start went on) and, with `keep`, `kept-STEP.pt`.
    keep: steps of which process 0 keeps the gradients and the weights after the update.
    kill_at_step: the step at whose end the process dies (SIGKILL) with its whole process group.
    kill_in_checkpoint: the step whose checkpoint is being written when it dies: after the optimizer's state.
    rank: the only process that dies, alone.
    slow_rank: a process that takes its time to write the state of its random numbers.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import torch
from transformers import Trainer, TrainerCallback, TrainerState

from synclr_hf.training import SynCLRTrainer

WITNESS = json.loads(sys.argv[1])
NOTES = Path(WITNESS["notes"])
RANK = int(os.environ.get("RANK", 0))


def die():
    if "rank" not in WITNESS:
        assert os.getpgrp() == os.getpid(), "start this in a session of its own: it kills its process group"
        os.killpg(os.getpgrp(), signal.SIGKILL)
    elif WITNESS["rank"] == RANK:
        os.kill(os.getpid(), signal.SIGKILL)


class Witness(TrainerCallback):
    def on_train_begin(self, args, state, control, **kwargs):
        if RANK == 0:
            with open(NOTES / "starts.txt", "a") as file:
                file.write(f"{state.global_step}\n")

    def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
        self.gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    def on_step_end(self, args, state, control, model, **kwargs):
        if state.global_step in WITNESS.get("keep", []) and RANK == 0:
            kept = {"gradients": self.gradients, "weights": model.state_dict()}
            names = {part: {k.removeprefix("module."): v for k, v in kept[part].items()} for part in kept}
            torch.save(names, NOTES / f"kept-{state.global_step}.pt")
        if state.global_step == WITNESS.get("kill_at_step"):
            (NOTES / f"died-{RANK}").write_text(str(time.time()))
            die()


def save_rng_state(self, output_dir, original=Trainer._save_rng_state):
    if self.state.global_step == WITNESS.get("kill_in_checkpoint"):
        die()
    if WITNESS.get("slow_rank") == RANK:
        time.sleep(1)
    original(self, output_dir)


def save_to_json(self, json_path, original=TrainerState.save_to_json):
    (NOTES / "written_before_the_state.json").write_text(json.dumps(sorted(os.listdir(Path(json_path).parent))))
    original(self, json_path)


def trainer_with_witness(self, *args, original=SynCLRTrainer.__init__, **kwargs):
    original(self, *args, **kwargs)
    self.add_callback(Witness())


if __name__ == "__main__":
    Trainer._save_rng_state, TrainerState.save_to_json = save_rng_state, save_to_json
    SynCLRTrainer.__init__ = trainer_with_witness
    from synclr_hf.cli.main import main

    main(["pretrain", *sys.argv[2:]])
