"""``python -m edge``: serve the edge."""

from shared.requirements import required

if __name__ == "__main__":
    with required("edge"):
        from edge.app import main

        main()
