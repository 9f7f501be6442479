"""The stages of the pipeline, one a file: each turns the names of stores into calls of the rooms below.

`gpus`, `measuring` and `drawing` never import torch.
"""
