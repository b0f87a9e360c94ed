"""``python -m featlink``: the command line."""

from featlink.cli import main

if __name__ == "__main__":
    main()
