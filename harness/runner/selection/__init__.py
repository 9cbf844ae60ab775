"""Which tests a run has: files, discovery, `-k`, PyTorch's lists, shards."""
