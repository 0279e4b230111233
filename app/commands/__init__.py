"""The command line, a module for each group of commands: plain functions that parse, call one function of a room and
print. Nothing that a notebook would want lives here. Imports all rooms; only `__main__`, which registers the commands,
comes in.
"""
