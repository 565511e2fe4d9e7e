"""Reading and splitting ratings: a file per source, one table type, one validation. It knows no trainers."""
