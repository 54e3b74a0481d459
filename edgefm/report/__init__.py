"""What was found, as pages that people read: one HTML file and one of Markdown. Not the finding (`verify/`, `bench/`)."""
