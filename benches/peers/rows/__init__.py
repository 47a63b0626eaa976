"""The rows of the comparison: one file each, found by name."""
