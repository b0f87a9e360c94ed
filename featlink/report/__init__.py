"""What a sweep's results say: tables beside the paper's, curves, gallery; as HTML, Markdown, in a terminal."""
