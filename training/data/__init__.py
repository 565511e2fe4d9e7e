"""Reading ratings: one file per source, one table type, validation that every source passes through."""
