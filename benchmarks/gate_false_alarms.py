"""How often `nas gate` fails a model that is as fast as its reference: simulated, and on this machine.

The scheduling, the statistics and the verdict are the real ones; in the first part only the device and the clock
are simulated. A model exactly at the limit is shown too: it fails as often as the lower bound of a 95 % interval
is wrong. Run from the project's root: ``python -m benchmarks.gate_false_alarms``; with ``--host 100`` it also gates
a small network against itself that many times on this machine, some six seconds each.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from device_lab.errors import DeviceLabError
from device_lab.gate import Verdict, judge, simulate_gate
from device_lab.host import HostDevice
from device_lab.protocol import measure
from device_lab.runtimes import find_runtime
from device_lab.simulation import SCENARIOS
from device_lab.statistics import PRECISIONS, kept_blocks, ratio_interval
from nas.export import export_onnx, random_network
from search_spaces.reference import dense_encoder, squeezebert_rule

MAX_RATIO = 1.05
NUM_SESSIONS = 1000
REFERENCE_S = 0.1
SEED = 7
TARGET = 0.01
MIN_BLOCKS = 2
SMALL = dense_encoder(hidden_size=128, num_hidden_layers=2, num_attention_heads=4, intermediate_size=512)
HEADER = "scenario  precision  true ratio  limit    fails  undecided"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", type=int, default=0, help="gates on this machine")
    parser.add_argument("--sessions", type=int, default=NUM_SESSIONS, help="simulated sessions in each row")
    arguments = parser.parse_args()
    print(f"{arguments.sessions} sessions in each row, reference {1000 * REFERENCE_S:.0f} ms")
    print(HEADER)
    # The same model must pass; one at the limit is a coin that should seldom fall; one well above must fail.
    alarms = [
        _row(name, precision, true_ratio=1.0, num_sessions=arguments.sessions)
        for precision in ("normal", "coarse")
        for name in SCENARIOS
    ]
    for name in SCENARIOS:
        for true_ratio in (MAX_RATIO, 1.08, 1.12):
            _row(name, "normal", true_ratio=true_ratio, num_sessions=arguments.sessions)
    _print_figure("gate_false_alarms", max(alarms))
    if arguments.host:
        _print_figure("gate_false_alarms_host", _alarms_on_host(arguments.host))


def _row(name: str, precision: str, *, true_ratio: float, num_sessions: int) -> float:
    rates = simulate_gate(
        SCENARIOS[name],
        true_ratio=true_ratio,
        max_ratio=MAX_RATIO,
        precision=PRECISIONS[precision],
        num_sessions=num_sessions,
        reference_s=REFERENCE_S,
        seed=SEED,
    )
    print(
        f"{name:10}{precision:11}{true_ratio:10.2f}{MAX_RATIO:7.2f}{rates.above:9.1%}{rates.undecided:11.1%}",
        flush=True,
    )
    return rates.above


def _alarms_on_host(num_gates: int) -> float:
    device = HostDevice(find_runtime("onnxruntime"))
    generator = np.random.default_rng(SEED)
    verdicts: list[Verdict] = []
    with tempfile.TemporaryDirectory() as folder:
        network = random_network(squeezebert_rule(SMALL), num_labels=2)
        model = export_onnx(network, Path(folder, "model.onnx"), sequence_length=64)
        for _ in range(num_gates):
            (outcome,) = measure(
                [model],
                reference=model,
                device=device,
                num_threads=1,
                precision=PRECISIONS["coarse"],
                generator=generator,
            )
            if isinstance(outcome, DeviceLabError):
                raise outcome
            # Too unsteady for an interval is "not measured", exit code 3, and no alarm.
            num_kept = len(kept_blocks(outcome.blocks))
            print(f"  {num_kept} of {len(outcome.blocks)} blocks kept, {outcome.reason}", flush=True)
            if num_kept >= MIN_BLOCKS:
                verdicts.append(judge(ratio_interval(outcome.blocks), max_ratio=MAX_RATIO))
    undecided, unmeasured = verdicts.count(Verdict.UNDECIDED), num_gates - len(verdicts)
    print(f"host: {num_gates} gates of a network against itself, {undecided} undecided, {unmeasured} not measured")
    return verdicts.count(Verdict.ABOVE) / max(1, len(verdicts))


def _print_figure(name: str, share: float) -> None:
    verdict = "met" if share <= TARGET else "short"
    print(f"figure: {name} {100 * share:.2f} % target=<={100 * TARGET:g} {verdict}")


if __name__ == "__main__":
    main()
