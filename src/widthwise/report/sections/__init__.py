"""The sections of a report: one file each, with one function ``section(context) -> Section``."""
