//! Byte-pair encoding: vocabularies, encoding, decoding and training.
