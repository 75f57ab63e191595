"""Data that other libraries hold: by random access, and as streams of batches."""
