"""One notebook a family of laws, as jupytext pairs of .py and .ipynb: they call the package and define no fits.

    python -m analysis.notebooks root=runs_root sweep=all       executed copies go to <root>/notebooks/

Open one in Jupyter, change its parameters cell, and run it; or edit the .py and let ``jupytext --sync`` write the .ipynb.
"""
