"""All that a training needs to go on after any step as if it had never stopped, and when it is saved. Imports the
callbacks, `run_folder` and `program`; training comes here.
"""
