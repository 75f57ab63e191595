"""What every room stands on: text for people, files that can be trusted to be files."""
