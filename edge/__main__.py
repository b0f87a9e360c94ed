"""``python -m edge``: serve the edge."""

from edge.app import main

if __name__ == "__main__":
    main()
