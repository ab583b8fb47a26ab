"""`python -m hf_vivae_cli`, which `accelerate launch -m` and `torchrun -m` can start several times."""

from . import app

app(prog_name="hf-vivae")
