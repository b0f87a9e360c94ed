"""The commands of ``featlink``, one file each. They import slow packages only when they run, so ``--help`` is quick."""
