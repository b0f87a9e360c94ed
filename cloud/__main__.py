"""``python -m featlink.cloud``: serve the cloud."""

from featlink.shared.errors import required

if __name__ == "__main__":
    with required("cloud"):
        from featlink.cloud.app import main

        main()
