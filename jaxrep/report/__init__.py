"""From tidy tables and figure specifications to the page, its files and CSV."""
