"""The ``nas`` command, one file per verb."""
