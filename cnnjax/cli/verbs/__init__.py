"""The verbs of the command `cnnjax`, in files by theme: each a dataclass that is a `Verb`."""
