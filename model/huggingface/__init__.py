"""Doors to Hugging Face: folders of BERT, RoBERTa, DistilBERT and GPT-2, read into our model and written from it.

`layouts.py` has the names as tables, `configs.py` what a folder describes, `convert.py` turns tensors, `folder.py`
reads and writes weights. Nothing is imported here, since `configs.py` is used where torch is not.
"""
