"""Tables of compute: the API database, and a cell's database."""
