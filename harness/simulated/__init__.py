"""A stand-in for Megatron: the run directory that it would leave, from a stated loss formula, in no time. Nothing is trained."""
