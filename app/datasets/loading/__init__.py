"""A data set by its name, by the run that was trained on it, or those images of it that no network has seen. Imports
the other rooms of `datasets` but `checks`, and `run_folder`; whoever wants images comes here.
"""

from app.datasets.loading.named import listing, load, of_run, report_data

__all__ = ["listing", "load", "of_run", "report_data"]
