"""Network service v2.0 with a Linux data plane."""
