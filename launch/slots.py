"""Which run starts next where runs need different numbers of devices: a rule without side effects.

Runs start in the order that they wait in (longest first). One that does not fit yet holds a reservation for the moment at which,
by the estimates, enough devices will be free; a later one may pass it only if by the estimates it ends before that moment, or
takes devices that are to spare even then. So no run waits for ever, however wrong the estimates: once the moment is past, nothing
passes. (Batch systems call this EASY backfilling: Lifka 1995.)
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Need:
    """A run that could start now."""

    devices: int
    seconds: float
    """Estimated."""


@dataclass(frozen=True, kw_only=True)
class Busy:
    """A run that has its devices."""

    devices: int
    ends: float
    """Estimated, on the clock of `choose`; it may be past."""


def choose(waiting: Sequence[Need], free: int, busy: Sequence[Busy], now: float) -> int | None:
    """The index in `waiting` of the run to start now on `free` devices; None: none of them yet."""
    reserved: tuple[float, int] | None = None
    for index, need in enumerate(waiting):
        if reserved is None:
            if need.devices <= free:
                return index
            reserved = _reservation(need.devices, free, busy, now)
        elif need.devices <= free:
            moment, spare = reserved
            if moment > now and (now + need.seconds < moment or need.devices <= spare):
                return index
    return None


def _reservation(devices: int, free: int, busy: Sequence[Busy], now: float) -> tuple[float, int]:
    """When `devices` will be free by the estimates, and how many more are then."""
    moment = now
    for one in sorted(busy, key=lambda one: one.ends):
        if free >= devices and one.ends > moment:
            break
        moment = max(moment, one.ends)
        free += one.devices
    return moment, free - devices


class Devices:
    """Devices that are taken and given back, the first ones first."""

    def __init__(self, names: Sequence[str]):
        """`names`: one for each slot; a GPU that several runs share stands there several times."""
        self._names = tuple(names)
        self._free = set(range(len(names)))

    @property
    def free(self) -> int:
        """How many are free."""
        return len(self._free)

    def take(self, count: int) -> tuple[int, ...]:
        """`count` slots; there must be as many."""
        taken = tuple(sorted(self._free)[:count])
        assert len(taken) == count
        self._free.difference_update(taken)
        return taken

    def names(self, slots: Sequence[int]) -> str:
        """Of these slots, separated by commas."""
        return ",".join(self._names[slot] for slot in slots)

    def give_back(self, slots: Sequence[int]) -> None:
        """They are free again."""
        self._free.update(slots)
