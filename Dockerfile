# syntax=docker/dockerfile:1
# The environment of Ratchet for work pools of type docker and kubernetes. A workspace (its code, data, models and DVC's cache) is mounted at
# /workspace: the graph's code is part of what DVC tracks, and stays where the data are.
#
#   docker build --tag ratchet .
#   docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/workspace" ratchet ratchet plan

# By digest, since a tag can be moved: this is 3.11.16, by public files, not pulled where this was written. `docker buildx imagetools inspect python:3.11-slim-bookworm` prints that
# of today, and `--build-arg PYTHON=python:3.11-slim-bookworm@sha256:…` builds from that one.
ARG PYTHON=python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b
FROM ${PYTHON} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/ratchet
ENV PATH="/opt/ratchet/bin:$PATH"
# pip reads it: `--build-arg PIP_EXTRA_INDEX_URL=…` with torch's own index for CPUs leaves out the libraries of CUDA, several gigabytes.
ARG PIP_EXTRA_INDEX_URL
WORKDIR /build
COPY deploy/image deploy/image
# Each file by its SHA-256; `deploy/image/lock.sh` writes the lists, also with other extras. torch's differs by platform and index.
RUN pip install --require-hashes --no-deps --requirement deploy/image/build.txt \
    && pip install --require-hashes --no-deps --no-build-isolation --requirement deploy/image/packages.txt
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN pip install --constraint constraints.txt torch
COPY flows flows
COPY tasks tasks
RUN pip install --no-deps --no-build-isolation .
# The list of what was installed, in CycloneDX and checked against its schema, by a tool in an environment of its own.
RUN python -m venv /opt/sbom \
    && /opt/sbom/bin/pip install --require-hashes --no-deps --requirement deploy/image/sbom.txt \
    && /opt/sbom/bin/cyclonedx-py environment --output-format JSON --output-reproducible --output-file /opt/ratchet/sbom.cdx.json /opt/ratchet/bin/python

FROM ${PYTHON}
# git: DVC and the provenance of a run ask it. libgomp1: OpenMP of torch and faiss. bubblewrap: a second wall of the sandbox.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends bubblewrap git libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 ratchet \
    && git config --system --add safe.directory /workspace
COPY --from=build /opt/ratchet /opt/ratchet
# The code of the mounted workspace comes before that of the image.
ENV PATH="/opt/ratchet/bin:$PATH" PYTHONPATH=/workspace PYTHONUNBUFFERED=1 HOME=/tmp
USER ratchet
WORKDIR /workspace
# The environment, not a server: containers of compose.yaml that serve something have their own.
HEALTHCHECK --interval=60s --timeout=30s --start-period=30s CMD ["ratchet", "--help"]
CMD ["ratchet", "doctor"]
