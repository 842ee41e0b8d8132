# The front door. "make" alone lists what there is.

T =
N = 1000000
K =
AT_ONCE = 2

.PHONY: help demo test test-kernels fuzz endurance bench bpf binary verify check

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

demo: ## set up what is missing, and show the balancer at work in network namespaces
	@scripts/setup.sh run
	@deno run -A scripts/demo.ts

test: ## set up what is missing, and run all tests, or those of one folder: make test T=packets
	@scripts/setup.sh run
	@rm -rf coverage
	@tests/alone.sh deno test -A --coverage=coverage --coverage-raw-data-only tests/$(T)
	@deno coverage --exclude='/tests/|\.gen\.ts$$' coverage

test-kernels: ## run the tests in stock Debian kernels, or in one: make test-kernels K=6.1
	@scripts/setup.sh kernels
	@deno run -A tests/vm/kernels.ts --at-once $(AT_ONCE) $(K)

fuzz: ## put hostile packets through the programs: make fuzz N=2000000
	@scripts/setup.sh run
	@deno run -A tests/fuzz/fuzz.ts --packets $(N)

endurance: ## 10,000 of everything, and ten minutes of traffic with a change every 100 ms
	@scripts/setup.sh run
	@deno run -A tests/endurance/traffic.ts --seconds 600
	@deno run -A --v8-flags=--expose-gc tests/endurance/cycles.ts --services 10000 --opens 10000 \
		--clients 10000 --instances 10000

bench: ## what a packet, a change and a table cost, and throughput, beside floor programs
	@scripts/setup.sh run
	@deno run -A scripts/bench.ts

bpf: ## rebuild the BPF objects and what is generated from them
	@scripts/setup.sh build
	@deno run -A bpf/build.ts

binary: ## Deno and the scripts in one executable file, build/xvs
	@scripts/setup.sh deno
	@deno run -A scripts/binary.ts build

verify: ## rebuild likewise, and fail if anything committed differs
	@scripts/setup.sh build
	@deno run -A bpf/build.ts --check

check: ## check format, style, types, and the examples in the documentation
	@scripts/setup.sh deno
	@deno fmt --check
	@deno lint
	@deno check --doc
