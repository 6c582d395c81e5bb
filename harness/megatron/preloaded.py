"""Import this in a fork server: Megatron is then in memory once, and each forked run starts within a second.

What Megatron and torch print at import is silenced: a run repeats what matters in its own log.
"""

from harness.quiet import quiet_import

with quiet_import():
    import transformers  # noqa: F401  # Megatron's tokenizers import it at the first use

    from harness.megatron.environment import preload

    preload()
