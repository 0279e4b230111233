"""Looking into a trained network: explanations, activations, dreams. Imports `datasets`, `run_folder`, `networks` and
below; commands and notebooks come here.
"""
