"""Which run starts next: never more devices than there are, none idle without a reason, and no run waits for ever."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from launch.slots import Busy, Devices, Need, choose

TOTAL = 8


@dataclass
class Run:
    devices: int
    estimated: float
    real: float
    starts: float | None = None


runs_of_a_sweep = st.lists(
    st.builds(
        Run,
        devices=st.integers(1, TOTAL),
        estimated=st.integers(0, 50).map(float),
        real=st.integers(1, 50).map(float),  # estimates say nothing: the rule must hold all the same
    ),
    max_size=25,
)


class Simulation:
    """Runs start by the rule, and end after their real time; every decision is noted."""

    def __init__(self, runs: list[Run]):
        self.waiting = sorted(runs, key=lambda run: -run.estimated)
        self.running: list[Run] = []
        self.now = 0.0
        self.decisions: list[tuple[float, list[Run], int, list[Run], Run | None]] = []

    def step(self) -> None:
        while True:
            free = TOTAL - sum(run.devices for run in self.running)
            assert free >= 0
            needs = [Need(devices=run.devices, seconds=run.estimated) for run in self.waiting]
            busy = [Busy(devices=run.devices, ends=run.starts + run.estimated) for run in self.running]
            index = choose(needs, free, busy, self.now)
            chosen = None if index is None else self.waiting[index]
            self.decisions.append((self.now, list(self.waiting), free, list(self.running), chosen))
            if chosen is None:
                return
            chosen.starts = self.now
            self.waiting.remove(chosen)
            self.running.append(chosen)

    def work(self) -> None:
        self.step()
        while self.running:
            self.now = min(run.starts + run.real for run in self.running)
            self.running = [run for run in self.running if run.starts + run.real > self.now]
            self.step()


@given(runs_of_a_sweep)
def test_every_run_is_started_once_and_no_device_is_given_twice(runs):
    simulation = Simulation(runs)
    simulation.work()
    assert simulation.waiting == []
    assert all(run.starts is not None for run in runs)


@given(runs_of_a_sweep)
def test_the_longest_that_fits_starts_where_nothing_waits_before_it(runs):
    simulation = Simulation(runs)
    simulation.work()
    for _, waiting, free, _, chosen in simulation.decisions:
        if waiting and waiting[0].devices <= free:
            assert chosen is waiting[0]
        if chosen is not None:
            assert chosen.devices <= free


@given(runs_of_a_sweep)
def test_a_waiting_run_starts_when_those_are_gone_that_were_before_it_or_ended_in_time(runs):
    """Whatever passes a waiting run ends (by its estimate) before the reservation, or takes what is to spare then."""
    simulation = Simulation(runs)
    simulation.work()
    for now, waiting, free, running, chosen in simulation.decisions:
        if chosen is None or chosen is waiting[0]:
            continue
        head = waiting[0]
        ends = sorted((max(now, run.starts + run.estimated), run.devices) for run in running)
        moment = next(at for at, _ in ends if free + sum(k for end, k in ends if end <= at) >= head.devices)
        there = free + sum(k for end, k in ends if end <= moment)
        assert moment > now
        assert now + chosen.estimated < moment or there - chosen.devices >= head.devices


@given(runs_of_a_sweep)
def test_nothing_passes_a_waiting_run_after_its_first_reservation(runs):
    """However long the runs before it overrun: this is why it cannot wait for ever."""
    simulation = Simulation(runs)
    simulation.work()
    promised: dict[int, float] = {}
    for now, waiting, free, running, chosen in simulation.decisions:
        if not waiting:
            continue
        head = waiting[0]
        if head.devices > free and id(head) not in promised:
            ends = sorted((max(now, run.starts + run.estimated), run.devices) for run in running)
            promised[id(head)] = next(
                at for at, _ in ends if free + sum(k for end, k in ends if end <= at) >= head.devices
            )
        if chosen is not None and chosen is not head:
            assert now < promised[id(head)]


@given(st.integers(2, TOTAL), st.integers(1, 40))
def test_a_large_run_does_not_starve_behind_endless_small_ones(large, count):
    """Small runs come for ever, each of them overruns its estimate, and the large one waits for the first of them only."""
    head = Run(devices=large, estimated=0.0, real=1.0)
    simulation = Simulation([Run(devices=1, estimated=1.0, real=10.0 + k) for k in range(TOTAL)])
    simulation.step()
    simulation.waiting = [head, *(Run(devices=1, estimated=0.5, real=10.0) for _ in range(count))]
    simulation.work()
    assert head.starts == 10.0 + large - 1  # as soon as so many of the first have ended


def test_a_shorter_run_uses_the_gap_before_a_reservation():
    busy = [Busy(devices=6, ends=100.0)]
    head, short, long = Need(devices=8, seconds=500), Need(devices=2, seconds=50), Need(devices=2, seconds=200)
    assert choose([head, long, short], 2, busy, now=10.0) == 2
    assert choose([head, long], 2, busy, now=10.0) is None
    assert choose([head, short], 2, busy, now=60.0) is None  # it would not be gone in time any more
    assert choose([Need(devices=6, seconds=500), long], 2, busy, now=10.0) == 1  # two are to spare all the same


def test_devices_are_named_and_come_back():
    devices = Devices(["4", "5", "7"])
    first, rest = devices.take(1), devices.take(2)
    assert (devices.names(first), devices.names(rest), devices.free) == ("4", "5,7", 0)
    devices.give_back(first)
    assert devices.names(devices.take(1)) == "4"
