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
# # Compute-optimal size and tokens
# Section 4.2.1: IsoFLOP curves, their minima, and the laws M_opt(C) and D_opt(C).

# %% tags=["parameters"]
root = "runs_root"  # holds sweeps/ and runs/
sweep = "all"  # a sweep's name, a list of names, or all
budgets_ahead = [1e21, 1e22, 1e24]  # FLOPs that the laws are extrapolated to

# %%
from analysis.figures import draw
from analysis.tables import ahead, coefficients, find, load, minima, shifts

table, laws = load(root, sweep)
table.groupby(["study", "simulated"]).agg(
    runs=("compute", "size"),
    budgets=("compute", "nunique"),
    least_loss=("final_validation_loss", "min"),
    left_out=("left_out", "count"),
)

# %% [markdown]
# ## The law

# %%
classical = find(laws, "classical")

# %%
draw("isoflop", table, laws)

# %%
draw("classical_laws", table, laws)

# %%
minima(classical)

# %%
coefficients(classical)

# %%
ahead(classical, budgets_ahead)

# %%
shifts(classical)
