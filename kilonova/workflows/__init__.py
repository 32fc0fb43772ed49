"""Durable work: the saga engine, the sagas and their steps, and what owns the rest."""
