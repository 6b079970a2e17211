"""A device that does not exist, whose true times are known: the shipped fake of `Device` and `Clock`.

It runs the real scheduling without waiting, so that the protocol's intervals can
be held against the truth. The kinds of noise are those of phones; their sizes are
assumed, not fitted to one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from device_lab.measurement import Backend, Conditions, DeviceInfo, ModelFile
from device_lab.runner.contract import RunnerOutput, RunRequest

_CORRELATION = 0.9
_SAMPLE_NOISE = 0.01
_SPIKE_SHARE = 0.02
_START_S = 0.3
_MAX_WARMUP_RUNS = 70
_MAX_SAMPLES = 100
_CROWD_PERIOD_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What disturbs the simulated device besides the noise every process has.

    ``process_offset`` is the standard deviation of the log factor of a whole process.
    ``heats``: work slows it by 5-25 % with a time constant of 60-240 s, a pause
    cools it at the same rate. ``jumps``: the clock sits within 4 % of its mean for
    20-90 s at a time. ``bursts``: other work slows everything 1.2-2 times for
    3-10 s, on average once in 45 s.

    What `CROWDS` do besides, each process by itself: other work slows the share
    ``crowd`` of them as a whole 1.2-2 times; the share swings between half and
    one and a half of that within ten minutes. ``wander`` slows all of them, by a
    log factor that is the size of a normal number with that standard deviation;
    nine tenths of it last into the next process. ``crowded_model`` names the one
    model they happen to, if it is one.
    """

    name: str
    process_offset: float = 0.012
    heats: bool = False
    jumps: bool = False
    bursts: bool = False
    crowd: float = 0.0
    wander: float = 0.0
    crowded_model: str = ""


SCENARIOS = MappingProxyType(
    {
        scenario.name: scenario
        for scenario in (
            Scenario(name="quiet"),
            Scenario(name="heat", heats=True),
            Scenario(name="jumps", jumps=True),
            Scenario(name="bursts", bursts=True),
            Scenario(name="mixed", heats=True, jumps=True),
        )
    }
)


CROWDS = MappingProxyType(
    {
        scenario.name: scenario
        for scenario in (
            *(Scenario(name=f"crowd {share:.0%}", crowd=share) for share in (0.1, 0.2, 0.3, 0.5)),
            *(Scenario(name=f"wander {deviation:.0%}", wander=deviation) for deviation in (0.05, 0.1, 0.2, 0.4)),
            Scenario(name="crowd 30%, reference", crowd=0.3, crowded_model="reference"),
            Scenario(name="crowd 50%, reference", crowd=0.5, crowded_model="reference"),
        )
    }
)
"""Machines that others use: many blocks of a session have to be dropped."""


class SimulatedDevice:
    """A device with known truth, and the clock it lives by.

    Args:
        true_times_s: Seconds of one inference on the cold, undisturbed device, by ``sha256`` of the model.
        scenario: What disturbs it.
        generator: Draws every disturbance.
    """

    runtime = "simulated"
    runtime_version = "1"
    info = DeviceInfo(
        device_id="simulated",
        backend=Backend.SIMULATED,
        model="simulated device",
        soc="none",
        os_version="none",
        abi="none",
        num_cores=1,
    )

    def __init__(
        self, true_times_s: Mapping[str, float], *, scenario: Scenario, generator: np.random.Generator
    ) -> None:
        self._true_times_s = dict(true_times_s)
        self._scenario = scenario
        self._generator = generator
        self._now_s = 0.0
        self._heat = 0.0
        self._max_heat = generator.uniform(0.05, 0.25)
        self._heat_constant_s = generator.uniform(60, 240)
        self._jump_ends_s, self._jump_levels = self._draw_jumps(0.0)
        self._burst_starts_s, self._burst_ends_s, self._burst_slowdowns = self._draw_bursts(0.0)
        self._wander = generator.normal() if scenario.wander else 0.0

    def monotonic_s(self) -> float:
        """Return simulated seconds since the device was made."""
        return self._now_s

    def sleep(self, duration_s: float) -> None:
        """Let simulated time pass without work; the device cools."""
        self._now_s += duration_s
        self._heat *= math.exp(-duration_s / self._heat_constant_s)

    def conditions(self) -> Conditions:
        """Return the simulated time; there is nothing else to read."""
        return Conditions(taken_at=f"{self._now_s:.1f} s", readings=())

    def run(self, model: ModelFile, request: RunRequest) -> RunnerOutput:
        """Draw the samples of one process and let their time pass."""
        base_s = self._true_times_s[model.sha256]
        num_warmup_runs = max(1, min(_MAX_WARMUP_RUNS, math.ceil(request.max_warmup_s / base_s)))
        self._work(_START_S + num_warmup_runs * base_s)
        num_runs = max(request.min_runs, min(_MAX_SAMPLES, math.ceil(request.min_timed_s / base_s)))
        times_s = self._now_s + base_s * np.arange(num_runs, dtype=np.float64)
        samples_s = base_s * self._process_noise(num_runs) * self._disturbance(times_s)
        if self._scenario.crowded_model in ("", model.sha256):
            samples_s *= self._crowding()
        wall_s = float(samples_s.sum())
        self._work(wall_s)
        return RunnerOutput(
            runtime=self.runtime,
            runtime_version=self.runtime_version,
            num_threads=request.num_threads,
            num_warmup_runs=num_warmup_runs,
            samples_ns=tuple((samples_s * 1e9).astype(np.int64).tolist()),
            wall_ns=int(wall_s * 1e9),
            cpu_ns=int(wall_s * 1e9) * request.num_threads,
            peak_rss_bytes=None,
            output=model.expected_output,
        )

    def _work(self, duration_s: float) -> None:
        self._now_s += duration_s
        self._heat = 1 + (self._heat - 1) * math.exp(-duration_s / self._heat_constant_s)

    def _process_noise(self, num_runs: int) -> NDArray[np.float64]:
        """Return factors: one offset of the process, correlated noise, and rare spikes of 1.1-1.6 times."""
        innovations = self._generator.normal(0, _SAMPLE_NOISE * math.sqrt(1 - _CORRELATION**2), num_runs)
        innovations[0] = self._generator.normal(0, _SAMPLE_NOISE)
        correlated = np.asarray(lfilter([1.0], [1.0, -_CORRELATION], innovations), dtype=np.float64)
        is_spike = self._generator.random(num_runs) < _SPIKE_SHARE
        spikes = np.where(is_spike, self._generator.uniform(1.1, 1.6, num_runs), 1.0)
        factors: NDArray[np.float64] = (
            np.exp(self._generator.normal(0, self._scenario.process_offset) + correlated) * spikes
        )
        return factors

    def _crowding(self) -> float:
        """Return how many times slower other work makes the process that is about to run."""
        slowdown = 1.0
        if self._scenario.crowd:
            share = self._scenario.crowd * (1 + math.sin(2 * math.pi * self._now_s / _CROWD_PERIOD_S) / 2)
            if self._generator.random() < share:
                slowdown = self._generator.uniform(1.2, 2.0)
        if self._scenario.wander:
            innovation = self._generator.normal(0, math.sqrt(1 - _CORRELATION**2))
            self._wander = _CORRELATION * self._wander + innovation
            slowdown *= math.exp(self._scenario.wander * abs(self._wander))
        return slowdown

    def _disturbance(self, times_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how many times slower the device is than cold and undisturbed, at each of ``times_s``."""
        factors = np.ones_like(times_s)
        if self._scenario.heats:
            ramp = 1 + (self._heat - 1) * np.exp(-(times_s - self._now_s) / self._heat_constant_s)
            factors *= 1 + self._max_heat * ramp
        if self._scenario.jumps:
            while self._jump_ends_s[-1] < times_s[-1]:
                ends_s, levels = self._draw_jumps(self._jump_ends_s[-1])
                self._jump_ends_s = np.concatenate([self._jump_ends_s, ends_s])
                self._jump_levels = np.concatenate([self._jump_levels, levels])
            factors *= np.exp(self._jump_levels[np.searchsorted(self._jump_ends_s, times_s)])
        if self._scenario.bursts:
            while self._burst_ends_s[-1] < times_s[-1]:
                starts_s, ends_s, slowdowns = self._draw_bursts(self._burst_ends_s[-1])
                self._burst_starts_s = np.concatenate([self._burst_starts_s, starts_s])
                self._burst_ends_s = np.concatenate([self._burst_ends_s, ends_s])
                self._burst_slowdowns = np.concatenate([self._burst_slowdowns, slowdowns])
            index = np.searchsorted(self._burst_ends_s, times_s)
            factors *= np.where(times_s >= self._burst_starts_s[index], self._burst_slowdowns[index], 1.0)
        return factors

    def _draw_jumps(self, start_s: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        lengths_s = self._generator.uniform(20, 90, 50)
        return start_s + np.cumsum(lengths_s), self._generator.uniform(-0.04, 0.04, 50)

    def _draw_bursts(self, start_s: float) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        gaps_s, lengths_s = self._generator.exponential(45, 50), self._generator.uniform(3, 10, 50)
        ends_s = start_s + np.cumsum(gaps_s + lengths_s)
        return ends_s - lengths_s, ends_s, self._generator.uniform(1.2, 2.0, 50)
