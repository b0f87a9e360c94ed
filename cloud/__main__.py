"""``python -m cloud``: serve the cloud."""

from cloud.app import main

if __name__ == "__main__":
    main()
