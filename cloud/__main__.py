"""``python -m cloud``: serve the cloud."""

from shared.requirements import required

if __name__ == "__main__":
    with required("cloud"):
        from cloud.app import main

        main()
