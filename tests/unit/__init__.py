"""One module or one rule at a time."""
