"""What happens beside the steps of a training, as Keras callbacks. Imports `batch_norm`, `reports` and below; training
and its checkpoints come here.
"""
