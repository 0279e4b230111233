"""The papers' experiments, scaled to one machine, and comparisons of networks: many trainings, one report. Imports
`training` and all below; commands and notebooks come here.
"""
