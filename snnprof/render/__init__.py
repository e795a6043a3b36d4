"""Results as tables: terminal, Markdown, CSV, LaTeX, JSON."""
