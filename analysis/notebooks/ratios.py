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
# # The ratios N/N_a and M/N_a
# Sections 5.2 and 5.3, F.4: how much of the model is active, and how dense its compute is.

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
# ## N/N_a
# How much the loss changes over a range of N/N_a is a statement with an interval.

# %%
n_over_na = find(laws, "n_over_na")

# %%
draw("n_over_na", table, laws)

# %%
draw("n_over_na_law", table, laws)

# %%
minima(n_over_na)

# %%
statements(n_over_na)

# %%
coefficients(n_over_na)

# %% [markdown]
# ## M/N_a
# The law of M/N_a - 6 stays above the bound 6 at every budget; the paper's plain power law does not.

# %%
m_over_na = find(laws, "m_over_na")

# %%
draw("m_over_na", table, laws)

# %%
draw("m_over_na_law", table, laws)

# %%
minima(m_over_na)

# %%
statements(m_over_na)

# %%
coefficients(m_over_na)

# %%
ahead(m_over_na, budgets_ahead)

# %%
shifts(m_over_na)
