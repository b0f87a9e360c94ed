"""Reports on a sweep: tables beside the paper's, curves, gallery; as HTML, Markdown, or in a terminal."""
