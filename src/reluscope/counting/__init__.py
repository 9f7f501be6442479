"""Counts every activation pattern of every layer: `count_patterns`.

`count` drives the network, batch by batch as `passes` makes them, after `inputs` has looked at what is given; `layers`
takes what each layer shows, `layout` and `rows` tell which positions are whose, and `randomness` what was drawn;
`layer_list` lists the layers without counting. An engine counts one layer, and `engines` lists them: `oracle` in plain
NumPy, slow and obvious; `compiled` for the CPU, with its kernel in `packing` and its threads in `team`;
`triton_kernels` for a GPU; `device` for any torch device. The fast ones share `sorted_counts`.
"""

from reluscope.counting.count import count_patterns

__all__ = ["count_patterns"]
