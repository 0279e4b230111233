"""The recipes that come with the program, one file each: `RECIPE`, and in the docstring the command that uses it."""
