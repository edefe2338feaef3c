#!/bin/sh
# Run by `bentoml containerize` within the image, as root: the volume for all state, as in the Dockerfile.
set -eu
install -d -o bentoml -g bentoml /state /state/tmp
rm -rf /var/lib/apt/lists/*
