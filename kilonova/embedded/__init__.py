"""The embedded services: identity, image, network."""
