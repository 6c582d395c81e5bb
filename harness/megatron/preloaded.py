"""Import this in a fork server: Megatron is then in memory once, and each forked run starts within half a second.

The import is silent (Megatron and torch print warnings); a run repeats what failed here, in its own log.
"""

import os

_quiet = os.open(os.devnull, os.O_WRONLY)
_saved = [os.dup(1), os.dup(2)]
for _number in (1, 2):
    os.dup2(_quiet, _number)
try:
    import transformers  # noqa: F401  # Megatron's tokenizers import it at the first use

    from harness.megatron.environment import preload

    preload()
finally:
    for _number, _descriptor in enumerate(_saved, start=1):
        os.dup2(_descriptor, _number)
        os.close(_descriptor)
    os.close(_quiet)
