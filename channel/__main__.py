"""``python -m channel``: serve the channel."""

from shared.requirements import required

if __name__ == "__main__":
    with required("channel"):
        from channel.app import main

        main()
