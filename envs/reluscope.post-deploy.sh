# Run by Snakemake in the working directory, the root of the clone, after it has made the environment.
set -e
pip install -e . -c envs/constraints.txt
