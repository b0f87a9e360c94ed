"""The commands of ``featlink``, a file each. They import what is slow when they run, so that ``--help`` is quick."""
