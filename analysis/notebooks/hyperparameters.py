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
# # Learning rate and batch size
# Appendix F.2: settings within 0.2% of the least loss lie between two parallel lines.

# %% tags=["parameters"]
root = "runs_root"  # holds sweeps/ and runs/
sweep = "all"  # a sweep's name, a list of names, or all
budgets_ahead = [1e21, 1e22, 1e24]  # FLOPs that the laws are extrapolated to

# %%
from analysis.figures import draw
from analysis.tables import ahead, coefficients, find, load

table, laws = load(root, sweep)
table.groupby(["study", "simulated"]).agg(
    runs=("compute", "size"),
    budgets=("compute", "nunique"),
    least_loss=("final_validation_loss", "min"),
    left_out=("left_out", "count"),
)

# %% [markdown]
# ## Learning rate

# %%
learning_rate = find(laws, "learning_rate")

# %%
draw("learning_rate", table, laws)

# %%
coefficients(learning_rate)

# %%
ahead(learning_rate, budgets_ahead)

# %% [markdown]
# ## Batch size

# %%
batch_size = find(laws, "batch_size")

# %%
draw("batch_size", table, laws)

# %%
coefficients(batch_size)

# %%
ahead(batch_size, budgets_ahead)
