"""The whole chain on text found on this machine."""
