"""`python -m discern`: the command line."""

from discern.cli.main import main

if __name__ == "__main__":
    main()
