"""``python -m featlink.page``: the page with settings from ``FEATLINK_*``."""

from featlink.page.serve import main

if __name__ == "__main__":
    main()
