"""Steps for Featlink, one a module."""
