"""``python -m featlink.edge``: serve the edge."""

from featlink.shared.errors import required

if __name__ == "__main__":
    with required("edge"):
        from featlink.edge.app import main

        main()
