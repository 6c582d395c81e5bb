"""From a compute budget to a trained run: architectures, studies, sweeps, and the Megatron training program."""
