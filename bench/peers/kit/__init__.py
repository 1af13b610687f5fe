"""What `bench/peers/run` is made of; Python's standard library and nothing else."""
