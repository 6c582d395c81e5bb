"""Runs that were not planned here: each source gives `analysis.sources.record.Record`s, of which `table` makes rows.

console          logs of megatron-core's own training loop
tensorboard      its event files
wandb_offline    its offline W&B runs, without a server
wandb_online     W&B by project and group
csv_table        any table, by a mapping of columns (rows, not records)

Megatron leaves all its arguments in each of the first four, so what a model is need not be told again.
"""
