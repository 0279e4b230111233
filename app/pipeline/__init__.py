"""Batches for a network from encoded images: decoded, augmented, mixed, cropped, held. Imports `datasets`, `images` and
`recipe`; evaluation, batch norm and training come here.
"""
