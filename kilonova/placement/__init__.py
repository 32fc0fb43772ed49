"""The Placement service: providers, inventories, allocations and the search for candidates."""
