"""Everything that knows Megatron-LM: flags, the training program, its metrics, and what a machine without a GPU needs."""
