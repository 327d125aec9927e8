"""Peers with an environment of their own: no import but the standard library's at the top."""
