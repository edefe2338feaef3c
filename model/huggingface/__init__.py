"""Doors to Hugging Face: folders of BERT, RoBERTa, DistilBERT and GPT-2, read into our model and written from it.

`layouts.py` has the names as tables, `convert.py` turns configs and tensors, `folder.py` does the files.
"""

from model.huggingface.convert import layout_of
from model.huggingface.folder import read_config, read_tensors, write_folder
from model.huggingface.layouts import LAYOUTS

__all__ = ["LAYOUTS", "layout_of", "read_config", "read_tensors", "write_folder"]
