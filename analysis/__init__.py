"""From losses to laws: collect the runs of sweeps, fit curves and laws with error bars, draw and report them."""
