"""Choosing hosts: placement candidates, filters, weighers, with the reasons for those left out."""
