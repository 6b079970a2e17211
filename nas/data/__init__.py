"""Text and vocabulary that ship with the package, so that a first search needs no network."""
