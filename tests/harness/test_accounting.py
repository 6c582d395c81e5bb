from hypothesis import given
from hypothesis import strategies as st

from harness.accounting import count
from harness.architecture import Architecture, Backbone

architectures = st.builds(
    Architecture,
    hidden_size=st.integers(8, 4096),
    num_dense_layers=st.integers(1, 40),
    num_moe_layers=st.integers(1, 40),
    ffn_hidden_size=st.integers(8, 12288),
    moe_ffn_hidden_size=st.integers(8, 4096),
)
kv_heads = st.sampled_from([1, 2, 4, 8])


@st.composite
def backbones(draw) -> Backbone:
    kv = draw(kv_heads)
    experts = draw(st.integers(2, 300))
    return Backbone(
        num_query_heads=kv * draw(st.integers(1, 4)),
        num_kv_heads=kv,
        head_dim=draw(st.sampled_from([8, 64, 128])),
        seq_length=draw(st.sampled_from([128, 8192])),
        num_experts=experts,
        top_k=draw(st.integers(1, experts)),
        num_shared_experts=draw(st.integers(0, 2)),
        qk_norm=draw(st.booleans()),
    )


@given(backbones(), architectures)
def test_shares_sum_to_one_and_bounds_hold(backbone, architecture):
    counts = count(backbone, architecture)
    assert abs(counts.r_attention + counts.r_dense + counts.r_moe - 1) < 1e-12
    assert counts.m_over_na > 6
    assert 1 <= counts.n_over_na < backbone.max_n_over_na or backbone.num_experts == backbone.top_k


@given(backbones(), architectures)
def test_the_share_form_of_equation_4_agrees_with_the_sums_of_equation_3(backbone, architecture):
    counts = count(backbone, architecture)
    s, d = backbone.seq_length, architecture.hidden_size
    heads = 1 + backbone.num_kv_heads / backbone.num_query_heads
    active = counts.flops_per_token / 6 * (1 - counts.r_attention * s / (s + 2 * d * heads))
    assert abs(active / counts.active_params - 1) < 1e-9
    total = active + counts.flops_per_token / 6 * counts.r_moe * backbone.idle_experts / backbone.active_experts
    assert abs(total / counts.total_params - 1) < 1e-9


def test_the_output_layer_outweighs_small_models():
    """Notes, section 7: 6 d V is 1.64 times M at 1e18 for mid-range widths."""
    backbone = Backbone(num_query_heads=4, num_kv_heads=2, head_dim=64)
    architecture = Architecture(
        hidden_size=480, num_dense_layers=1, num_moe_layers=3, ffn_hidden_size=1440, moe_ffn_hidden_size=1000
    )
    counts = count(backbone, architecture)
    assert counts.megatron_flops_per_token - counts.flops_per_token == 6 * 480 * 152064
    assert backbone.padded_vocab_size == 152064
