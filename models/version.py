"""The version of the package, which an artefact records beside its network."""

__version__ = "0.1.0"
