"""A root of its own for the phone, so that /data, /sys and /system are its, in pushed scripts too.

An unprivileged user may do this on most Linux kernels: a user namespace with a
mount and a process namespace. Whatever runs in there sees this machine's
programs and libraries, the phone's own files, and only its own processes.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from device_lab.virtual_phone.options import PhoneOptions

_ARM64_HANDLER = (
    ":pocketbert-aarch64:M::"
    r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:"
    r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:"
)

# $1 sandbox, $2 size of /data or "", $3 handler of arm64 programs or "", $4 working folder, then the command.
_SCRIPT = r"""
set -e
sandbox=$1 data_bytes=$2 handler=$3 folder=$4
shift 4
new=$sandbox/root
mkdir "$new"
mount -t tmpfs tmpfs "$new"
for entry in /*; do
  case $entry in /data | /sys | /system | /proc) continue ;; esac
  if [ -L "$entry" ]; then cp -P "$entry" "$new$entry"
  elif [ -d "$entry" ]; then mkdir "$new$entry"; mount --rbind "$entry" "$new$entry" 2>/dev/null || rmdir "$new$entry"
  fi
done
mkdir "$new/proc" "$new/data" "$new/sys" "$new/system"
mount -t proc proc "$new/proc"
if [ -n "$data_bytes" ]; then
  mount -t tmpfs -o "size=$data_bytes" tmpfs "$new/data"
  cp -a "$sandbox/data/." "$new/data/"
else mount --bind "$sandbox/data" "$new/data"; fi
read_only() { mount --bind "$1" "$2"; mount -o remount,bind,ro "$2"; }
read_only "$sandbox/system" "$new/system"
read_only "$sandbox/sys" "$new/sys"
read_only "$sandbox/state/boot_id" "$new/proc/sys/kernel/random/boot_id"
if [ -n "$handler" ]; then
  read_only "$sandbox/state/cpuinfo" "$new/proc/cpuinfo"
  if mount -t binfmt_misc binfmt_misc "$new/proc/sys/fs/binfmt_misc" 2>/dev/null; then
    printf '%s' "$handler" >"$new/proc/sys/fs/binfmt_misc/register"
  fi
fi
mount -o remount,bind,ro "$new"
# The user of the phone's shell is no superuser there: file permissions bind it.
drop="setpriv --bounding-set=-all --inh-caps=-all"
command -v setpriv >/dev/null || drop=
# The shell stays as the first process, to reap what others leave behind.
exec 3<&0
chroot "$new" $drop /bin/sh -c 'cd "$1" && shift && exec "$@"' sh "$folder" "$@" <&3 3<&- &
wait $!
"""


def allows_namespaces() -> bool:
    """Return whether this machine lets this user make the namespaces."""
    if shutil.which("unshare") is None:
        return False
    # A container may allow the namespaces and still refuse a fresh /proc.
    mounts = "mount -t tmpfs tmpfs /mnt && mkdir /mnt/proc && mount -t proc proc /mnt/proc"
    probe = ["unshare", "-Urmp", "--fork", "sh", "-c", mounts]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def enter_command(command: list[str], *, sandbox: Path, options: PhoneOptions) -> list[str]:
    """Return the command line that runs ``command`` in namespaces around the fixtures in ``sandbox``."""
    qemu = shutil.which("qemu-aarch64-static")
    handler = f"{_ARM64_HANDLER}{qemu}:F" if options.abi == "arm64-v8a" and qemu else ""
    data_bytes = "" if options.data_bytes is None else str(options.data_bytes)
    unshare = ["unshare", "-Urmp", "--fork", "--kill-child", "sh", "-c", _SCRIPT, "virtual-phone"]
    return [*unshare, str(sandbox), data_bytes, handler, str(Path.cwd()), *command]
