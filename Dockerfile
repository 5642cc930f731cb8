# The base has to be Debian or of its kind, with a python3 of 3.11 to 3.13.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# Versions are not pinned (DL3008): the base names the distribution, and its archive drops a version with the next fix.
# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        ca-certificates gcc libc6-dev libsystemd-dev pkg-config python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# The virtual environment that goes into the image gets no pip: a second one installs into it.
RUN python3 -m venv /opt/pip \
    && python3 -m venv --without-pip /opt/audito \
    && /opt/pip/bin/pip wheel --no-cache-dir --use-pep517 --wheel-dir /wheels . \
    && /opt/pip/bin/pip --python /opt/audito/bin/python install --no-cache-dir --no-index --find-links /wheels audito

FROM ${BASE}
# systemd.journal imports uuid: python3-minimal is not enough.
# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends libsystemd0 python3 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/audito /opt/audito
ENTRYPOINT ["/opt/audito/bin/audito"]
