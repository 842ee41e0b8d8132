#!/bin/sh
# Runs a command, such as all tests, alone: in namespaces of its own of mounts, networks and processes, so that
# whatever it leaves behind is its own, whoever else is on this host. What is left is named, and is a failure;
# then it all goes with the namespaces.
#   tests/alone.sh COMMAND...
set -u

if [ "${XVS_ALONE-}" = "" ]; then
	export XVS_ALONE=yes
	exec unshare --mount --net --pid --fork --kill-child --mount-proc "$0" "$@"
fi
unset XVS_ALONE

mount -t sysfs sysfs /sys && mount -t bpf bpf /sys/fs/bpf && mount -t tmpfs tmpfs /run &&
	mount -t tmpfs tmpfs /tmp && ip link set lo up || exit 1
routes=$(ip -o route show table all; ip -o -6 route show table all)
mounts=$(cat /proc/mounts)

"$@"
status=$?

# All but this script and its own helpers.
processes() {
	for pid in $(ls /proc | grep -x '[0-9]*'); do
		command=$(cat "/proc/$pid/cmdline" 2>/dev/null | tr '\0' ' ')
		case $command in
		'' | *alone.sh* | 'ls /proc '*) ;;
		*) echo "process $pid: $command" ;;
		esac
	done
}
# Those who were told to end may take a moment.
for _ in 1 2 3 4 5 6 7 8 9 10; do
	[ -n "$(processes)" ] || break
	sleep 0.5
done

left=$(
	processes
	find /sys/fs/bpf -type f -not -name '*.debug' | sed 's/^/pin /'
	ls -d /sys/fs/bpf/xvs/* /run/netns/* /run/xvs-lab-* /run/xvs/* 2>/dev/null | sed 's/^/file /'
	find /tmp -mindepth 1 -maxdepth 1 | sed 's/^/temporary file /'
	ip -o link | grep -v ' lo: ' | sed 's/^/interface /'
	{ ip -o route show table all; ip -o -6 route show table all; } | grep -vxF "$routes" | sed 's/^/route /'
	grep -vxF "$mounts" /proc/mounts | grep -v ' /run/netns' | sed 's/^/mount /'
)
[ -z "$left" ] && exit $status
echo "These were left behind:"
echo "$left"
[ $status -ne 0 ] && exit $status
exit 1
