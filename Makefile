# SPDX-License-Identifier: BSD-2-Clause
#
# The front door.  The build itself is Meson's (meson.build); this file only
# names the things one wants to do, and installs what is missing first.
#
#   make, make build   install what is missing (make setup) and build everything into build/
#   make help          this list
#   make demo          gcc in a quarter of the memory it needs: killed by the kernel, finished by Quire
#   make test          unit tests, then a small set of real programs
#   make test-programs the full set of real programs (minutes)
#   make test-models   SPIN over the models of the locking protocols
#   make coverage      lines and branches that the tests reach, by folder
#   make test-mutants  each fault of tests/mutants is put into the code: do its tests notice?
#   make fuzz          nonsense to the supervisor of quire run, over its sockets and in what it shares; FUZZ_SECONDS, FUZZ_SEED
#   make test-far      swap far away: SIGKILL of either end at FAR_MOMENTS (200) random moments, FAR_SEED; a slow link that loses packets
#   make test-nightly  random tests for much longer (an hour or so)
#   make test-without  the hosting tests as on older kernels and in stricter containers
#   make test-kernels  small hosting tests on Debian 12's kernel and the newest in its backports, in QEMU
#   make asan, tsan    unit tests under the sanitizers
#   make kernel, kernel-shell, kernel-demo, test-kernel   the kernel on a bare machine in QEMU: docs/kernel.md
#   make test-kernel-suites   public test suites on that kernel, beside Debian's
#   make bench         Quire, the kernel's swap and the floor, side by side; then what a program that fits pays
#   make format        clang-format over the C sources
#   make wrap          clang-format over lines that are too long, and nothing else
#   make clean         remove what was built

BUILD ?= build
export BUILD
# The runtime in hosted programs has no room for a sanitizer's own runtime: undefined behaviour traps there.
HOSTED = run_bad run_fit run_report run_intercept run_programs

all: build

help:
	@sed -n 's/^#   \(make\)/\1/p' Makefile

setup:
	@sh tools/setup.sh

build: setup
	@sh tools/build.sh $(BUILD)

demo: build
	@sh tools/demo.sh

test: setup
	@sh tools/test.sh

# Large packages, which nothing else needs.
PROGRAMS = ruby default-jdk-headless nodejs php-cli perl postgresql make

test-programs: build
	@sh tools/setup.sh $(PROGRAMS)
	@python3=`sh tools/python.sh` && $$python3 tests/programs/run.py --size full

test-models:
	@sh tools/setup.sh spin
	@sh models/run.sh

test-mutants: setup
	@python3=`sh tools/python.sh` && $$python3 tools/mutants.py

coverage:
	@sh tools/setup.sh gcovr
	@sh tools/coverage.sh

fuzz: build
	@python3=`sh tools/python.sh` && $$python3 tests/run/fuzz_test.py $(BUILD)/quire $(BUILD)/tests/run/fuzz_family \
	  --seconds $${FUZZ_SECONDS:-60} --seed $${FUZZ_SEED:-`date +%Y%m%d`}

test-far: build
	@python3=`sh tools/python.sh` && $$python3 tests/far/far_kill_test.py $(BUILD)/quire \
	  --moments $${FAR_MOMENTS:-200} --seed $${FAR_SEED:-`date +%Y%m%d`}
	@python3=`sh tools/python.sh` && $$python3 tests/far/far_engines_test.py $(BUILD)/quire man/quire.1 README.md \
	  redis_over_a_link_of_5_ms_that_loses_a_packet_in_100

test-nightly: build
	@sh tools/nightly.sh

asan: setup
	@sh tools/build.sh $(BUILD)-asan -Db_sanitize=address,undefined -Db_lundef=false
	@BUILD=$(BUILD)-asan sh tools/test.sh --no-programs
	@sh tools/build.sh $(BUILD)-trap -Dc_args='-fsanitize=undefined -fsanitize-undefined-trap-on-error'
	@BUILD=$(BUILD)-trap sh tools/test.sh --no-programs $(HOSTED)

tsan: setup
	@sh tools/build.sh $(BUILD)-tsan -Db_sanitize=thread -Db_lundef=false
	@BUILD=$(BUILD)-tsan sh tools/test.sh --no-programs

# ARCH=riscv64: kernel-shell, test-kernel and kernel-demo for that architecture; test-kernel without it does both.
KARCH = $(or $(ARCH),x86_64)
KERNEL = $(CURDIR)/$(BUILD)/kernel-$(KARCH)
KERNEL_NEEDS.x86_64 = qemu-system-x86 busybox-static musl-tools
KERNEL_NEEDS.riscv64 = qemu-system-misc qemu-user gcc-riscv64-linux-gnu libc6-dev-riscv64-cross

kernel:
	@sh tools/setup.sh e2fsprogs $(KERNEL_NEEDS.$(KARCH))
	@$(MAKE) -s -C kernel ARCH=$(KARCH) BUILD=$(KERNEL)

kernel-shell: kernel
	@sh kernel/shell.sh $(KARCH) $(KERNEL)/quire.elf $(KERNEL)/shell

kernel-demo: kernel
	@python3=`sh tools/python.sh` && $$python3 kernel/demo.py $(KARCH) $(KERNEL)/quire.elf $(KERNEL)/demo

KERNEL_PROGRAMS.x86_64 = bash coreutils dash diffutils findutils git grep lua5.4 make mawk gzip nodejs openssl perl php-cli ruby sed sqlite3 tar xz-utils
test-kernel: kernel
	@sh tools/setup.sh $(KERNEL_PROGRAMS.$(KARCH))
	@python3=`sh tools/python.sh` && $$python3 kernel/test/run.py $(KARCH) $(KERNEL)
ifeq ($(ARCH),)
	@$(MAKE) test-kernel ARCH=riscv64
endif

# SUITES="busybox posix selftests": some of them
test-kernel-suites: kernel
	@sh tools/setup.sh $(KERNEL_NEEDS.x86_64)
	@python3=`sh tools/python.sh` && $$python3 kernel/test/suites.py $(KARCH) $(KERNEL)/quire.elf $(KERNEL)/suites $(SUITES)

test-without: build
	@sh tools/without.sh

test-kernels: build
	@sh tools/setup.sh qemu-system-x86 busybox-static cpio e2fsprogs dash
	@python3=`sh tools/python.sh` && $$python3 tests/kernels/run.py $(BUILD) $(BUILD)/kernels $(KERNELS)

bench: build
	@sh bench/peers.sh
	@sh bench/hits.sh

format:
	@sh tools/format.sh

wrap:
	@git ls-files '*.c' '*.h' | xargs python3 tools/wrap.py

clean:
	rm -rf $(BUILD) $(BUILD)-asan $(BUILD)-trap $(BUILD)-tsan $(BUILD)-cov

.PHONY: kernel kernel-shell kernel-demo test-kernel test-kernel-suites all help setup build demo test test-programs fuzz test-far test-nightly test-mutants test-without test-kernels test-models coverage asan tsan bench format wrap clean
