"""Requests to batches to results: `queue` decides, `runner` computes, `engine` joins them."""
