"""Figures of other people, each with the text it was read in."""
