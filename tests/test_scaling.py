"""Launch files for GPUs and Slurm: accelerate reads each, and their settings fit the package."""

import os
import subprocess
from pathlib import Path

import pytest
import transformers
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import FullyShardedDataParallelPlugin
from encoders import ENCODERS

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "recipes" / "accelerate"
FILES = sorted(FOLDER.glob("*.yaml"))
# launched so, the way of spreading that each file asks for: one process, several, or shards
WAYS = {"one_gpu": None, "several_gpus": "multi_gpu", "several_machines": "multi_gpu", "fsdp": "use_fsdp"}

# records what each machine's task would launch, in place of Slurm and accelerate
SRUN = '#!/bin/bash\nshift\nfor SLURM_NODEID in 0 1; do export SLURM_NODEID; "$@"; done\n'
ACCELERATE = '#!/bin/bash\nprintf "%s\\n" "$*" >> "$LAUNCHED"\n'
SCONTROL = '#!/bin/bash\nprintf "node1\\nnode2\\n"\n'


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_accelerate_takes_every_file(file):
    """It refuses keys of its own that it does not know, but none below fsdp_config."""
    config = load_config_from_file(str(file))
    args = launch_command_parser().parse_args(["--config_file", str(file), "recipes/train.py", "--model", "mlp"])
    known = set(vars(args))
    assert set(config.fsdp_config) <= known
    launched, _, _ = _validate_launch_command(args)
    assert {way for way in ("multi_gpu", "use_fsdp", "tpu", "use_deepspeed") if getattr(launched, way)} == (
        {WAYS[file.stem]} - {None}
    )
    assert launched.num_processes == config.num_processes
    assert launched.training_script_args == ["--model", "mlp"]


def test_fsdp_wraps_the_layers_of_the_encoder_that_is_named():
    settings = load_config_from_file(str(FOLDER / "fsdp.yaml")).fsdp_config
    config = transformers.HubertConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, conv_dim=[8] * 7,
        do_stable_layer_norm=True, num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    model = transformers.HubertModel(config)  # as hubert-xlarge, whose configuration asks for the stable norm
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy=settings["fsdp_auto_wrap_policy"],
        transformer_cls_names_to_wrap=settings["fsdp_transformer_layer_cls_to_wrap"].split(","),
        reshard_after_forward=settings["fsdp_reshard_after_forward"],
        state_dict_type=settings["fsdp_state_dict_type"],
    )
    plugin.set_auto_wrap_policy(model)
    wrapped = plugin.auto_wrap_policy.keywords["transformer_layer_cls"]
    assert [type(layer) in wrapped for layer in model.encoder.layers] == [True, True]


@pytest.mark.parametrize("kind", ENCODERS)
def test_the_page_names_the_layers_of_every_encoder(kind):
    config, fields, _ = ENCODERS[kind]
    model = transformers.AutoModelForAudioClassification.from_config(getattr(transformers, config)(**fields))
    layers = {type(part).__name__ for name, part in model.named_modules() if name.endswith((".layers.0", ".layer.0"))}
    page = (ROOT / "docs" / "scaling.md").read_text()
    assert any(f"`{layer}`" in page and layer.startswith(config.removesuffix("Config")) for layer in layers), layers


def test_each_machine_of_a_slurm_job_launches_its_part(tmp_path):
    for name, content in (("srun", SRUN), ("accelerate", ACCELERATE), ("scontrol", SCONTROL)):
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o755)
    slurm = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}", "LAUNCHED": str(tmp_path / "launched"), "SLURM_NNODES": "2",
        "SLURM_GPUS_ON_NODE": "8", "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_SUBMIT_DIR": str(ROOT),
    }  # fmt: skip
    argv = ["bash", str(FOLDER / "slurm.sbatch"), "--model", "mlp", "--output_dir", "a folder"]
    done = subprocess.run(argv, env=slurm, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "launched").read_text().splitlines()
    assert lines == [
        "launch --config_file recipes/accelerate/several_machines.yaml --num_machines 2 --num_processes 16 "
        f"--machine_rank {rank} --main_process_ip node1 --main_process_port 20007 "
        "recipes/train.py --model mlp --output_dir a folder"
        for rank in (0, 1)
    ]
