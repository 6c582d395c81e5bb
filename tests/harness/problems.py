"""Random backbones, targets and rules for property tests."""

from hypothesis import strategies as st

from harness.architecture import Backbone
from harness.solver import PROXIES, Rules, Targets


@st.composite
def backbones(draw) -> Backbone:
    kv = draw(st.sampled_from([1, 2, 4, 8]))
    experts = draw(st.integers(4, 600))
    return Backbone(
        num_query_heads=draw(st.sampled_from([1, 2, 4])) * kv,
        num_kv_heads=kv,
        head_dim=draw(st.sampled_from([8, 64, 96, 128])),
        seq_length=draw(st.sampled_from([64, 1024, 8192])),
        num_experts=experts,
        top_k=draw(st.integers(1, experts // 2)),
        num_shared_experts=draw(st.integers(0, 3)),
        ffn_ratio=draw(st.floats(0.5, 6)),
        ffn_aligned=draw(st.booleans()),
    )


@st.composite
def problems(draw) -> tuple[Backbone, Targets]:
    """A backbone with targets that respect Eq. 5."""
    backbone = draw(backbones())
    targets = Targets.from_ratios(
        backbone,
        flops_per_token=10 ** draw(st.floats(5, 11)),
        m_over_na=draw(st.floats(6.1, 20)),
        n_over_na=1 + draw(st.floats(0.05, 0.95)) * (backbone.max_n_over_na - 1),
    )
    return backbone, targets


@st.composite
def rules(draw) -> Rules:
    return Rules(
        hidden_size_step=draw(st.sampled_from([1, 2, 8, 64])),
        moe_ffn_hidden_size_step=draw(st.sampled_from([1, 8, 16])),
        min_dense_layers=draw(st.integers(0, 2)),
        tolerance=draw(st.floats(0.01, 0.3)),
        total_params_tolerance=draw(st.sampled_from([None, 0.05])),
        proxy=draw(st.sampled_from(PROXIES)),
    )
