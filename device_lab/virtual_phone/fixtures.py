"""What a virtual phone says about itself: properties, /sys, dumpsys.

The texts follow Android 13 as its sources print them. The number of cores is
this machine's, since programs run here and must find what they are told of.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from device_lab.virtual_phone.options import PhoneOptions

BACKEND_PROPERTY = "ro.pocketbert.backend"
"""Names the backend a measurement on this device is labelled with; real phones do not have it."""

_KILOHERTZ_LITTLE, _KILOHERTZ_BIG = 1_800_000, 2_850_000

ARM_CPUINFO = "".join(
    f"processor\t: {core}\n"
    "BogoMIPS\t: 49.15\n"
    "Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp\n"
    "CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x3\nCPU part\t: 0xd0b\nCPU revision\t: 1\n\n"
    for core in range(os.cpu_count() or 1)
)
"""/proc/cpuinfo of Cortex-A76 cores, for programs under qemu that read it."""


def properties(options: PhoneOptions) -> dict[str, str]:
    """Return the system properties of a phone."""
    is_native = options.abi == "x86_64"
    return {
        BACKEND_PROPERTY: "virtual-phone" if is_native else "qemu",
        "ro.board.platform": "virtual",
        "ro.boot.serialno": options.serial,
        "ro.build.fingerprint": "pocketbert/virtual/virtual:13/TQ3A.230805.001/1:user/release-keys",
        "ro.build.version.release": "13",
        "ro.build.version.sdk": "33",
        "ro.hardware": "virtual",
        "ro.product.cpu.abi": options.abi,
        "ro.product.cpu.abilist": options.abi,
        "ro.product.device": "virtual",
        "ro.product.manufacturer": "pocketbert",
        "ro.product.model": "Virtual phone",
        "ro.product.name": "virtual",
        "ro.serialno": options.serial,
        "ro.soc.manufacturer": "pocketbert",
        "ro.soc.model": f"virtual-{options.abi}",
        "sys.boot_completed": "1",
    }


def banner(options: PhoneOptions, *, features: tuple[str, ...]) -> bytes:
    """Return what the phone calls itself in the handshake."""
    known = properties(options)
    named = "".join(f"{key}={known[key]};" for key in ("ro.product.name", "ro.product.model", "ro.product.device"))
    return f"device::{named}features={','.join(features)}".encode()


def system_files() -> dict[str, str]:
    """Return the files below /sys by their path there: processor clocks, one thermal zone, the battery."""
    num_cores = os.cpu_count() or 1
    last = num_cores - 1
    all_cores = f"0-{last}" if last else "0"
    files = {f"devices/system/cpu/{name}": all_cores for name in ("possible", "present", "online")}
    files["devices/system/cpu/kernel_max"] = str(last)
    num_little = num_cores // 2
    for core in range(num_cores):
        is_little = core < num_little
        folder = f"devices/system/cpu/cpu{core}"
        files[f"{folder}/online"] = "1"
        files[f"{folder}/cpu_capacity"] = "380" if is_little else "1024"
        files[f"{folder}/topology/core_id"] = str(core)
        files[f"{folder}/topology/physical_package_id"] = "0"
        cores = range(num_little) if is_little else range(num_little, num_cores)
        clock = _KILOHERTZ_LITTLE if is_little else _KILOHERTZ_BIG
        for name, value in _clock_files(clock, cores).items():
            files[f"{folder}/cpufreq/{name}"] = value
            files[f"devices/system/cpu/cpufreq/policy{cores[0]}/{name}"] = value
    files["class/thermal/thermal_zone0/type"] = "skin"
    files["class/thermal/thermal_zone0/temp"] = "31000"
    files["class/power_supply/battery/capacity"] = "87"
    files["class/power_supply/battery/status"] = "Charging"
    files["class/power_supply/battery/temp"] = "290"
    return {path: value + "\n" for path, value in files.items()}


def _clock_files(clock_khz: int, cores: range) -> dict[str, str]:
    return {
        "related_cpus": " ".join(map(str, cores)),
        "scaling_governor": "schedutil",
        "scaling_cur_freq": str(clock_khz),
        "scaling_min_freq": "300000",
        "scaling_max_freq": str(clock_khz),
        "cpuinfo_min_freq": "300000",
        "cpuinfo_max_freq": str(clock_khz),
    }


def thermal_report(*, status: int, skin_celsius: float) -> str:
    """Return what ``dumpsys thermalservice`` prints.

    Args:
        status: 0 none, 1 light, 2 moderate, 3 severe, 4 critical, 5 emergency, 6 shutdown.
        skin_celsius: Temperature of the skin sensor, from which the others follow.
    """
    readings = (("CPU0", 0, skin_celsius + 12), ("battery", 2, skin_celsius - 3), ("skin", 3, skin_celsius))
    lines = "".join(
        f"\tTemperature{{mValue={value:.1f}, mType={kind}, mName={name}, mStatus={status if name == 'skin' else 0}}}\n"
        for name, kind, value in readings
    )
    return (
        "IsStatusOverride: false\nThermalEventListeners:\n\tcallbacks: 1\n\tkilled: false\n\tbroadcasts count: -1\n"
        "ThermalStatusListeners:\n\tcallbacks: 1\n\tkilled: false\n\tbroadcasts count: -1\n"
        f"Thermal Status: {status}\nCached temperatures:\n{lines}"
        "HAL Ready: true\nHAL connection:\n\tThermalHAL 2.0 connected: yes\n"
        f"Current temperatures from HAL:\n{lines}"
        "Current cooling devices from HAL:\n\tCoolingDevice{mValue=0, mType=2, mName=thermal-cpufreq-0}\n"
    )


DUMPSYS: Mapping[str, str] = {
    "battery": (
        "Current Battery Service state:\n  AC powered: false\n  USB powered: true\n  Wireless powered: false\n"
        "  Max charging current: 500000\n  Max charging voltage: 5000000\n  Charge counter: 3400000\n"
        "  status: 2\n  health: 2\n  present: true\n  level: 87\n  scale: 100\n  voltage: 4200\n"
        "  temperature: 290\n  technology: Li-ion\n"
    ),
    "power": "POWER MANAGER (dumpsys power)\n\nPower Manager State:\n  mWakefulness=Awake\n  mIsPowered=true\n",
}

SETTINGS: Mapping[str, str] = {
    "global.airplane_mode_on": "1",
    "global.low_power": "0",
    "global.stay_on_while_plugged_in": "0",
    "system.screen_brightness": "80",
}

_COMMANDS: Mapping[str, str] = {
    "getprop": """
if [ $# -eq 0 ]; then sed -n 's/^\\([^=]*\\)=\\(.*\\)$/[\\1]: [\\2]/p' "$state/properties"
else sed -n "s/^$1=//p" "$state/properties" | grep . || echo "${2:-}"; fi
""",
    "dumpsys": """
if [ -f "$state/dumpsys/$1" ]; then cat "$state/dumpsys/$1"
else echo "Can't find service: $1"; fi
""",
    "settings": """
file="$state/settings/$2.$3"
case $1 in
get) if [ -f "$file" ]; then cat "$file"; else echo null; fi ;;
put) echo "$4" >"$file" ;;
delete) rm -f "$file" ;;
*) echo "Invalid command: $1" >&2; exit 255 ;;
esac
""",
    "cmd": """
case "$1 $2" in
"power help") echo "  set-mode MODE"; echo "  set-fixed-performance-mode-enabled [true|false]" ;;
"power set-fixed-performance-mode-enabled")
    if [ -e "$state/refuses_fixed_performance" ]; then echo "Failed to set FIXED_PERFORMANCE mode" >&2; exit 255; fi
    echo "$3" >"$state/fixed_performance_mode" ;;
"thermalservice headroom") sed -n 's/.*mValue=\\([0-9.]*\\), mType=3,.*/\\1/p' "$state/dumpsys/thermalservice" |
    head -n 1 | awk '{ print $1 / 48 }' ;;
*) echo "cmd: Can't find service: $1" >&2; exit 20 ;;
esac
""",
    "svc": """
case "$1 $2 $3" in
"power stayon true") echo 7 >"$state/settings/global.stay_on_while_plugged_in" ;;
*) echo "Available commands: power" >&2; exit 1 ;;
esac
""",
    "date": """
offset=$(cat "$state/clock_offset_s")
if [ "$offset" = 0 ]; then exec /bin/date "$@"; fi
exec /bin/date -d "@$(($(/bin/date +%s) + offset))" "$@"
""",
}


def write_fixtures(folder: Path, *, options: PhoneOptions) -> None:
    """Write the phone's own files below ``folder``: ``data``, ``sys``, ``system`` and ``state``.

    ``state`` holds what the commands in ``system/bin`` read and a fault may change.
    """
    for name in ("data/local/tmp", "data/misc/adb", "system/bin", "state/dumpsys", "state/settings"):
        (folder / name).mkdir(parents=True)
    (folder / "data/misc/adb/adb_keys").write_text("".join(f"{key}\n" for key in options.known_keys))
    for path, value in system_files().items():
        target = folder / "sys" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(value)
    state = folder / "state"
    (state / "properties").write_text("".join(f"{key}={value}\n" for key, value in properties(options).items()))
    (state / "clock_offset_s").write_text("0\n")
    (state / "fixed_performance_mode").write_text("false\n")
    (state / "cpuinfo").write_text(ARM_CPUINFO)
    (state / "dumpsys" / "thermalservice").write_text(thermal_report(status=0, skin_celsius=31.0))
    for name, value in DUMPSYS.items():
        (state / "dumpsys" / name).write_text(value)
    for name, value in SETTINGS.items():
        (state / "settings" / name).write_text(value + "\n")
    for name, text in _COMMANDS.items():
        command = folder / "system" / "bin" / name
        command.write_text(f"#!/bin/sh\nstate={state}\n{text.lstrip()}")
        command.chmod(0o755)
    (folder / "system" / "bin" / "sh").symlink_to("/bin/sh")
