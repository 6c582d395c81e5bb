"""From a budget to an architecture (the paper's section 7): ``python -m analysis.design compute=1e22``.

`published` holds the paper's own laws; `optimum` reads laws off at a budget; `constraints` moves the targets where they are
limited; `build` solves and rounds; `excess` predicts what a deviation costs in loss, `throughput` what it wins in time;
`neighbours` are the hardware-friendly ones; `public` counts models of others; `text`, `scaling` and `document` show it all.
"""
