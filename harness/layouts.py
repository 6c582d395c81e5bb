"""The smallest layout that fits: which GPUs, parallelism, micro-batch and recomputation a run gets.

Of all layouts that divide everything they must and fit into `Cluster.usable_memory`, the first in this order (`order`):

1. without full recomputation, which does a third more work;
2. without tensor and pipeline parallelism: experts (EP) and data (DP) alone;
3. the fewest nodes;
4. the experts within a node;
5. without recomputing whole MoE layers;
6. the fewest GPUs: any number within a node, then whole nodes;
7. the least tensor and pipeline parallelism, the fewest pipeline stages;
8. no recomputation before selective recomputation;
9. the experts over the most ranks: an expert's GEMM then has the most rows;
10. the largest micro-batch of at most `Cluster.micro_batch_tokens` tokens.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache

from harness.architecture import Architecture, Backbone
from harness.cluster import Cluster, Layout
from harness.errors import ConfigError
from harness.experiment import Experiment
from harness.memory import BYTES, RECOMPUTE, memory, rank_params
from harness.quantities import gigabytes
from harness.shapes import (
    Shape,
    check_choice,
    micro_batch_sizes,
    shapes_by_nodes,
    tensor_parallel_sizes,
    whole_divisors,
)


def order(layout: Layout) -> tuple[int, ...]:
    """Sorts layouts from the most to the least wanted."""
    cut = layout.tensor_parallel * layout.pipeline_parallel
    return (
        layout.recompute == "full",
        cut > 1,
        layout.nodes,
        layout.expert_parallel > layout.gpus_per_node,
        layout.recompute == "moe",
        layout.gpus,
        cut,
        layout.pipeline_parallel,
        RECOMPUTE.index(layout.recompute),
        -layout.expert_parallel,
        -layout.micro_batch_size,
    )


def smallest_layout(experiment: Experiment, cluster: Cluster) -> Layout:
    """The first layout that divides and fits.

    Raises:
        ConfigError: none does, with how much the nearest lacks; or a number of ``cluster.layout`` breaks a rule.
    """
    training = experiment.training
    found = _search(
        experiment.backbone,
        experiment.architecture,
        training.precision,
        training.global_batch_size,
        training.validation_sequences,
        cluster,
    )
    if isinstance(found, Layout):
        return found
    raise ConfigError(f"run {experiment.run_id}: {found}")


@lru_cache(maxsize=65536)
def _search(
    backbone: Backbone,
    architecture: Architecture,
    precision: str,
    global_batch_size: int,
    validation_sequences: int,
    cluster: Cluster,
) -> Layout | str:
    """The layout, or what is wrong; the same for all seeds and token counts of an architecture."""
    if (mistake := check_choice(backbone, architecture, global_batch_size, cluster)) is not None:
        return mistake
    if cluster.layout.recompute == "selective" and not cluster.transformer_engine:
        return (
            "cluster.layout.recompute=selective recomputes parts of the grouped GEMM, which needs Transformer Engine, and jobs "
            "run without it (megatron.transformer_impl=local): choose none, moe or full"
        )
    search = _Search(backbone, architecture, precision, global_batch_size, cluster)

    def shapes(cut: bool) -> tuple[tuple[Shape, ...], ...]:
        sizes = tensor_parallel_sizes(backbone, architecture, cluster) if cut else (1,)
        return shapes_by_nodes(
            cluster,
            sizes,
            whole_divisors(architecture.num_layers) if cut else (1,),
            whole_divisors(backbone.num_experts),
            micro_batch_sizes(backbone.seq_length, global_batch_size, cluster.micro_batch_tokens),
            global_batch_size,
            validation_sequences,
        )

    for levels in (("none", "selective"), ("moe",)), (("full",),):
        for cut in False, True:
            for of_nodes in shapes(cut):
                for crossing in False, True:
                    for level in levels:
                        if (layout := search.first_that_fits(of_nodes, level, crossing)) is not None:
                            return layout
    everything = [shape for cut in (False, True) for of_nodes in shapes(cut) for shape in of_nodes]
    return _miss(search.nearest(everything), cluster, global_batch_size, validation_sequences)


class _Search:
    """Fits one architecture's memory."""

    def __init__(
        self,
        backbone: Backbone,
        architecture: Architecture,
        precision: str,
        global_batch_size: int,
        cluster: Cluster,
    ):
        self.backbone = backbone
        self.architecture = architecture
        self.precision = precision
        self.global_batch_size = global_batch_size
        self.cluster = cluster
        self.usable = cluster.usable_memory
        self._params: dict[tuple[int, int], tuple[float, float]] = {}

    def first_that_fits(self, shapes: Iterable[Shape], levels: Iterable[str], crossing: bool) -> Layout | None:
        """The first layout of `shapes` with one of the recomputations `levels` that fits; None where none does.

        `crossing`: with experts spread over several nodes; without, within one.
        """
        wanted = self.cluster.layout.recompute
        levels = [level for level in levels if wanted in (None, level) and self.cluster.can_recompute(level)]
        node = self.cluster.gpus_per_node
        for shape in shapes if levels else ():
            experts = [
                size for size in shape[3] if (size > node) == crossing and self._states(shape, size) <= self.usable
            ]
            for layout in _variants(shape, levels, experts, self.cluster) if experts else ():
                if self._needed(layout) <= self.usable:
                    return layout
        return None

    def nearest(self, shapes: Iterable[Shape]) -> tuple[float, Layout] | None:
        """The layout that needs the least memory, with its bytes a GPU; None where nothing divides."""
        wanted = self.cluster.layout.recompute
        levels = [level for level in RECOMPUTE if wanted in (None, level) and self.cluster.can_recompute(level)]
        layouts = (layout for shape in shapes for layout in _variants(shape, levels, shape[3], self.cluster))
        return min(((self._needed(layout), layout) for layout in layouts), key=lambda pair: pair[0], default=None)

    def _needed(self, layout: Layout) -> float:
        cluster = self.cluster
        parallel = layout.parallel(self.global_batch_size, cluster.expert_imbalance, cluster.transformer_engine)
        return memory(self.backbone, self.architecture, self.precision, parallel).total

    def _states(self, shape: Shape, expert_parallel: int) -> float:
        """Bytes of weights, gradients and optimizer on the first stage: no layout of the shape needs less."""
        gpus, tensor, pipeline, _, _ = shape
        if (tensor, pipeline) not in self._params:
            whole = Layout(
                gpus=tensor * pipeline,
                gpus_per_node=1,
                tensor_parallel=tensor,
                pipeline_parallel=pipeline,
                expert_parallel=1,
                micro_batch_size=1,
                eval_micro_batch_size=1,
            ).parallel(1, 1.0)
            self._params[tensor, pipeline] = rank_params(self.backbone, self.architecture, whole, 0)
        dense, experts = self._params[tensor, pipeline]
        weight, gradient, optimizer = BYTES[self.precision]
        ranks = gpus // pipeline
        held = (weight + gradient) * (dense + experts / expert_parallel)
        if not self.cluster.transformer_engine:
            return held + optimizer * (dense + experts / expert_parallel)
        return held + optimizer * (dense * tensor + experts) / ranks


def _variants(shape: Shape, levels: Iterable[str], experts: Iterable[int], cluster: Cluster) -> Iterator[Layout]:
    """The layouts of a shape in order."""
    gpus, tensor, pipeline, _, batches = shape
    for level in levels:
        for expert in experts:
            for batch in batches:
                yield Layout(
                    gpus=gpus,
                    gpus_per_node=min(gpus, cluster.gpus_per_node),
                    tensor_parallel=tensor,
                    pipeline_parallel=pipeline,
                    expert_parallel=expert,
                    micro_batch_size=batch,
                    eval_micro_batch_size=1,
                    recompute=level,
                )


def _miss(
    best: tuple[float, Layout] | None, cluster: Cluster, global_batch_size: int, validation_sequences: int
) -> str:
    """Why there is no layout: by how much the nearest misses, or which numbers do not divide, and what to change."""
    chosen = ", ".join(f"cluster.layout.{name}={value}" for name, value in cluster.layout.given().items())
    most = cluster.gpu_counts[-1]
    rule = (
        f"data-parallel ranks times micro-batch must divide the batch of {global_batch_size}, the ranks also "
        f"training.validation_sequences={validation_sequences}"
    )
    data = [size for size in range(1, most + 1) if global_batch_size % size == 0 and validation_sequences % size == 0]
    if best is None:
        return (
            f"no layout with {chosen} divides: {rule} (ranks that do: {', '.join(map(str, data[-8:]))}); experts are spread "
            "over data-parallel times tensor-parallel ranks; leave one of these null to have it searched for"
        )
    needed, layout = best
    least = " or ".join(
        [f"cluster.layout.{name}=null" for name in cluster.layout.given()]
        + [f"cluster.max_gpus above {cluster.max_gpus}" + ("" if cluster.nodes is None else " with more cluster.nodes")]
        + ["a larger cluster.gpu_memory"]
        + (["a smaller cluster.headroom"] if needed <= cluster.gpu_memory else [])
        + (["a batch and training.validation_sequences that more ranks divide"] if data[-1] < most else [])
    )
    return (
        f"no layout of up to {most} GPU{'s' if most > 1 else ''} of {cluster.name} fits{' with ' + chosen if chosen else ''}: "
        f"the best ({layout}) needs {gigabytes(needed)} a GPU, and {gigabytes(cluster.usable_memory)} may be used "
        f"({gigabytes(cluster.gpu_memory)} less {cluster.headroom:.0%} headroom). "
        f"{rule[0].upper()}{rule[1:]} (up to {data[-1]} ranks do). It would take {least}"
    )
