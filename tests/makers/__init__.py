"""What makes the tests' inputs: files, folders, data sets and runs."""
