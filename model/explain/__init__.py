"""Ways to look inside a model: each module is one method. `attention.py` is the first."""
