# Who may use this phone, and what was changed for them. For mksh with toybox, and for dash.
#
# $1 is what to do, $2 the folder of leases. A lease is a subfolder with a number. The highest number is
# the current one; the next is made by mkdir, of which only one caller can succeed. Whoever makes it or
# renews it writes first and looks afterwards, so that of two who race at least one sees the other.
# Times are seconds since the phone started: no clock somebody sets is asked.
action=$1 leases=$2

now() {
  read -r uptime rest </proc/uptime
  echo "${uptime%%.*}"
}

boot_id() {
  id=
  { read -r id </proc/sys/kernel/random/boot_id; } 2>/dev/null
  echo "${id:-?}"
}

highest() {
  top=0
  for folder in "$leases"/*; do
    number=${folder##*/}
    case $number in *[!0-9]*) continue ;; esac
    [ "$number" -gt "$top" ] && top=$number
  done
  echo "$top"
}

of_nonce() {
  # Not by the number: a phone whose folder was wiped counts from one again.
  found=$(grep -lsFx "nonce=$1" "$leases"/[0-9]*/holder)
  [ -n "$found" ] && echo "${found%/holder}"
}

write() {
  cat >"$1.part" && mv -f "$1.part" "$1"
}

expiry() {
  end=
  { read -r end <"$1/expires"; } 2>/dev/null
  echo "${end:-?}"
}

restore() {
  # Whoever moves the script runs it. One that another is at work on for long was left by a reboot.
  if ! mv -f "$1/restore" "$1/restoring" 2>/dev/null; then
    tries=0
    while [ -e "$1/restoring" ] && [ $tries -lt 50 ]; do
      sleep 0.1
      tries=$((tries + 1))
    done
    [ -e "$1/restoring" ] || return 0
  fi
  if sh "$1/restoring" >"$1/log" 2>&1; then
    rm -f "$1/restoring"
  else
    mv -f "$1/restoring" "$1/restore"
    return 1
  fi
}

look() {
  number=$(highest)
  echo "now=$(now)"
  echo "boot=$(boot_id)"
  echo "number=$number"
  echo "expires=$(expiry "$leases/$number")"
  [ -e "$leases/$number/released" ] && echo released=yes
  cat "$leases/$number/holder" 2>/dev/null
  true
}

# take LEASES NUMBER EXPIRY_SEEN DURATION HOLDER...: make lease NUMBER, unless the one before it came to life.
take() {
  number=$1 seen=$2 duration=$3
  shift 3
  mkdir -p "$leases" || return 1
  if ! problem=$(mkdir "$leases/$number" 2>&1); then
    [ -d "$leases/$number" ] && return 0
    echo "$problem" >&2
    return 1
  fi
  if ! {
    for line; do echo "$line"; done
    echo "boot_id=$(boot_id)"
  } | write "$leases/$number/holder" || ! echo $(($(now) + duration)) | write "$leases/$number/expires"; then
    rm -rf "${leases:?}/$number"
    return 1
  fi
  before=$leases/$((number - 1))
  if [ "$(highest)" != "$number" ] || { [ ! -e "$before/released" ] && [ "$(expiry "$before")" != "$seen" ]; }; then
    rm -rf "${leases:?}/$number"
    return 0
  fi
  echo taken=yes
  for folder in "$leases"/*; do
    [ "${folder##*/}" -lt "$number" ] 2>/dev/null || continue
    if restore "$folder"; then
      stop_watchdog "$folder"
      rm -rf "$folder"
    else
      echo left="$(head -n 1 "$folder/log")"
    fi
  done
}

# renew LEASES NONCE DURATION: let the lease last that long from now, at least.
renew() {
  folder=$(of_nonce "$1")
  if [ -z "$folder" ]; then
    echo lost=taken
    return
  fi
  if ! grep -qFx "boot_id=$(boot_id)" "$folder/holder"; then
    echo lost=rebooted
    return
  fi
  wanted=$(($(now) + $2))
  [ "$(expiry "$folder")" -ge $wanted ] 2>/dev/null || echo $wanted | write "$folder/expires" || return 1
  if [ "$leases/$(highest)" != "$folder" ]; then
    echo lost=taken
  elif [ -e "$folder/released" ]; then
    echo lost=expired
  else
    echo renewed=yes
  fi
}

way_back() {
  echo failed=0
  case $stay_on in
  '') ;;
  null) echo 'settings delete global stay_on_while_plugged_in || failed=1' ;;
  *) echo "settings put global stay_on_while_plugged_in $stay_on || failed=1" ;;
  esac
  [ "$1" = no ] || echo 'cmd power set-fixed-performance-mode-enabled false || failed=1'
  echo 'exit $failed'
}

# prepare LEASES NONCE: change what makes times steady, with the way back written down first.
prepare() {
  folder=$(of_nonce "$1")
  [ -n "$folder" ] || return 1
  stay_on=$(settings get global stay_on_while_plugged_in 2>/dev/null)
  case $stay_on in
  null) ;;
  *[!0-9]*) stay_on= ;;
  esac
  sdk=$(getprop ro.build.version.sdk)
  offered=no
  case $sdk in
  '' | *[!0-9]*) ;;
  *) [ "$sdk" -ge 30 ] && offered=yes ;;
  esac
  way_back $offered | write "$folder/restore" || return 1
  guard "$folder"
  if [ $offered = no ]; then
    echo fixed_performance=unsupported
  elif cmd power set-fixed-performance-mode-enabled true >/dev/null 2>&1; then
    echo fixed_performance=on
  else
    # What was refused needs no way back, which would be refused, too.
    way_back no | write "$folder/restore"
    echo fixed_performance=refused
  fi
  if [ -n "$stay_on" ] && svc power stayon true >/dev/null 2>&1; then
    echo screen_kept_on=yes
  else
    echo screen_kept_on=no
  fi
}

guard() {
  command -v setsid >/dev/null || return 0
  setsid sh "$0" watch "$leases" "$1" </dev/null >/dev/null 2>&1 &
  # It must have left this process group, which is killed when the command ends.
  tries=0
  while [ ! -e "$1/watchdog" ] && [ $tries -lt 50 ]; do
    sleep 0.05
    tries=$((tries + 1))
  done
}

stop_watchdog() {
  watchdog=
  { read -r watchdog <"$1/watchdog"; } 2>/dev/null
  # The number may be somebody else's by now.
  if [ -n "$watchdog" ] && grep -qsF "$1" "/proc/$watchdog/cmdline"; then kill -KILL -"$watchdog"; fi
}

# watch LEASES FOLDER: when the lease is no longer renewed, restore what was changed. Sleeps until it may be.
watch() {
  echo $$ | write "$1/watchdog"
  while [ -e "$1/restore" ] && [ ! -e "$1/released" ]; do
    wanted=$(expiry "$1")
    if [ "$wanted" -gt "$(now)" ] 2>/dev/null; then
      sleep $((wanted - $(now)))
      continue
    fi
    : >"$1/released"
    if [ "$(expiry "$1")" -gt "$(now)" ] 2>/dev/null; then
      rm -f "$1/released"
    else
      restore "$1"
    fi
  done
}

# release LEASES NONCE: restore what was changed and give the phone back.
release() {
  folder=$(of_nonce "$1")
  if [ -z "$folder" ]; then
    echo released=yes
    return
  fi
  restore "$folder" || echo left="$(head -n 1 "$folder/log")"
  stop_watchdog "$folder"
  : >"$folder/released"
  echo released=yes
}

shift 2
$action "$@"
