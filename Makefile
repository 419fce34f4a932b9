# SPDX-License-Identifier: Apache-2.0
#
# The short names for what people do here; meson does the work (see meson.build).
#
#   make             build Veneer in build/
#   make demo        build, and run the built-in guest: its report beside the host's own figures
#   make check-fast  the tests that need neither another build nor a Linux guest
#   make check       every test
#   make bench       native, Veneer and QEMU side by side, with a report (bench/README.md)
#   make format      lay the sources out as .clang-format says
#   make lint        say where they are not, and what cppcheck finds
#   make clean       remove all builds
#
# What is missing of Debian's packages is installed first (tests/setup).

BUILD   = build
DISK    = $(BUILD)/demo.img
GUEST   = run --cpus 2 --memory 512M --timeout 50
SOURCES = find arch base bench cli core devices examples guest host include pci tests virtio vmm \
	'(' -name '*.[ch]' -o -name '*.cc' ')'

all: build

setup-%:
	@tests/setup $*

configure: setup-build
	@test -f $(BUILD)/build.ninja || meson setup $(BUILD) --buildtype=release

build: configure
	@ninja -C $(BUILD)

# The disk is a sparse file, made anew so that every demo is the same.
demo: build
	@if [ -r /dev/kvm ] && [ -w /dev/kvm ]; then \
		rm -f $(DISK) && truncate -s 128M $(DISK) && \
		$(BUILD)/veneer $(GUEST) --disk $(DISK); \
	else \
		$(MAKE) --no-print-directory demo-lab; \
	fi

demo-lab: setup-check
	@test -e /dev/kvm && echo 'No access to /dev/kvm here: running in the lab, an emulated machine' \
		'(join the group kvm for the real one).' || \
		echo 'No /dev/kvm here: running in the lab, an emulated machine.'
	@tests/lab/run --build $(BUILD) --timeout 300 -- sh -c 'truncate -s 128M /tmp/demo.img && \
		veneer run --cpus 2 --memory 512M --disk /tmp/demo.img'

check check-fast: setup-check
	@tests/check $(if $(findstring fast,$@),--fast)

bench: setup-bench build
	@bench/run --build $(BUILD) --json $(BUILD)/bench.json --report $(BUILD)/bench.html; status=$$?; \
		case $$status in 0 | 3) echo "report: $(BUILD)/bench.html" ;; esac; exit $$status

format: setup-check
	@$(SOURCES) -exec clang-format -i {} +

lint: setup-check
	@tests/check --style

clean:
	rm -rf build build-* build*.log

.PHONY: all configure build demo demo-lab check check-fast bench format lint clean
