"""Fine-tuning jobs: `store` is the truth, `worker` runs them in its own process, `supervisor` keeps that alive."""
