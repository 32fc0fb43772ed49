"""A walk through every action of the Compute API at every microversion, recorded for the judge.

``python -m tests.live.judges.walk CLOUD FILE [PART...]`` against a running cloud of fake hosts:
every exchange becomes a line of ``FILE``; what was not answered as wanted is printed as JSON.
"""
