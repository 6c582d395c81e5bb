"""How far a preparation is: a bar in a terminal, a line now and then elsewhere."""

import sys
import time
from types import TracebackType
from typing import Any, Self

PLAIN_SECONDS = 10.0
"""A plain log gets a line this often."""


class Progress:
    """Shows the share of the input that is read, tokens and their rate; a context manager."""

    def __init__(self, total_bytes: int, *, begun_bytes: int = 0, begun_tokens: int = 0):
        """`total_bytes` of input, of which an earlier start read `begun_bytes`."""
        self.total = max(1, total_bytes)
        self.begun_bytes = begun_bytes
        self.begun_tokens = begun_tokens
        self.started = self._last = time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> Self:
        if sys.stdout.isatty():
            from rich import progress

            self._bar = progress.Progress(
                progress.TextColumn("{task.percentage:>3.0f}%"),
                progress.BarColumn(),
                progress.DownloadColumn(),
                progress.TextColumn("{task.fields[tokens]}"),
                progress.TimeRemainingColumn(),
                transient=True,
            )
            self._task = self._bar.add_task("", total=self.total, completed=self.begun_bytes, tokens="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, read_bytes: int, tokens: int) -> None:
        """So many bytes of input are read and tokens written, an earlier start's counted."""
        now = time.monotonic()
        if self._bar is not None:
            rate = (tokens - self.begun_tokens) / max(1e-9, now - self.started)
            self._bar.update(self._task, completed=read_bytes, tokens=f"{tokens:,} tokens, {rate:,.0f}/s")
        elif now - self._last >= PLAIN_SECONDS:
            self._last = now
            print(f"{time.strftime('%H:%M:%S')} {self._line(read_bytes, tokens, now)}", flush=True)

    def _line(self, read: int, tokens: int, now: float) -> str:
        elapsed, done = now - self.started, read - self.begun_bytes
        left = elapsed * (self.total - read) / done if done else 0
        rate = (tokens - self.begun_tokens) / elapsed
        return (
            f"{read / self.total:4.0%} of {self.total / 1e6:,.0f} MB read, {tokens:,} tokens, {rate:,.0f} tokens/s, "
            f"about {f'{left / 60:.0f} min' if left >= 120 else f'{left:.0f} s'} left"
        )
