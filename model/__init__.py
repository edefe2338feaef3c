"""The Transformer, from its parts, and the means to see inside it.

Imports torch, safetensors and tokenizers; never `training` or `service`.
"""
