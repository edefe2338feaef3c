"""HTTP, jobs and the inference engine. Imports `model`; only the job worker and the command line import `training`."""

VERSION = "0.1.0"  # as in pyproject.toml; a bento has no installed package to ask
