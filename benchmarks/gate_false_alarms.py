"""How often `nas gate` fails a model that is as fast as its reference: simulated, and on this machine.

In the first part the scheduling, the statistics and the verdict are the real ones, and only the device and the clock
are simulated. A model exactly at the limit is shown too: it fails as often as the lower bound of a 95 % interval
is wrong. Run from the project's root: ``python -m benchmarks.gate_false_alarms``. With ``--host-minutes 25`` it runs
the command itself for that long, ``nas gate MODEL --against MODEL``, each time in a fresh process as a CI would;
what could not be measured (exit code 3) is counted by itself.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from scipy.stats import beta

from device_lab.gate import simulate_gate
from device_lab.simulation import SCENARIOS
from device_lab.statistics import PRECISIONS
from nas.export import export_onnx, random_network
from search_spaces.reference import dense_encoder, squeezebert_rule

MAX_RATIO = 1.05
NUM_SESSIONS = 1000
REFERENCE_S = 0.1
SEED = 7
TARGET = 0.01
TOO_SLOW, NOT_MEASURED = 1, 3
SMALL = dense_encoder(hidden_size=128, num_hidden_layers=2, num_attention_heads=4, intermediate_size=512)
NAS = (sys.executable, "-c", "from nas.cli.main import main; main()")
HEADER = "scenario  precision  true ratio  limit    fails  undecided"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host-minutes", type=float, default=0.0, help="gate on this machine for so long instead")
    parser.add_argument("--precision", choices=list(PRECISIONS), default="normal", help="of the gates on this machine")
    parser.add_argument("--sessions", type=int, default=NUM_SESSIONS, help="simulated sessions in each row")
    arguments = parser.parse_args()
    if arguments.host_minutes:
        _gate_on_host(60 * arguments.host_minutes, precision=arguments.precision)
        return
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


def _gate_on_host(limit_s: float, *, precision: str) -> None:
    """Gate a small network against itself until the time is up, and tell every gate that ended in it."""
    answers: Counter[str] = Counter()
    lows: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        network = random_network(squeezebert_rule(SMALL), num_labels=2)
        model = str(export_onnx(network, Path(folder, "model.onnx"), sequence_length=64).path)
        command = [*NAS, "gate", model, "--against", model, "--max-ratio", str(MAX_RATIO), "--precision", precision]
        command += ["--runs-folder", str(Path(folder, "runs")), "--json"]
        until_s = time.monotonic() + limit_s
        while (left_s := until_s - time.monotonic()) > 0:
            try:
                answer, low, told = _gate(command, timeout_s=left_s)
            except subprocess.TimeoutExpired:
                break  # Time was up, which says nothing of the gate.
            answers[answer] += 1
            lows += [] if low is None else [low]
            print(f"  {answers.total():4} {answer:14} {told}", flush=True)
    num_measured = answers.total() - answers["not measured"]
    num_alarms = answers["above"]
    print(
        f"host: {answers.total()} gates of a network against itself, {precision} precision: "
        f"{', '.join(f'{count} {answer}' for answer, count in sorted(answers.items()))}"
    )
    if not num_measured:
        print("nothing was measured; no figure")
        return
    # Clopper and Pearson's: the greatest rate at which so few alarms still come up in one of twenty such runs.
    bound = float(beta.ppf(0.95, num_alarms + 1, num_measured - num_alarms)) if num_alarms < num_measured else 1.0
    print(f"{num_alarms} of {num_measured} measured gates failed; with 95 % confidence the rate is below {bound:.2%}")
    print(f"the greatest lower bound of a ratio was {max(lows):.4f}; above {MAX_RATIO:g} it is an alarm")
    # So few gates show nothing, however they end: no alarm takes 299 of them to speak for at most one in a hundred.
    _print_figure("gate_false_alarms_host", num_alarms / num_measured, is_shown=bound <= TARGET)


def _gate(command: list[str], *, timeout_s: float) -> tuple[str, float | None, str]:
    """Return what one gate answered by its exit code, the lower bound of its ratio if it has one, and what it told."""
    ended = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    if ended.returncode == NOT_MEASURED:
        return "not measured", None, ended.stderr.strip()
    if ended.returncode not in (0, TOO_SLOW):
        raise RuntimeError(f"`nas gate` ended with exit code {ended.returncode}: {ended.stderr}")
    (found,) = json.loads(ended.stdout)
    if (found["verdict"] == "above") != (ended.returncode == TOO_SLOW):
        raise RuntimeError(f"`nas gate` says {found['verdict']!r} and exits with {ended.returncode}")
    ratio = found["ratio"]
    told = f"{ratio['estimate']:.4f} ({ratio['low']:.4f} to {ratio['high']:.4f}), "
    return found["verdict"], ratio["low"], f"{told}{found['num_blocks']} blocks, {found['reason']}"


def _print_figure(name: str, share: float, *, is_shown: bool = True) -> None:
    verdict = "met" if share <= TARGET and is_shown else "short"
    print(f"figure: {name} {100 * share:.2f} % target=<={100 * TARGET:g} {verdict}")


if __name__ == "__main__":
    main()
