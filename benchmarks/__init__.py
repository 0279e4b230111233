"""Side-by-side measurements; each prints a table of ratios and the limit of the machine."""
