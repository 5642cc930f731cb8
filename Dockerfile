# The base has to be Debian or of its kind, with a python3 of 3.11 to 3.13. Any builder will do: see `make image`.
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
# As `make release` does: modules that count what they do, the benches' stages, and the modules again by these counts. The
# virtual environment that goes into the image gets no pip: a second one installs into it. Symbols for a debugger, and
# what other packages' wheels carry of their sources and tests, are a third of its size and run nothing.
RUN python3 -m venv /opt/pip \
    && python3 -m venv --without-pip /opt/audito \
    && AUDITO_PROFILE=collect /opt/pip/bin/pip wheel --no-cache-dir --use-pep517 --wheel-dir /wheels . \
    && /opt/pip/bin/pip --python /opt/audito/bin/python install --no-cache-dir --no-index --find-links /wheels audito \
    && mkdir /train && cp -r benchmarks /train \
    && (cd /train && /opt/audito/bin/python -m benchmarks.stages --size gate --runs 3) \
    && AUDITO_PROFILE=use /opt/pip/bin/pip wheel --no-cache-dir --use-pep517 --no-deps --wheel-dir /wheels . \
    && /opt/pip/bin/pip --python /opt/audito/bin/python install --no-cache-dir --no-index --no-deps --force-reinstall \
        --find-links /wheels audito \
    && find /opt/audito -name '*.so' -exec strip --strip-unneeded {} + \
    && find /opt/audito -type f \( -name '*.pyx' -o -name '*.pxd' -o -name '*.pyi' -o -name '*.[ch]' \) -delete \
    && find /opt/audito -depth -type d \( -name test -o -name tests \) -exec rm -rf {} + \
    && install -m 0644 deploy/image/healthcheck.py /opt/audito/healthcheck.py
# Bytecode that asks for no times of its sources: those change on the way into a layer, and a pod cannot write it anew.
RUN /opt/audito/bin/python -m compileall -q -f --invalidation-mode unchecked-hash /opt/audito

FROM ${BASE}
LABEL org.opencontainers.image.title="audito" \
    org.opencontainers.image.description="Watches OpenSSH logins and writes audit events of what was done in them" \
    org.opencontainers.image.licenses="Apache-2.0"
# systemd.journal imports uuid: python3-minimal is not enough. The number of the user is that of distroless images:
# the pipes that their init containers make are then ours to open, and a pod with runAsNonRoot takes a number only.
# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends libsystemd0 python3 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/log/apt /var/log/dpkg.log \
    && groupadd --gid 65532 audito \
    && useradd --uid 65532 --gid 65532 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin audito \
    && install -d -m 0700 -o audito -g audito /run/audito-maldito
COPY --from=build /opt/audito /opt/audito
# A daemon in a container says how it is; --healthz=false is stronger than this.
ENV AUDITO_HEALTHZ=true PYTHONDONTWRITEBYTECODE=1
# Reading auditd's directory and the journal takes --user 0 with CAP_DAC_READ_SEARCH; pipes and saved logs take neither.
USER 65532:65532
EXPOSE 2112
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["/opt/audito/bin/python", "/opt/audito/healthcheck.py"]
ENTRYPOINT ["/opt/audito/bin/audito"]
