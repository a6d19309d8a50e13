"""The page that recognises emotions in the browser: its files, and what Python tells it."""
