# One look at what may change a latency: key=value lines, a key more than once for several lines.
# $1 is where sysfs lies, $2 where proc does. For mksh with toybox, and for dash.
# What cannot be read is left out, or has the value `?`; the reader takes both for unreadable.
sys=$1 proc=$2

first_line() {
  value=
  { read -r value <"$2"; } 2>/dev/null
  echo "$1=${value:-?}"
}

for cpu in "$sys"/devices/system/cpu/cpu[0-9]*; do
  number=${cpu##*/cpu}
  for name in scaling_cur_freq scaling_min_freq scaling_max_freq cpuinfo_max_freq scaling_governor; do
    first_line "$name.$number" "$cpu/cpufreq/$name"
  done
done
first_line online "$sys/devices/system/cpu/online"
first_line loadavg "$proc/loadavg"
first_line uptime "$proc/uptime"
first_line boot_id "$proc/sys/kernel/random/boot_id"
grep MemAvailable "$proc/meminfo" 2>/dev/null | sed 's/^/memory=/'
dumpsys thermalservice 2>/dev/null | sed 's/^/thermal=/'
dumpsys battery 2>/dev/null | sed 's/^/battery=/'
dumpsys power 2>/dev/null | grep -i wakefulness | sed 's/^/power=/'
settings get global low_power 2>/dev/null | sed 's/^/low_power=/'
cmd power help 2>/dev/null | grep -e set-mode -e set-fixed-performance-mode-enabled | sed 's/^/power_help=/'
getprop 2>/dev/null | grep -F -e '[ro.build.fingerprint]' -e '[ro.build.version.sdk]' -e '[ro.soc.model]' \
  -e '[ro.board.platform]' -e '[ro.hardware]' | sed 's/^/property=/'
true
