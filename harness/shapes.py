"""Which layouts divide: the sizes that each kind of parallelism may have, and their combinations."""

from functools import lru_cache

from harness.architecture import Architecture, Backbone
from harness.cluster import Cluster

type Shape = tuple[int, int, int, tuple[int, ...], tuple[int, ...]]
"""GPUs, tensor parallel, pipeline parallel, expert-parallel sizes and micro-batches, the two in order of preference."""


def divisors(
    backbone: Backbone, architecture: Architecture, global_batch_size: int, cluster: Cluster
) -> dict[str, tuple[int, ...]]:
    """Sizes that divide what each kind of parallelism cuts up, ascending."""
    return {
        "tensor_parallel": tensor_parallel_sizes(backbone, architecture, cluster),
        "pipeline_parallel": whole_divisors(architecture.num_layers),
        "expert_parallel": whole_divisors(backbone.num_experts),
        "micro_batch_size": micro_batch_sizes(backbone.seq_length, global_batch_size, cluster.micro_batch_tokens),
    }


def tensor_parallel_sizes(backbone: Backbone, architecture: Architecture, cluster: Cluster) -> tuple[int, ...]:
    """Within a node, dividing the heads, the dense and shared FFNs, the sequence, and the padded vocabulary as it is.

    Megatron pads the vocabulary to a multiple of its divisor times TP: more rows would be another model.
    """
    shared = architecture.moe_ffn_hidden_size * backbone.num_shared_experts
    cut = (backbone.num_query_heads, backbone.num_kv_heads, architecture.ffn_hidden_size, shared, backbone.seq_length)
    return tuple(
        size
        for size in whole_divisors(backbone.num_kv_heads)
        if size <= cluster.gpus_per_node
        and all(part % size == 0 for part in cut)
        and backbone.padded_vocab_size % (backbone.vocab_divisor * size) == 0
    )


@lru_cache(maxsize=4096)
def micro_batch_sizes(seq_length: int, global_batch_size: int, most_tokens: int) -> tuple[int, ...]:
    """Dividing the batch, with at most `most_tokens` tokens (one sequence always may)."""
    return tuple(size for size in whole_divisors(global_batch_size) if size == 1 or size * seq_length <= most_tokens)


@lru_cache(maxsize=4096)
def whole_divisors(number: int) -> tuple[int, ...]:
    """Of a number, ascending."""
    return tuple(size for size in range(1, number + 1) if number % size == 0)


@lru_cache(maxsize=65536)
def shapes_by_nodes(
    cluster: Cluster,
    tensor_parallel: tuple[int, ...],
    pipeline_parallel: tuple[int, ...],
    expert_parallel: tuple[int, ...],
    micro_batch_size: tuple[int, ...],
    global_batch_size: int,
    validation_sequences: int,
) -> tuple[tuple[Shape, ...], ...]:
    """The shapes of these sizes that divide, in order, grouped by nodes.

    Those without tensor and pipeline parallelism are only among them where no other size is asked for.
    """
    choice = cluster.layout
    sizes = sorted(
        (
            (tensor, pipeline)
            for tensor in tensor_parallel
            for pipeline in pipeline_parallel
            if choice.tensor_parallel in (None, tensor) and choice.pipeline_parallel in (None, pipeline)
        ),
        key=lambda pair: (pair[0] * pair[1], pair[1]),
    )
    if tensor_parallel != (1,) or pipeline_parallel != (1,):
        sizes = [pair for pair in sizes if pair != (1, 1)]
    by_nodes: dict[int, list[Shape]] = {}
    for gpus in cluster.gpu_counts if choice.gpus is None else (choice.gpus,):
        for tensor, pipeline in sizes:
            data, left = divmod(gpus, tensor * pipeline)
            if left or data == 0 or validation_sequences % data:
                continue
            experts = [size for size in expert_parallel if data * tensor % size == 0]
            batches = [size for size in micro_batch_size if global_batch_size % (data * size) == 0]
            if choice.expert_parallel is not None:
                experts = [size for size in experts if size == choice.expert_parallel]
            if choice.micro_batch_size is not None:
                batches = [size for size in batches if size == choice.micro_batch_size]
            if experts and batches:
                shape = (gpus, tensor, pipeline, tuple(experts[::-1]), tuple(batches[::-1]))
                by_nodes.setdefault(-(-gpus // cluster.gpus_per_node), []).append(shape)
    return tuple(tuple(shapes) for shapes in by_nodes.values())


RULES = {
    "tensor_parallel": "it must divide {backbone.num_query_heads} query and {backbone.num_kv_heads} key/value heads, the FFNs of "
    "{architecture.ffn_hidden_size} and {architecture.moe_ffn_hidden_size}, the sequence of {backbone.seq_length} and the "
    "vocabulary's {backbone.padded_vocab_size} rows in steps of {backbone.vocab_divisor}, within a node of "
    "{cluster.gpus_per_node} GPUs",
    "pipeline_parallel": "it must divide {architecture.num_layers} layers",
    "expert_parallel": "it must divide {backbone.num_experts} experts",
    "micro_batch_size": "it must divide the batch of {global_batch_size}, with at most "
    "cluster.micro_batch_tokens={cluster.micro_batch_tokens} tokens of {backbone.seq_length} a sequence",
    "gpus": "a run takes 1 to {cluster.gpus_per_node} GPUs of a node or whole nodes, up to cluster.max_gpus and cluster.nodes",
}
"""What a number of ``cluster.layout`` must keep to."""


def check_choice(
    backbone: Backbone,
    architecture: Architecture,
    global_batch_size: int,
    cluster: Cluster,
) -> str | None:
    """What is wrong with ``cluster.layout`` by itself: the number, the rule and the nearest valid ones."""
    if not cluster.layout.given():
        return None
    numbers = divisors(backbone, architecture, global_batch_size, cluster)
    for name, valid in {**numbers, "gpus": cluster.gpu_counts}.items():
        value = getattr(cluster.layout, name)
        if value is not None and value not in valid:
            rule = RULES[name].format(
                backbone=backbone, architecture=architecture, cluster=cluster, global_batch_size=global_batch_size
            )
            below = [str(size) for size in valid if size < value][-1:]
            above = [str(size) for size in valid if size > value][:1]
            return f"cluster.layout.{name}={value}: {rule}; nearest: {' or '.join(below + above)}"
    return None
