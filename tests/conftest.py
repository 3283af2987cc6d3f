"""Every test runs on one torch thread: two threads on a busy machine are slower, and sums then depend on the count."""

import torch

torch.set_num_threads(1)
