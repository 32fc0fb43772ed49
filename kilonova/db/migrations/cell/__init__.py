"""History of a cell's database."""
