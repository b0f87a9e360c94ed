"""``python -m channel``: serve the channel."""

from channel.app import main

if __name__ == "__main__":
    main()
