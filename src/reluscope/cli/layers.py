"""`reluscope layers`: which layers of a network are counted, and what is not."""

from __future__ import annotations

import argparse

from reluscope.cli import network

HELP = "list the layers of a network, and what is not counted"

DESCRIPTION = """List the layers that a count of the network would hold, and all else that has the shape of an
activation, with the reason why it is not counted. One batch of images passes through the network as it is built,
without any checkpoint."""

EXAMPLES = """examples:
  reluscope layers --network torchvision.models:resnet18 --argument num_classes=10 --data images.npz
  reluscope layers --network my_networks:encoder --data my_data:Tokens --signs --exclude "head.*"
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments."""
    network.configure(parser)
    network.configure_choice(parser)


def run(options: argparse.Namespace) -> int:
    """Lists the layers; the exit status."""
    from reluscope.data import DataSpec, load
    from reluscope.networks import network_of
    from reluscope.networks.names import network_from_config

    spec = network_from_config(network.network_of(options))
    dataset = load(DataSpec.from_config(network.data_of(options)))

    from reluscope.counting.layer_list import layers
    from reluscope.networks.imported import require_forward

    images = dataset.train
    built = network_of(spec, images.shape[0], dataset.num_classes or 1)
    if "import" in spec:
        require_forward(spec["import"], built, images[:2])
    print(layers(built, images, options.batch_size, **network.choice_of(options)))
    return 0
