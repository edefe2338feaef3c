# Vitrine for GPU hosts. State lies in the volume /state; the base model is fetched there at the first start.
#   docker build -t vitrine .
#   docker run --gpus all -p 127.0.0.1:3000:3000 -v vitrine-state:/state vitrine
# The page is bundled by Node, of which nothing stays.
FROM node:24-slim AS page
COPY service/ui /page
RUN sh /page/npm.sh python3 ci --omit=dev && sh /page/npm.sh python3 run build

# The base image, not the larger runtime one: the torch wheel brings its own CUDA libraries.
FROM nvidia/cuda:12.8.1-base-ubuntu24.04 AS build
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/vitrine/venv
WORKDIR /opt/vitrine/source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY model model
COPY training training
COPY service service
COPY --from=page /page/static service/ui/static
# What several hosts need; add ray to train on a cluster.
ARG EXTRAS=postgresql,s3
RUN /opt/vitrine/venv/bin/pip install --no-cache-dir --constraint constraints.txt ".[$EXTRAS]"

FROM nvidia/cuda:12.8.1-base-ubuntu24.04
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libfribidi0 python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --create-home --uid 10001 vitrine \
    && install -d -o vitrine -g vitrine /state
COPY --from=build /opt/vitrine/venv /opt/vitrine/venv
ENV PATH=/opt/vitrine/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    OMP_WAIT_POLICY=PASSIVE \
    VITRINE_HOME=/state \
    VITRINE_FIRST_KEY_OWNER=admin
USER 10001
WORKDIR /state
VOLUME /state
EXPOSE 3000
HEALTHCHECK --interval=15s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:3000/readyz', timeout=4)"]
CMD ["sh", "-c", "vitrine setup && exec vitrine serve --host 0.0.0.0 --port 3000"]
