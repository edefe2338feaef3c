# Vitrine in a container. State lies in the volume /state; the base model is fetched there at the first start. Runs as a
# user without rights, on a root file system that may be read-only when /tmp is writable; uploads pass through /state/tmp, so
# that /tmp may be memory.
#   docker build -t vitrine .                                                               for GPU hosts
#   docker build -t vitrine:cpu --build-arg BASE=debian:12-slim --build-arg TORCH_INDEX=YOUR_CPU_INDEX .  without GPUs
#   docker run --gpus all --read-only --tmpfs /tmp -p 127.0.0.1:3000:3000 -v vitrine-state:/state vitrine
# Images are pinned by tag; pin them by digest where you build (a digest must be read from a registry).

# The base image, not the larger runtime one: the torch wheel brings its own CUDA libraries.
ARG BASE=nvidia/cuda:12.8.1-base-ubuntu24.04

# The page is bundled by Node, of which nothing stays.
FROM node:24-slim AS page
COPY service/ui /page
RUN sh /page/npm.sh python3 ci --omit=dev && sh /page/npm.sh python3 run build

# What we depend on, gigabytes: this layer changes with the list of dependencies alone.
FROM ${BASE} AS packages
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/vitrine/venv
ENV PATH=/opt/vitrine/venv/bin:$PATH
WORKDIR /opt/vitrine/source
COPY pyproject.toml constraints.txt README.md LICENSE ./
# Where PyTorch keeps its CPU builds; empty: the default index, whose build knows CUDA.
ARG TORCH_INDEX=
RUN if [ -n "$TORCH_INDEX" ]; then \
        pip install --no-cache-dir --no-deps --constraint constraints.txt --index-url "$TORCH_INDEX" torch; \
    fi
# What several hosts need, and who traces; add ray to train on a cluster. Without its code our package is what it depends on.
ARG EXTRAS=postgresql,s3,traces
RUN pip install --no-cache-dir --constraint constraints.txt ".[$EXTRAS]" && pip uninstall -y vitrine

FROM packages AS wheel
COPY model model
COPY training training
COPY service service
COPY --from=page /page/static service/ui/static
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheel .

FROM ${BASE}
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libfribidi0 python3 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --system --gid 10001 vitrine \
    && useradd --system --create-home --uid 10001 --gid vitrine vitrine \
    && install -d -o vitrine -g vitrine /state /state/tmp
COPY --from=packages /opt/vitrine/venv /opt/vitrine/venv
ENV PATH=/opt/vitrine/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    OMP_WAIT_POLICY=PASSIVE \
    HF_HOME=/state/cache/huggingface \
    TMPDIR=/state/tmp \
    VITRINE_HOME=/state \
    VITRINE_FIRST_KEY_OWNER=admin
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel pip install --no-cache-dir --no-deps /wheel/*.whl
USER 10001:10001
WORKDIR /state
VOLUME /state
EXPOSE 3000
HEALTHCHECK --interval=15s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:3000/readyz', timeout=4)"]
CMD ["sh", "-c", "vitrine setup && exec vitrine serve --host 0.0.0.0 --port 3000"]
