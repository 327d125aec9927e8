"""Conversations rendered as segments of token ids."""
