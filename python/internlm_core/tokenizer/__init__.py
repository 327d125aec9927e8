"""Tokenizers: load, encode, decode, train; and token shards."""
