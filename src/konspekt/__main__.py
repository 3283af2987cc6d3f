"""`python -m konspekt` is the `konspekt` command."""

from konspekt.cli.app import main

if __name__ == "__main__":
    main()
