"""From a budget to an architecture (the paper's section 7): ``python -m analysis.design compute=1e22``.

`published` holds the paper's own laws; `optimum` reads a law off at a budget, `recommend` all of them; `constraints` moves the
targets where they are limited; `build` solves and rounds; `result` is the whole design. `excess` predicts what a deviation
costs in loss, `throughput` what it wins in time; `neighbours` are the hardware-friendly ones; `public` counts models of others,
`beside` puts one beside a design; `text`, `scaling` and `export` show and hand on.
"""
