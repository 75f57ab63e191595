"""The recipes that come with the package, one a file: its options and its experiment."""
