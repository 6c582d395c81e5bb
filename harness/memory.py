"""How many bytes of a GPU's memory a run takes, by part, for a layout (megatron-core 0.19, Transformer Engine, no dropout).

Every formula names what it was read from in the wheel. `memory` is the peak on the most loaded rank, taken as the sum of
its parts: the peaks of the logits and of the dispatcher do not fall together, so the sum is on the safe side by the lesser.
What it leaves to the cluster's headroom: CUDA context, NCCL and cuBLAS workspaces, fragmentation.
"""

from dataclasses import dataclass, fields
from functools import lru_cache

from harness.accounting import attention_params
from harness.architecture import Architecture, Backbone

RECOMPUTE = ("none", "selective", "moe", "full")
"""What is computed again in the backward pass instead of kept, from the least to the most: nothing; the norms before the
experts and the experts' activation function (Megatron's ``--recompute-modules layernorm moe_act``); whole MoE layers but for
their norm (``--recompute-modules moe``); everything but each layer's input (``--recompute-granularity full``)."""

BYTES = {"bf16": (2, 4, 12), "fp32": (4, 4, 8)}
"""Bytes a parameter of weight, gradient and optimizer by precision. bf16: fp32 gradients (Megatron sets
``accumulate_allreduce_grads_in_fp32``), fp32 master weight and two moments (``DistributedOptimizer``); fp32: the weight is its
own master."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of a GPU's memory by part, at the peak of a training step on the most loaded rank."""

    weights: float
    """Parameters held by the rank, at training precision."""
    gradients: float
    """Of those, in fp32 (``DistributedDataParallel``'s buffer)."""
    optimizer: float
    """Master weights and moments: dense ones shared out over data-parallel ranks, experts' over expert-data-parallel ranks."""
    activations: float
    """What the forward pass keeps for the backward pass, of all micro-batches in flight."""
    logits: float
    """Of the output layer and its cross entropy, 0 but on the last pipeline stage."""
    dispatcher: float
    """Copies of the routed tokens that live only while a MoE layer works."""

    @property
    def total(self) -> float:
        """Sum of the parts."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.logits + self.dispatcher

    def parts(self) -> dict[str, float]:
        """Bytes by name, in the order of the fields."""
        return {name: getattr(self, name) for name in self.names()}

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The parts' names."""
        return tuple(field.name for field in fields(cls))


@dataclass(frozen=True, kw_only=True)
class Parallel:
    """How a model is cut up: what memory depends on. See `harness.resources.Layout` for the whole layout."""

    data_parallel: int
    tensor_parallel: int
    pipeline_parallel: int
    expert_parallel: int
    micro_batch_size: int
    recompute: str
    """One of `RECOMPUTE`."""
    micro_batches: int
    """Forward passes a step and data-parallel rank."""
    expert_imbalance: float
    """Tokens that the busiest expert-parallel rank receives, over the mean."""
    sharded_optimizer: bool = True
    """Whether data-parallel ranks share the optimizer's state; without Transformer Engine (or Apex) each holds all of it."""

    @property
    def expert_data_parallel(self) -> int:
        """Ranks that hold the same experts: DP TP / EP, as the experts themselves are not cut by tensor parallelism."""
        return self.data_parallel * self.tensor_parallel // self.expert_parallel


@lru_cache(maxsize=65536)
def stages(num_dense_layers: int, num_layers: int, pipeline_parallel: int) -> tuple[tuple[int, int], ...]:
    """(dense, MoE) layers of each pipeline stage; dense layers come first, and stages are equally long."""
    per_stage = num_layers // pipeline_parallel
    dense = [min(per_stage, max(0, num_dense_layers - stage * per_stage)) for stage in range(pipeline_parallel)]
    return tuple((number, per_stage - number) for number in dense)


def rank_params(backbone: Backbone, architecture: Architecture, parallel: Parallel, stage: int) -> tuple[float, float]:
    """Parameters that a rank of pipeline stage `stage` holds: (all but the experts, its routed experts).

    Cut by tensor parallelism: attention, dense and shared FFNs, both embedding tables (``VocabParallelEmbedding``,
    ``ColumnParallelLinear``). Whole on each rank: norms and routers (``TopKRouter``). Cut by expert parallelism: the routed
    experts (``TEGroupedMLP``). Equal to the parameters of a real ``GPTModel`` (tests/megatron/test_memory.py).
    """
    dense, moe = stages(architecture.num_dense_layers, architecture.num_layers, parallel.pipeline_parallel)[stage]
    first, last = stage == 0, stage == parallel.pipeline_parallel - 1
    d, layers = architecture.hidden_size, dense + moe
    cut = (
        attention_params(backbone, d) * layers
        + 3 * d * architecture.ffn_hidden_size * dense
        + 3 * d * architecture.moe_ffn_hidden_size * backbone.num_shared_experts * moe
        + d * backbone.padded_vocab_size * (first + last)
    )
    norms = 2 * d + (2 * backbone.head_dim if backbone.qk_norm else 0)
    whole = norms * layers + d * backbone.num_experts * moe + d * last
    experts = 3 * d * architecture.moe_ffn_hidden_size * backbone.num_experts * moe
    return cut / parallel.tensor_parallel + whole, experts / parallel.expert_parallel


def state_bytes(
    backbone: Backbone, architecture: Architecture, precision: str, parallel: Parallel, stage: int
) -> tuple[float, float, float]:
    """Bytes of weights, gradients and optimizer on a rank of `stage`.

    As in ``theoretical_memory_usage.compute_weight_and_optimizer_memory``: 6 + 12/DP bytes a dense parameter and
    6 + 12/EDP bytes an expert parameter, in bf16.
    """
    weight, gradient, optimizer = BYTES[precision]
    dense, experts = rank_params(backbone, architecture, parallel, stage)
    held = dense + experts
    shared_out = held
    if parallel.sharded_optimizer:
        shared_out = dense / parallel.data_parallel + experts / parallel.expert_data_parallel
    return weight * held, gradient * held, optimizer * shared_out


def layer_activation_bytes(
    backbone: Backbone, architecture: Architecture, element: int, recompute: str, expert_imbalance: float
) -> tuple[float, float]:
    """Bytes a token that a dense layer and a MoE layer keep for the backward pass, before tensor parallelism divides them.

    The norms apart, this is what autograd keeps in the wheel's own modules (tests/megatron/test_activations.py). With d hidden
    size, q and k widths of all query heads and of all key (or value) heads, K experts a token of E, e bytes an element:

    attention   e (2 d + 3 q + 3 k) + 4 N_q: input and output of the norm (``TELayerNormColumnParallelLinear``); queries and keys
                after RoPE and the projection's output, of which the values are a view (``get_query_key_value_tensors``); the
                context, kept once for ``TEDotProductAttention`` and the output projection; softmax statistics in fp32. With
                ``--qk-layernorm``, e (q + k) more for the normed ones.
    dense FFN   e (2 d + 3 d_d): the norm's input and output, both halves before SwiGLU (``SwiGLUFunction`` keeps its
                input), and its output, the second projection's input.
    MoE         e 2 d for the norm (router and shared experts keep its output); 9 E + 20 K for the router: balancing scores
                in fp32 (``compute_routing_scores_for_aux_loss``), probabilities in fp32 and their boolean map (held by the
                dispatcher), the chosen experts and their scores; 4 (2 E + 1) for the map of rows that the fused ``permute`` of
                Transformer Engine keeps; 3 e d_m for each shared expert; and for the K copies of the token, e d as the first
                grouped GEMM's input and 3 e d_m as in a dense FFN, with 4 for the probability
                (``WeightedSwiGLUFunction``).

    selective   drops the output of the norm before the experts and the experts' SwiGLU output.
    moe         keeps of a MoE layer e 2 d, the norm's input and output.
    full        keeps only the layer's input, e d.
    """
    d, d_expert = architecture.hidden_size, architecture.moe_ffn_hidden_size
    if recompute == "full":
        return element * d, element * d
    queries = backbone.num_query_heads * backbone.head_dim
    keys = backbone.num_kv_heads * backbone.head_dim
    attention = element * (2 * d + 3 * queries + 3 * keys) + 4 * backbone.num_query_heads
    if backbone.qk_norm:
        attention += element * (queries + keys)
    dense = element * (2 * d + 3 * architecture.ffn_hidden_size)
    if recompute == "moe":
        return attention + dense, attention + element * 2 * d
    norms, swiglu = (1, 2) if recompute == "selective" else (2, 3)
    router = 9 * backbone.num_experts + 20 * backbone.top_k + 4 * (2 * backbone.num_experts + 1)
    shared = 3 * element * d_expert * backbone.num_shared_experts
    routed = backbone.top_k * (element * (d + swiglu * d_expert) + 4) * expert_imbalance
    return attention + dense, attention + element * norms * d + router + shared + routed


def stage_memory(
    backbone: Backbone, architecture: Architecture, precision: str, parallel: Parallel, stage: int
) -> Memory:
    """Memory by part on a rank of pipeline stage `stage` (from 0).

    Activations: those of min(PP - stage, micro-batches) micro-batches are in flight under the 1F1B schedule
    (``forward_backward_pipelining_without_interleaving``), divided by TP, as sequence parallelism is on wherever TP > 1. The
    last stage keeps the final norm's input and output. Recomputation of whole layers adds one layer at work.

    Logits: 6 bytes a token and row of the padded vocabulary in bf16. The bf16 logits and the fp32 copy that
    ``VocabParallelCrossEntropy.calculate_logits_max`` makes (the exponential and the softmax overwrite it) live together in
    the forward pass, the fp32 softmax and its bf16 gradient in the backward pass. In fp32 ``float()`` copies nothing: 4.

    Dispatcher: with expert parallelism, the permuted tokens before and after the all-to-all and their gradient beside the kept
    ones (``MoEAlltoAllTokenDispatcher``: ``dispatch_preprocess``, ``token_dispatch``, ``dispatch_postprocess``); on one
    expert-parallel rank one copy fewer.
    """
    element = BYTES[precision][0]
    weights, gradients, optimizer = state_bytes(backbone, architecture, precision, parallel, stage)
    dense, moe = stages(architecture.num_dense_layers, architecture.num_layers, parallel.pipeline_parallel)[stage]
    last = stage == parallel.pipeline_parallel - 1
    imbalance = parallel.expert_imbalance if parallel.expert_parallel > 1 else 1.0
    tokens = parallel.micro_batch_size * backbone.seq_length / parallel.tensor_parallel
    in_flight = min(parallel.pipeline_parallel - stage, parallel.micro_batches)
    d = architecture.hidden_size
    dense_layer, moe_layer = layer_activation_bytes(backbone, architecture, element, parallel.recompute, imbalance)
    kept = in_flight * (dense * dense_layer + moe * moe_layer) + (2 * element * d if last else 0)
    if parallel.recompute in ("moe", "full"):
        at_work = layer_activation_bytes(backbone, architecture, element, "none", imbalance)
        kept += at_work[1] if moe else at_work[0]
    logits = (6 if element == 2 else 4) * backbone.padded_vocab_size if last else 0
    copies = 3 if parallel.expert_parallel > 1 else 2
    return Memory(
        weights=weights,
        gradients=gradients,
        optimizer=optimizer,
        activations=kept * tokens,
        logits=logits * tokens,
        dispatcher=copies * element * d * backbone.top_k * imbalance * tokens if moe else 0.0,
    )


def memory(backbone: Backbone, architecture: Architecture, precision: str, parallel: Parallel) -> Memory:
    """Memory by part on the most loaded pipeline stage."""
    if parallel.pipeline_parallel == 1:
        return stage_memory(backbone, architecture, precision, parallel, 0)
    return max(
        (
            stage_memory(backbone, architecture, precision, parallel, stage)
            for stage in range(parallel.pipeline_parallel)
        ),
        key=lambda part: part.total,
    )


def checkpoint_bytes(params: int, precision: str) -> float:
    """Bytes of a ``torch_dist`` checkpoint with the optimizer: each weight, master weight and moment once.

    `params`: of the whole model, with embeddings, norms and routers (`Counts.megatron_params`).
    """
    weight, _, optimizer = BYTES[precision]
    return float((weight + optimizer) * params)
