"""`python -m cnnjax.cli` is the `cnnjax` command."""

from cnnjax.cli import main

if __name__ == "__main__":
    main()
