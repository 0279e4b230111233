"""The statistics of batch normalisation: measured, inspected, repaired, adopted in training (Algorithm 2 of
1502.03167). Imports `evaluation`, `reports` and below; training and commands come here.
"""
