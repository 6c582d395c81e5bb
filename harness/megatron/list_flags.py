"""Read the flags off the installed Megatron: ``python -m harness.megatron.list_flags`` rewrites megatron_flags.json.

Run it when the pinned version changes, and read the difference: renamed flags are what breaks an upgrade.
"""

import argparse
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from harness.megatron.flags import FILE


def real_flags() -> dict[str, list[Any]]:
    """Flag name -> [argument, number of values, type of a value, choices], of the real parser, in its order."""
    from harness.megatron import environment

    environment.preload()
    from megatron.training.arguments import add_megatron_arguments

    parser = add_megatron_arguments(argparse.ArgumentParser(allow_abbrev=False))
    return {
        name: [action.dest, _values(action), _type(action), [_word(choice) for choice in action.choices or ()]]
        for action in parser._actions
        for name in action.option_strings
        if name.startswith("--") and name != "--help"
    }


def text() -> str:
    """The file's content: one flag a line."""
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in real_flags().items())
    return f'{{"megatron-core": "{version("megatron-core")}", "flags": {{\n{lines}\n}}}}\n'


def _values(action: argparse.Action) -> int | str:
    return 1 if action.nargs is None else action.nargs


def _type(action: argparse.Action) -> str:
    return "int" if action.type is int else "float" if action.type is float else "str"


def _word(choice: Any) -> str:
    """A choice as it is typed: enumerations by their name."""
    return str(getattr(choice, "name", choice))


if __name__ == "__main__":
    (Path(__file__).parent / FILE).write_text(text(), encoding="utf-8")
