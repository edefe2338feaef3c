"""HTTP, jobs and the inference engine. Imports `model`; only the job worker and the command line import `training`."""
