"""Things of every kind, with masks by a second teacher, where no label is.

Named after the field's "things": what is countable and has a border of its own.
"""
