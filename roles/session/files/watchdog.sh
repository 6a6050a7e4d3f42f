#!/bin/sh
# Powers the instance off, which terminates it, when nothing is streamed to it any more or when it is too old.
# It does not depend on any other machine: the source host may have lost its power.
#
# watchdog.sh IDLE LIFETIME    in seconds, counted from this start; IDLE 0: no limit
#
# Runs as root, started by the user-data's bootcmd (../vars/main.yml). Needs only /proc, sleep and grep.
#
# What counts as use: an authenticated session of OpenSSH's that has read something since the last look. Our client
# sends a keepalive every 15 s, also while the source stalls or the last fsync takes its time, so a session that does
# not read has a dead peer (frozen, or cut off). If any open session counted, it would keep the machine for hours.
# Scanners, which never log in, do not count. What a remote command prints is read by its session as well: a session
# whose command goes on printing to a dead peer counts until the buffers are full.
#
# In doubt it does not power off: a wrong power-off kills a backup, a missing one only costs money. So what cannot be
# determined counts as use (a session without /proc/PID/io; any connection to this machine where sshd does not title
# its processes; no idle limit without /proc). The lifetime, which depends on the clock alone, limits the cost.
proc=/proc dev=/dev sys=/sys run=/run
grace=60
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin
exec </dev/null >/dev/null 2>&1

# ---- make sure that only one runs, and that it is not killed ----
lock=$run/ec2-backup-watchdog.pid
if read -r other <"$lock" && [ "$other" != $$ ] && grep -q ec2-backup-watchdog "$proc/$other/cmdline"; then
  exit 0 # cloud-init was run again by hand
fi
echo $$ >"$lock"

# cloud-init runs bootcmd in cloud-init.service (Type=oneshot, RemainAfterExit=yes, KillMode=control-group by default;
# newer ones in cloud-init-main.service, KillMode=process). systemd does not kill the processes of a unit that succeeds.
# But if any module fails, the unit fails, and systemd kills its whole control group (canonical/cloud-init#2542). So we
# move to the root group: cgroup v2, or v1's hierarchies by which systemd knows a unit's processes.
for file in "$sys"/fs/cgroup/cgroup.procs "$sys"/fs/cgroup/unified/cgroup.procs "$sys"/fs/cgroup/systemd/cgroup.procs; do
  [ -w "$file" ] && echo $$ >"$file"
done
[ -w "$proc/$$/oom_score_adj" ] && echo -1000 >"$proc/$$/oom_score_adj"
# SIGTERM is not caught: those units have no stop timeout, so a process that ignores it would block the shutdown.

number() { case $1 in '' | *[!0-9]*) echo "$2" ;; *) echo "$1" ;; esac; }
idle_limit=$(number "$1" 600)
life_limit=$(number "$2" 86400)
poll=$((idle_limit / 8))
[ "$poll" -ge 1 ] || poll=1
[ "$poll" -le 5 ] || poll=5

# In the background: a console or a log that blocks must not stop the watchdog.
say() {
  [ -w "$dev/console" ] && echo "ec2-backup: watchdog: $1" >>"$dev/console" &
  logger -t ec2-backup "watchdog: $1" &
}

# Seconds since some fixed moment. Not the date, which is set while the machine boots.
now=0
clock() {
  if read -r up _ <"$proc/uptime"; then now=${up%%.*}; else now=$((now + poll)); fi
}

# Whether a session has read anything since the last poll, or there is one for which that is not known.
sessions=
in_use() {
  before=" $sessions " sessions='' titled=''
  for file in "$proc"/[0-9]*/cmdline; do
    title=
    IFS= read -r title <"$file" # NULs are dropped
    case $title in
    # sshd.c, session.c: `sshd: USER@TTY` once logged in; `[listener]`, `[priv]`, `[net]`, `[accepted]` are the others.
    # Since 9.8 the processes of a session are named sshd-session, since 10.0 those of a login sshd-auth.
    "sshd: "*" ["* | "sshd: ["* | "sshd-session: "*" ["* | "sshd-session: ["* | "sshd-auth: "*) titled=1 ;;
    "sshd: "*@* | "sshd-session: "*@*)
      titled=1
      count=
      read -r _ count <"${file%cmdline}io" # the first line: rchar, the bytes that its read() calls returned
      pid=${file%/cmdline}
      sessions="$sessions ${pid##*/}=${count:-at$now}"
      ;;
    esac
  done
  for session in $sessions; do
    case $before in *" $session "*) ;; *) return 0 ;; esac
  done
  [ -z "$titled" ] && connected
}

# Whether there is a connection to a port that this machine listens on (proc(5): 0A is LISTEN, 01 ESTABLISHED).
connected() {
  listening=' ' peers=
  for file in "$proc/net/tcp" "$proc/net/tcp6"; do
    [ -r "$file" ] || continue
    while read -r _ local _ state _; do
      case $state in
      0A) listening="$listening${local##*:} " ;;
      01) peers="$peers ${local##*:}" ;;
      esac
    done <"$file"
  done
  for port in $peers; do
    case $listening in *" $port "*) return 0 ;; esac
  done
  return 1
}

power_off() {
  say "$1: powering off"
  sleep 1 # until the message is written
  while :; do
    shutdown -P now || poweroff # with `halt` EC2 would see it running for ever
    sleep $grace
    say "still running after $grace s: powering off by force"
    sleep 1 # until the message is written
    poweroff -f
    sleep $grace
  done
}

if [ ! -r "$proc/uptime" ]; then
  say "there is no $proc: only the lifetime is watched"
  idle_limit=0
fi
say "armed: idle limit $idle_limit s, lifetime $life_limit s"
clock
start=$now last=$now
while :; do
  in_use && last=$now
  [ $((now - start)) -lt "$life_limit" ] || power_off "the lifetime of $life_limit s is over"
  [ "$idle_limit" = 0 ] || [ $((now - last)) -lt "$idle_limit" ] ||
    power_off "no SSH session was in use for $idle_limit s"
  sleep "$poll"
  clock
done
