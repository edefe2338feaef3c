"""Ways to look inside a model: each module is one method, or one thing that several of them share."""
