"""The states that jobs and batches go through. Used by the stores and what shows them."""

STATES = ("validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled")
WAITING_STATES = ("validating_files", "queued")
WORKED_STATES = (*WAITING_STATES, "running")  # a worker may hold the job
OPEN_STATES = (*WORKED_STATES, "paused")
OPEN_BATCHES = ("validating", "in_progress", "finalizing", "cancelling")
