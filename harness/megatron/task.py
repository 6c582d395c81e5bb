"""Language modelling for Megatron's training loop: datasets, batches, loss.

The validation set is built with a seed of its own, so that every run, whatever its seed, is judged on the same tokens.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from megatron.core import mpu
from megatron.core.datasets.blended_megatron_dataset_builder import BlendedMegatronDatasetBuilder
from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig
from megatron.core.rerun_state_machine import get_rerun_state_machine
from megatron.core.utils import get_batch_on_this_tp_rank
from megatron.training import get_args, get_tokenizer
from megatron.training.utils import get_blend_and_blend_per_split, is_first_or_last_pipeline_stage

VALIDATION_SEED = 1234
"""Order of the validation documents: the same for every run that is to be compared."""


def datasets_provider(dataset_iters: int = 0) -> Any:
    """What Megatron calls for the datasets: `build_datasets`, asked for samples for at least `dataset_iters` steps.

    The order of a dataset's samples depends on how many it is asked for: runs that are to see the same ones ask for as many.
    """

    def provide(sizes: tuple[int, int, int], vp_stage: int | None = None) -> tuple[Any, Any, None]:
        asked = max(sizes[0], dataset_iters * get_args().global_batch_size)
        return build_datasets((asked, *sizes[1:]), vp_stage)

    provide.is_distributed = True  # type: ignore[attr-defined]  # the builder itself knows which ranks read
    return provide


def build_datasets(sizes: tuple[int, int, int], vp_stage: int | None = None) -> tuple[Any, Any, None]:
    """Training and validation datasets of the flags; `sizes` in sequences. There is no test part."""
    args = get_args()
    _, parts = get_blend_and_blend_per_split(args)
    config = GPTDatasetConfig(
        random_seed=args.seed,
        sequence_length=args.seq_length,
        blend_per_split=[parts[0], None, None],
        path_to_cache=args.data_cache_path,
        mmap_bin_files=args.mmap_bin_files,
        tokenizer=get_tokenizer(),
        reset_position_ids=False,
        reset_attention_mask=False,
        eod_mask_loss=False,
        create_attention_mask=False,
    )

    def build(part_config: GPTDatasetConfig, part_sizes: list[int | None]) -> list[Any]:
        here = partial(_has_batches, vp_stage)
        return list(BlendedMegatronDatasetBuilder(GPTDataset, part_sizes, here, part_config).build())

    train = build(config, [sizes[0], 0, 0])[0]
    fixed = replace(config, random_seed=VALIDATION_SEED, blend_per_split=[None, parts[1], None])
    validation = build(fixed, [0, sizes[1], 0])[1]
    return train, validation, None


def _has_batches(vp_stage: int | None) -> bool:
    return bool(is_first_or_last_pipeline_stage(vp_stage)) and bool(mpu.get_tensor_model_parallel_rank() == 0)


def get_batch(data_iterator: Any, vp_stage: int | None = None) -> dict[str, Any]:
    """The next micro-batch on this rank's device: tokens, labels, position_ids [B, S] int64, loss_mask [B, S] float32.

    Entries are None on pipeline stages that do not need them.
    """
    keys = ("tokens", "labels", "loss_mask", "position_ids")
    if not is_first_or_last_pipeline_stage(vp_stage):
        return dict.fromkeys(keys)
    args = get_args()
    batch: dict[str, Any] = {}
    if mpu.get_tensor_model_parallel_rank() == 0:
        sample = next(data_iterator)
        batch = {key: sample[key].cuda(non_blocking=True) for key in keys}
    if mpu.get_tensor_model_parallel_world_size() == 1:
        return batch
    return get_batch_on_this_tp_rank(  # type: ignore[no-any-return]
        batch,
        has_cu_seqlens=False,
        is_hybrid_cp=False,
        create_attention_mask_in_dataloader=False,
        broadcast_src_rank=mpu.get_tensor_model_parallel_src_rank(),
        broadcast_group=mpu.get_tensor_model_parallel_group(),
        cp_size=1,
        tp_rank=mpu.get_tensor_model_parallel_rank(),
        micro_batch_size=args.micro_batch_size,
        seq_length=args.seq_length,
        mtp_on_this_rank=False,
        pipeline_model_parallel_size=mpu.get_pipeline_model_parallel_world_size(),
        is_pipeline_first_stage=mpu.is_pipeline_first_stage(),
        is_pipeline_last_stage=mpu.is_pipeline_last_stage(),
    )


def loss_sum(
    loss_mask: torch.Tensor, losses: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """Summed cross entropy (nats) of a micro-batch, its number of tokens, and both for the log.

    Raises:
        RuntimeError: the loss is NaN or infinite (through Megatron's rerun state machine, which may also leave).
    """
    args = get_args()
    mask = loss_mask.reshape(-1).float()
    total = torch.sum(losses.float().reshape(-1) * mask)
    if args.check_for_nan_in_loss_and_grad:
        for kind, rejected in (("NaN", torch.isnan), ("infinite loss", torch.isinf)):
            get_rerun_state_machine().validate_result(
                result=total, rejection_func=rejected, message=f"found {kind} in the forward pass", tolerance=0.0
            )
    tokens = mask.sum().detach().to(torch.int)
    return total, tokens, {"lm loss": torch.stack([total.detach(), tokens.to(total.dtype)])}


def forward_step(data_iterator: Any, model: Any) -> tuple[Any, Any]:
    """Megatron's forward step: per-token losses of the next micro-batch, and how to reduce them."""
    batch = get_batch(data_iterator)
    output = model(batch["tokens"], batch["position_ids"], None, labels=batch["labels"], loss_mask=batch["loss_mask"])
    return output, partial(loss_sum, batch["loss_mask"])
