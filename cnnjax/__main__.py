"""`python -m cnnjax`: the commands, where the script `cnnjax` is not on the path."""

from cnnjax.cli import main

if __name__ == "__main__":
    main()
