"""A walk through every action of the Compute API at every microversion, recorded for the judge."""
