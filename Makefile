# What is done often, by name. `make help` lists it.
PYTHON ?= python3
export ENGINE_CUDA_ARCHS ?= compute_80,sm_90

help: ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

check: ## What every commit must pass
	.ci/run

test: ## All tests that need neither nvcc nor a GPU
	cargo test

# Zig's linker makes what runs with an older glibc than this machine's.
PORTABLE := $(if $(filter Linux,$(shell uname)),--zig --compatibility manylinux2014)

wheel: ## The Python package into dist/ (needs maturin, and on Linux ziglang, both from pip)
	maturin build --profile dist --locked $(PORTABLE) --manifest-path python/Cargo.toml --out dist

python: wheel ## Lints and tests of the Python package, in a virtual environment of its own
	cargo clippy -p engine-mvs-python -- -D warnings
	$(PYTHON) -m venv target/python
	target/python/bin/pip install --quiet --force-reinstall "$$(ls -t dist/engine_mvs-*.whl | head -1)[test]"
	target/python/bin/python -m pytest python/tests

site: ## The pages as a site, target/site/index.html (needs mdBook: cargo install mdbook)
	mdbook build docs

nvcc: ## CUDA's compiler from PyPI into .cuda
	tools/get_nvcc.sh

gpu: nvcc ## The program with the GPU in it
	cargo build --release --features cuda

test-cuda: nvcc ## A build with CUDA on a machine without a GPU: what it says, and that auto goes on (two minutes to build)
	cargo test --features cuda --test device_option

ptx: nvcc ## Every night: all kernels and networks on the interpreter of PTX, as embedded and with all roundings apart
	ENGINE_REQUIRE_NVCC=1 ENGINE_REQUIRE_EMULATOR=1 ENGINE_TEST_DEVICE=ptx ENGINE_PTX_FIGURES=target/ptx-figures.txt \
		cargo test --release --test cuda --test cuda_network
	ENGINE_REQUIRE_NVCC=1 ENGINE_REQUIRE_EMULATOR=1 ENGINE_TEST_DEVICE=ptx-apart cargo test --release --test cuda
	ENGINE_REQUIRE_EMULATOR=1 ENGINE_CUDA_ALL=1 cargo test --release --test cuda_network
	ENGINE_REQUIRE_NVCC=1 ENGINE_KERNELS_ALL=1 cargo test --release --test kernel_budget

mpi: ## Every night: training in several processes (needs an MPI library, mpirun and libclang)
	cargo test --features mpi --test mpi

# Debian 12's libheif is too old; the crate brings one then.
HEIF = $(shell pkg-config --atleast-version=1.17 libheif && echo heif || echo heif-embedded)

photo-formats: ## HEIC, AVIF and JPEG XL (needs libheif, or CMake, libde265 and dav1d or aom to compile it)
	cargo test --features jxl,$(HEIF) --test photo_formats
	cargo clippy --lib --bins --test photo_formats --features jxl,$(HEIF) -- -D warnings

object-store: ## Every night: jobs in object stores, against moto's S3 server (a virtual environment of its own)
	$(PYTHON) -m venv target/moto
	target/moto/bin/pip install --quiet 'moto[server]'
	PATH="$(CURDIR)/target/moto/bin:$$PATH" ENGINE_REQUIRE_S3=1 cargo test --features object-store --test remote

driver: nvcc ## Every night: the program on a stand-in for CUDA's driver, all runs, orders and mistakes
	ENGINE_DRIVER_ALL=1 ENGINE_REQUIRE_EMULATOR=1 cargo test --features cuda --test driver

kernels: nvcc ## Registers and shared memory of every kernel into kernels/BUDGET.txt, counts of instructions into docs
	ENGINE_UPDATE_BUDGET=1 cargo test --release --test kernel_budget

gpu-build: nvcc ## Test and bench binaries for gpu-check, into gpu/
	tools/gpu_check.sh build

gpu-check: ## Everything that needs a GPU, with the binaries of gpu-build: tests, sanitizer, Table III and its peer
	tools/gpu_check.sh run

gpu-rehearsal: nvcc ## Every night: gpu-check on the stand-in for CUDA's driver, every size tiny
	tools/gpu_check.sh rehearse

report-check: ## Every night: reports in a headless Chromium, one of five million points among them
	ENGINE_REQUIRE_BROWSER=1 ENGINE_FLUENT_POINTS=5000000 cargo test --release --test report

pages: ## Every night: every command in the pages, each page in a folder of its own
	ENGINE_TEST_PAGES=1 cargo test --release --test pages

large: ## Every night: plans, records and status of a million views (2 GB of memory, a million files)
	ENGINE_TEST_LARGE=1 cargo test --release --test shards large

sass: nvcc ## Machine code of one kernel file for Hopper: make sass K=sweep
	.cuda/nvidia/cu13/bin/nvcc -std=c++17 -O3 -cubin -arch=sm_90 -I kernels kernels/$(K).cu -o target/$(K).cubin
	.cuda/nvdisasm -c target/$(K).cubin

.PHONY: help check test wheel python site nvcc gpu test-cuda ptx mpi photo-formats object-store driver kernels \
	gpu-build gpu-check gpu-rehearsal report-check pages large sass
