"""Data sets whose images are files: folders, manifests, ImageNet's validation images, and how they are divided. Imports
`datasets` and below; only `loading` and `checks` come here.
"""
