#!/bin/sh
# Installs what is missing, and nothing else:
#   scripts/setup.sh deno   Deno
#   scripts/setup.sh run    and what running and testing need
#   scripts/setup.sh build  Deno, and what building the BPF objects needs
#   scripts/setup.sh kernels  what "run" does, and what running the tests in other kernels needs
set -eu

DENO_VERSION=2.9.6
BTF=${BTF:-/sys/kernel/btf/vmlinux} # the tests set another one

fail() {
	echo "setup: $1" >&2
	exit 1
}

has() {
	command -v "$1" >/dev/null 2>&1
}

# True if version $1 is at least $2, both of two numbers.
at_least() {
	[ "${1%%.*}" -gt "${2%%.*}" ] || {
		[ "${1%%.*}" -eq "${2%%.*}" ] && [ "${1#*.}" -ge "${2#*.}" ]
	}
}

# The first two numbers of a version.
two_numbers() {
	expr "$1" : '[^0-9]*\([0-9]*\.[0-9]*\)' || true
}

check_kernel() {
	release=$(uname -r)
	at_least "$(two_numbers "$release")" 6.1 ||
		fail "this is kernel $release and 6.1 is needed; boot a newer one, such as Debian 12's"
	[ -e "$BTF" ] ||
		fail "$BTF is missing; boot a kernel built with CONFIG_DEBUG_INFO_BTF, such as Debian's"
}

is_root() {
	[ "$(id -u)" -eq 0 ]
}

has_library() {
	ldconfig -p 2>/dev/null | grep -q "$1"
}

has_deno() {
	has deno && at_least "$(two_numbers "$(deno --version | head -n 1)")" 2.9
}

install_deno() {
	has npm || fail "deno $DENO_VERSION is missing and so is npm to get it; run \"apt-get install npm\""
	echo "setup: installing deno $DENO_VERSION with npm"
	npm install --global --no-fund --no-audit "deno@$DENO_VERSION" >&2 && has_deno ||
		fail "npm could not install deno $DENO_VERSION; install it by hand and put it into PATH"
}

# Installs Debian packages, if any are named.
install_packages() {
	[ $# -gt 0 ] || return 0
	has apt-get || fail "there is no apt-get here; install these packages, however they are called: $*"
	is_root || fail "installing packages needs root; run it with sudo, or install them: $*"
	echo "setup: installing $* with apt-get"
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -q >&2 && apt-get install -q -y --no-install-recommends "$@" >&2 ||
		fail "apt-get could not install $*; see its message above, then run this again"
}

missing_to_run() {
	has_library libbpf.so.1 || echo libbpf1
	has ip || echo iproute2
	has ethtool || echo ethtool
	has curl || echo curl
	has ping || echo iputils-ping
	has sysctl || echo procps
	has traceroute || echo traceroute
	has jq || echo jq
}

missing_to_build() {
	has clang-19 || echo clang-19
	has llvm-strip-19 || echo llvm-19
	[ -e /usr/include/bpf/bpf_helpers.h ] || echo libbpf-dev
}

missing_for_kernels() {
	has qemu-system-x86_64 || echo qemu-system-x86
	has busybox && busybox depmod --help >/dev/null 2>&1 || echo busybox-static
	has cpio || echo cpio
	has xz || echo xz-utils
	has zstd || echo zstd
	has ipvsadm || echo ipvsadm
}

case ${1-} in
deno) ;;
kernels)
	is_root || fail "running tests in other kernels needs root; run it with sudo"
	# shellcheck disable=SC2046 # each word is a package
	install_packages $(missing_to_run) $(missing_for_kernels)
	;;
run)
	is_root || fail "loading BPF programs and making network namespaces needs root; run it with sudo"
	check_kernel
	# shellcheck disable=SC2046 # each word is a package
	install_packages $(missing_to_run)
	;;
build)
	# shellcheck disable=SC2046 # each word is a package
	install_packages $(missing_to_build)
	;;
*) fail "say \"deno\", \"run\", \"build\" or \"kernels\"" ;;
esac
has_deno || install_deno
