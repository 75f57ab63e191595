"""One format of data a file: folders, tables, NPZ, IDX, TFDS."""
