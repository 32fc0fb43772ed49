"""Reconcilers: what no saga owns is put right again and again, without input."""
