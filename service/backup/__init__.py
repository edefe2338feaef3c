"""The state of a service as one file: `archive.py` says what it has, `write.py` makes it, `restore.py` takes it in."""
