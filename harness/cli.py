"""What every command of the project shares: Hydra composes the configuration, and mistakes end in one plain message.

def main() -> None:
    run("sweep", task)      # composes configs/sweep.yaml with the overrides on the command line, calls task(config)
"""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from harness.errors import ConfigError, HarnessError, nearest

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


def run(config_name: str, task: Callable[[DictConfig], int | None], flags: Sequence[str] = ()) -> None:
    """Compose ``configs/<config_name>.yaml`` with ``sys.argv`` and run `task`; leave with its exit code.

    `flags`: options that may also be given as ``--option``, in place of ``option=true``.

    Exit codes: what `task` returns (None counts as 0); 2 for a mistake in the command line or the configuration, with
    the message on standard error; 130 after Ctrl-C.
    """
    import hydra
    from hydra.errors import HydraException

    sys.argv[1:] = options_of(sys.argv[1:], flags)
    _refuse_additions(sys.argv[1:], flags)
    multirun = [word for word in sys.argv[1:] if word in ("-m", "--multirun")]
    sys.argv[1:] = [word for word in sys.argv[1:] if word not in multirun] + multirun  # argparse wants it last
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let composition errors reach the handler below
    code = 0

    def call(config: DictConfig) -> None:
        nonlocal code
        try:
            code = max(code, task(config) or 0)
        except HarnessError as error:  # here, before Hydra prints lines of its own
            _fail(str(error))
        except BrokenPipeError:
            _reader_left()
        except OSError as error:
            _fail(f"{error.filename or ''}: {error.strerror or error} (root= says where files go)".lstrip(": "))

    call.__module__ = task.__module__  # Hydra finds the package's version and the job's name through it
    try:
        hydra.main(version_base=None, config_path=str(CONFIGS), config_name=config_name)(call)()
    except BrokenPipeError:
        _reader_left()
    except (HydraException, OmegaConfBaseException) as error:
        _fail(_explain(config_name, error))
    except ValueError as error:
        if "Config group override" not in str(error):
            raise
        _fail(
            "a group (backbone, training, data, cluster, megatron, train, truth, logging, launch) takes the name of one of its "
            "files, or a list of them"
        )
    except OSError as error:
        _fail(f"{error.filename or ''}: {error.strerror or error}".lstrip(": "))
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(code)


def _reader_left() -> None:
    """The reader of a pipe (head, less) is gone: nothing to tell anyone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(141)


def options_of(words: Sequence[str], flags: Sequence[str]) -> list[str]:
    """Command-line words with each ``--flag`` of `flags` as ``flag=true``, as Hydra wants it."""
    return [f"{word[2:]}=true" if word.startswith("--") and word[2:] in flags else word for word in words]


def _refuse_additions(words: list[str], flags: Sequence[str]) -> None:
    """Hydra's ``+key=value`` adds a key that nothing reads, and ``~key`` takes one away that is needed: both are slips here.

    A key below one that there is may be added (``+studies.width.repeat_at=all``).
    """
    for word in words:
        if word.startswith("~") and not word.startswith("~hydra"):
            _fail(f"{word}: options cannot be taken away; give them a value (null, where that means something)")
        if word.startswith("+") and "." not in word.partition("=")[0] and not word.startswith(("+hydra", "++")):
            _fail(f"{word}: there is no such option to add; options are given as key=value (--help lists them)")
        flag = word.partition("=")[0]
        if word.startswith("--") and flag not in HYDRA_FLAGS:
            meant = nearest(flag, [*(f"--{own}" for own in flags), *HYDRA_FLAGS])
            _fail(f"{word}: no such flag{meant}; options are given as key=value (--help lists them)")


HYDRA_FLAGS = (
    "--help --hydra-help --version --cfg --resolve --package --run --multirun --shell-completion --config-path --config-name "
    "--config-dir --experimental-rerun --info"
).split()


def compose(config_name: str, overrides: list[str] | None = None) -> DictConfig:
    """The configuration that the command line ``overrides`` would give, without running anything (for code and tests)."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    with initialize_config_dir(str(CONFIGS), version_base=None):
        return hydra_compose(config_name, overrides=overrides or [])


def build(config: Any, option: str) -> Any | None:
    """The object that the group `option` names by ``_target_``; None where it names none.

    Raises:
        ConfigError: one of its values cannot be used.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    if config is None or config.get("_target_") is None:
        return None
    try:
        return instantiate(config)
    except InstantiationException as error:
        if isinstance(error.__cause__, HarnessError):
            raise error.__cause__ from None
        raise ConfigError(f"{option}: {str(error.__cause__ or error).splitlines()[0]}") from error


def text(value: Any, option: str) -> str:
    """A path or a name from the configuration.

    Raises:
        ConfigError: it is empty, or no text.
    """
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{option}={'' if value == '' else value}: a path is wanted")
    return value


def _fail(message: str) -> None:
    sys.stdout.flush()
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def _explain(config_name: str, error: Exception) -> str:
    """A composition error in the user's terms: what is unknown, and which valid choices are like it."""
    from hydra.errors import MissingConfigException, OverrideParseException

    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        group, _, choice = error.missing_cfg_file.partition("/")
        return f"{group}={choice}: no such choice; there are {', '.join(error.options)}{nearest(choice, error.options)}"
    if isinstance(error, OverrideParseException):
        option, equals, value = error.override.partition("=")
        if not equals:
            return f"{error.override}: an option is given as key=value"
        if "Lexer" in str(error):  # a sign that has no meaning outside quotes
            return f"{error.override}: put the value into quotes, within those of the shell: '{option}=\"{value}\"'"
        return f"{error.override}: {str(error).splitlines()[0]}"
    cause = error.__cause__
    key = getattr(cause, "full_key", None) or getattr(error, "full_key", None)
    if key and "not in struct" in f"{cause} {error}":
        known = _keys(compose(config_name, _group_choices(sys.argv[1:])))
        parent = key.rpartition(".")[0]
        siblings = sorted(name for name in known if name.rpartition(".")[0] == parent)
        where = f" of {parent}" if parent else ""
        return f"unknown option {key!r}{nearest(key, known)}\nvalid options{where}: {', '.join(siblings)}"
    return f"{error}".strip() + (f" ({str(cause).splitlines()[0]})" if cause and str(cause) not in str(error) else "")


def _group_choices(words: list[str]) -> list[str]:
    """Of a command line, the choices of whole groups (``launch=local``): they decide which options there are."""
    return [word for word in words if (CONFIGS / word.partition("=")[0] / f"{word.partition('=')[2]}.yaml").is_file()]


def _keys(config: DictConfig, prefix: str = "") -> list[str]:
    """Every settable key as the command line spells it; mappings with free keys are left out."""
    keys = []
    for key in config:
        name = f"{prefix}{key!s}"
        keys.append(name)
        if isinstance(child := config[key], DictConfig):
            keys.extend(_keys(child, f"{name}."))
    return keys
