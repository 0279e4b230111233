"""Where a training runs: devices of this host, and other hosts. Imports `batch_norm`, `pipeline` and below; training
and its command come here.
"""
