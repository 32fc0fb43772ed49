"""Durable work: the saga engine, sagas, their steps, reconcilers."""
