"""``featlink`` and ``python -m featlink``: the command line."""

from featlink.shared.errors import required


def main() -> None:
    """Run the command that the arguments name."""
    with required("featlink"):
        from featlink.cli import main as run

        run()


if __name__ == "__main__":
    main()
