"""Run every notebook on the runs under a root; the executed copies, with their tables and figures, go to <root>/notebooks/.

    python -m analysis.notebooks root=runs_root sweep=all
    python -m analysis.notebooks only=[ratios]

Exit codes: 0 all ran; 1 one did not (its copy ends at the cell that failed); 2 the request was wrong.
"""

import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from harness.cli import run, text
from harness.errors import ConfigError, nearest
from harness.files import write_atomically

DIRECTORY = Path(__file__).parent

TIMEOUT = 600
"""Seconds that one cell may take."""


def names() -> list[str]:
    """The notebooks that there are."""
    return sorted(path.stem for path in DIRECTORY.glob("*.py") if not path.stem.startswith("__"))


def with_parameters(notebook: Any, values: dict[str, Any]) -> Any:
    """`notebook` (of nbformat) with `values` assigned after the defaults of its parameters cell.

    Raises:
        ConfigError: it has no cell tagged ``parameters``.
    """
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            cell.source += "".join(f"\n{name} = {value!r}" for name, value in values.items())
            return notebook
    raise ConfigError("the notebook has no cell tagged parameters")


def execute(name: str, values: dict[str, Any], directory: Path) -> str | None:
    """Run the notebook `name` and write it to `directory`; the error of the cell that failed, or None."""
    import jupytext
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    notebook = with_parameters(jupytext.read(DIRECTORY / f"{name}.py"), values)
    failure = None
    try:
        NotebookClient(notebook, timeout=TIMEOUT, kernel_name="python3").execute()
    except CellExecutionError as error:
        failure = str(error)
    directory.mkdir(parents=True, exist_ok=True)
    write_atomically(directory / f"{name}.ipynb", nbformat.writes(notebook))  # type: ignore[no-untyped-call]
    return failure


def task(config: DictConfig) -> int:
    """The command: `config` is configs/notebooks.yaml with overrides."""
    root = Path(text(config.root, "root"))
    wanted = [str(name) for name in config.only or names()]
    for name in wanted:
        if name not in names():
            raise ConfigError(f"only={name}: no such notebook; choose of {', '.join(names())}{nearest(name, names())}")
    if not (root / "sweeps").is_dir():
        raise ConfigError(f"root={root}: no sweeps/ there; name a root that holds runs, or make some (make demo)")
    sweep = OmegaConf.to_container(config.sweep) if OmegaConf.is_list(config.sweep) else config.sweep
    values: dict[str, Any] = {"root": str(root.absolute()), "sweep": sweep}
    if config.budgets_ahead is not None:
        values["budgets_ahead"] = [float(budget) for budget in config.budgets_ahead]
    failed = False
    for name in wanted:
        start = time.monotonic()
        failure = execute(name, values, root / "notebooks")
        print(
            f"{root / 'notebooks' / name}.ipynb  {'FAILED' if failure else 'done'} in {time.monotonic() - start:.0f} s"
        )
        if failure:
            print("\n".join(failure.strip().splitlines()[-6:]))
            failed = True
    return 1 if failed else 0


def main() -> None:
    """Entry point."""
    run("notebooks", task)


if __name__ == "__main__":
    main()
