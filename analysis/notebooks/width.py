# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Hidden size and width ratio
# Sections 4.3 and 6, Appendix E: does the proxy width rank configurations, which width is best, does the experts' width matter?

# %% tags=["parameters"]
root = "runs_root"  # holds sweeps/ and runs/
sweep = "all"  # a sweep's name, a list of names, or all
budgets_ahead = [1e21, 1e22, 1e24]  # FLOPs that the laws are extrapolated to

# %%
from analysis.figures import draw
from analysis.tables import ahead, coefficients, find, load, minima, shifts, statements

table, laws = load(root, sweep)
table.groupby(["study", "simulated"]).agg(
    runs=("compute", "size"),
    budgets=("compute", "nunique"),
    least_loss=("final_validation_loss", "min"),
    left_out=("left_out", "count"),
)

# %% [markdown]
# ## Ranks at the proxy width

# %%
rank = find(laws, "rank")

# %%
draw("rank", table, laws)

# %%
statements(rank)

# %% [markdown]
# ## Hidden size d

# %%
hidden_size = find(laws, "hidden_size")

# %%
draw("hidden_size", table, laws)

# %%
draw("hidden_size_law", table, laws)

# %%
minima(hidden_size)

# %%
statements(hidden_size)

# %%
coefficients(hidden_size)

# %%
ahead(hidden_size, budgets_ahead)

# %%
shifts(hidden_size)

# %% [markdown]
# ## Width ratio (K+1) d_m / d

# %%
width_ratio = find(laws, "width_ratio")

# %%
draw("width_ratio", table, laws)

# %%
statements(width_ratio)

# %%
coefficients(width_ratio)

# %%
ahead(width_ratio, budgets_ahead)
