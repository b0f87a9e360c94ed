"""``python -m featlink.channel``: serve the channel."""

from featlink.shared.errors import required

if __name__ == "__main__":
    with required("channel"):
        from featlink.channel.app import main

        main()
