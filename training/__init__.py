"""Data to checkpoint. Imports `model`, never `service`."""
