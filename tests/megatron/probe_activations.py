"""What autograd keeps in Megatron's own modules on a CPU, in bf16: ``python -m tests.megatron.probe_activations``.

Prints one JSON line: bytes a token of the attention block, a dense FFN, a MoE layer and the cross entropy, for a small model.
Parameters, RoPE's tables (shared by all layers) and the row indices of the unfused permutation are not counted.
"""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

os.environ["WORLD_SIZE"], os.environ["RANK"], os.environ["LOCAL_RANK"] = "1", "0", "0"
from harness.megatron import environment  # noqa: E402

environment.preload()

import torch  # noqa: E402
from megatron.core import parallel_state  # noqa: E402
from megatron.core.process_groups_config import ProcessGroupCollection  # noqa: E402
from megatron.core.tensor_parallel.random import model_parallel_cuda_manual_seed  # noqa: E402
from megatron.training.argument_utils import gpt_config_from_args  # noqa: E402
from megatron.training.arguments import parse_and_validate_args  # noqa: E402
from megatron.training.models.gpt import GPTModelBuilder  # noqa: E402

from harness.megatron.argv import Paths, megatron_argv  # noqa: E402
from harness.resources import layout  # noqa: E402
from harness.settings import named_cluster  # noqa: E402
from tests.megatron.test_activations import BATCH, small_experiment  # noqa: E402


class Kept:
    """Storages that autograd keeps of what is computed inside."""

    def __init__(self, *without: int):
        self.without = set(without)
        self.tensors: dict[int, torch.Tensor] = {}
        self.hook = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor)

    def __enter__(self) -> "Kept":
        self.hook.__enter__()
        return self

    def __exit__(self, *what: object) -> None:
        self.hook.__exit__(*what)

    def _pack(self, tensor: torch.Tensor) -> torch.Tensor:
        self.hold(tensor)
        return tensor

    def hold(self, tensor: torch.Tensor) -> None:
        if tensor.untyped_storage().data_ptr() not in self.without:
            self.tensors.setdefault(tensor.untyped_storage().data_ptr(), tensor)

    def bytes_a_token(self, tokens: int) -> float:
        """Of all storages but indices of the unfused permutation (a row for each routed token)."""
        return sum(t.untyped_storage().nbytes() for t in self.tensors.values() if not self._index(t, tokens)) / tokens

    @staticmethod
    def _index(tensor: torch.Tensor, tokens: int) -> bool:
        return tensor.dtype == torch.int64 and tensor.shape[0] > tokens


def main() -> None:
    """Measure and print."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    parallel_state.initialize_model_parallel()
    model_parallel_cuda_manual_seed(1)
    experiment = small_experiment()
    run_layout = replace(layout(experiment, named_cluster("cpu")), micro_batch_size=BATCH)
    paths = Paths(run=Path("run"), data=Path("data"))
    sys.argv = ["pretrain", *megatron_argv(experiment, run_layout, paths)]
    args = parse_and_validate_args()
    args.bf16, args.params_dtype, args.bias_swiglu_fusion = True, torch.bfloat16, True  # as on a GPU
    config = gpt_config_from_args(args)
    config.finalize()
    groups = ProcessGroupCollection.use_mpu_process_groups()
    model = GPTModelBuilder(config).build_model(groups, True, True).bfloat16()
    parameters = [parameter.untyped_storage().data_ptr() for parameter in model.parameters()]
    sequence, width = experiment.backbone.seq_length, experiment.architecture.hidden_size
    tokens = sequence * BATCH
    hidden = torch.randn(sequence, BATCH, width, dtype=torch.bfloat16, requires_grad=True)
    rope = model.rotary_pos_emb(sequence)
    dense, moe = model.decoder.layers
    kept = {}
    with Kept(*parameters) as kept["attention"]:
        dense.self_attention(hidden, None, rotary_pos_emb=rope)
    tables = [key for key, t in kept["attention"].tensors.items() if t.shape == (sequence, 1, 1, rope.shape[-1])]
    for key in tables:
        del kept["attention"].tensors[key]
    with Kept(*parameters) as kept["dense"]:
        dense.mlp(hidden)
    with Kept(*parameters) as kept["moe"]:
        moe.mlp(hidden)
    for tensor in (moe.mlp.token_dispatcher.probs, moe.mlp.token_dispatcher.routing_map):
        kept["moe"].hold(tensor)  # alive until the layer's next forward pass
    logits = torch.randn(
        sequence, BATCH, experiment.backbone.padded_vocab_size, dtype=torch.bfloat16, requires_grad=True
    )
    labels = torch.randint(0, experiment.backbone.vocab_size, (BATCH, sequence))
    model.config.cross_entropy_loss_fusion = True
    with Kept(*parameters) as kept["cross_entropy"]:
        model.compute_language_model_loss(labels, logits)
    moe.mlp.moe_layer_recompute = True
    moe.mlp.train()
    with Kept(*parameters) as kept["moe_recomputed"]:
        moe.mlp(hidden)
    print("KEPT", json.dumps({name: one.bytes_a_token(tokens) for name, one in kept.items()}))


if __name__ == "__main__":
    main()
