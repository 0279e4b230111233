"""Pages that open without a server: one file, everything inside."""
